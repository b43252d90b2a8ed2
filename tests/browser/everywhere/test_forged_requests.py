"""Another origin's page has the browser send requests with the session's cookie: none of them passes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from tests.browser.everywhere.people import program_of_spa, request, shows_the_secret, sign_in_to_spa

if TYPE_CHECKING:
    from tests.servers.app import AppServer
    from tests.servers.origin import Origin
    from tests.servers.webdriver.driver import Driver

# What a page can do to send a request. `arguments[0]` is its target.
SUBMIT = """
    const form = document.body.appendChild(document.createElement("form"));
    Object.assign(form, { method: "post", action: arguments[0] });
    setTimeout(() => form.submit());
"""
POST = """await fetch(arguments[0], { method: "POST", mode: "no-cors", credentials: "include" });"""
POST_JSON = """
    const headers = { "Content-Type": "application/json" };
    await fetch(arguments[0], { method: "POST", headers, credentials: "include" }).catch(() => {});
"""
GET_AS_IMAGE = """
    const image = new Image();
    await new Promise((done) => { image.onload = image.onerror = done; image.src = arguments[0]; });
"""

# What a page can do to read something. `arguments[0]` is our server; the answer is null where nothing could be read.
READS = {
    "a fetch": """
        return fetch(arguments[0] + "/api/secret", { credentials: "include" }).then((a) => a.text(), () => null);
    """,
    "a WebSocket": """
        const socket = new WebSocket(arguments[0].replace("http", "ws") + "/api/live");
        return new Promise((done) => {
            socket.onmessage = ({ data }) => done(data);
            socket.onerror = () => done(null);
        });
    """,
    "an event stream": """
        const stream = new EventSource(arguments[0] + "/session/events", { withCredentials: true });
        return new Promise((done) => {
            stream.addEventListener("session_live", ({ data }) => { stream.close(); done(data); });
            stream.onerror = () => { stream.close(); done(null); };
        });
    """,
}


def places_of(evil: Origin) -> tuple[str, str]:
    """Another port of the same site, to which the browser sends the cookie, and another site."""
    return f"http://127.0.0.1:{evil.port}/", f"http://localhost:{evil.port}/"


def submit(device: Driver, target: str) -> None:
    device.run(SUBMIT, target)
    device.until(lambda: device.url == target, "the form was sent")


def test_nothing_is_changed(device: Driver, spa: AppServer, evil: Origin) -> None:
    def changes() -> int:
        count: int = request("GET", target).json()
        return count

    target = f"{spa.url}/api/changes"
    sign_in_to_spa(device, spa.url, f"ada{uuid4().hex}")
    before = changes()
    for place in (f"{spa.url}/empty", *places_of(evil)):
        device.go(place)
        for script in (POST, POST_JSON, GET_AS_IMAGE):
            device.run(script, target)
        submit(device, target)
        if place == f"{spa.url}/empty":
            assert changes() == before + 3, "our own page may do so, but for the image"
            before += 3
        assert changes() == before, place


def test_nothing_is_read(device: Driver, spa: AppServer, evil: Origin) -> None:
    sign_in_to_spa(device, spa.url, f"ada{uuid4().hex}")
    device.go(f"{spa.url}/empty")
    read = {way: device.run(script, spa.url) for way, script in READS.items()}
    assert all(read.values()), f"our own page may read: {read}"
    for place in places_of(evil):
        device.go(place)
        assert {way: device.run(script, spa.url) for way, script in READS.items()} == dict.fromkeys(READS), place


def test_nobody_is_signed_out(device: Driver, spa: AppServer, evil: Origin) -> None:
    ada = f"ada{uuid4().hex}"
    sign_in_to_spa(device, spa.url, ada)
    program = program_of_spa(spa.url, ada)
    for place in places_of(evil):
        for target in (f"{spa.url}/session/sign-out", f"{spa.url}/session/sign-out-all"):
            device.go(place)
            for script in (POST, POST_JSON, GET_AS_IMAGE):
                device.run(script, target)
            submit(device, target)
            assert len(program.sessions()) == 1, f"{target} from {place}"
    device.go(f"{spa.url}/cookie/app")
    shows_the_secret(device)
