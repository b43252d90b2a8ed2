"""A session that is ended elsewhere: each of its pages leaves by itself, and each of its connections ends."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from tests.browser.everywhere.people import program_of_spa, sign_in_to_spa

if TYPE_CHECKING:
    from tests.servers.app import AppServer
    from tests.servers.webdriver.driver import Driver

# Opens both kinds of connections, and notes how they end.
CONNECT = """
    window.ended = {};
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/api/live");
    socket.onclose = ({ code, reason }) => { ended.socket = [code, reason]; };
    const stream = new EventSource("/session/events");
    stream.addEventListener("session_ended", ({ data }) => {
        stream.close();
        ended.stream = JSON.parse(data).code;
    });
    await Promise.all([
        new Promise((opened) => { socket.onmessage = opened; }),
        new Promise((opened) => stream.addEventListener("session_live", opened)),
    ]);
"""


def test_a_websocket_and_an_event_stream_end_with_the_session(device: Driver, spa: AppServer) -> None:
    ada = f"ada{uuid4().hex}"
    sign_in_to_spa(device, spa.url, ada)
    device.go(f"{spa.url}/empty")
    device.run(CONNECT)
    program_of_spa(spa.url, ada).end_the_others()
    device.until(lambda: len(device.run("return ended")) == 2, "both connections end")
    assert device.run("return ended") == {"socket": [4401, "invalid_token"], "stream": "invalid_token"}
