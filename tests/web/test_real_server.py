"""The middleware behind uvicorn: what really comes over the wire, with each HTTP parser it finds."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import pytest
import uvicorn
import websockets
from fastapi import FastAPI, WebSocket

from coatcheck.web import SessionMiddleware
from coatcheck.web.fastapi import SignedIn  # noqa: TC001 (FastAPI reads it)
from tests.web.fakes import SID
from tests.web.malformed import MALFORMED_BEARER, MALFORMED_COOKIE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.web.fakes import FakeAuth, FakeTokenManager

Parser = Literal["h11", "httptools"]


def notes(auth: FakeAuth) -> FastAPI:
    app, mounted = FastAPI(), FastAPI()
    app.add_middleware(SessionMiddleware, auth=auth, cookie=SID)
    app.mount("/v1", mounted)
    for each in (app, mounted):

        @each.get("/profile")
        async def profile(user: SignedIn) -> str:
            return user.user_identifier

        @each.websocket("/live")
        async def live(connection: WebSocket, user: SignedIn) -> None:
            await connection.accept()
            await connection.send_text(user.user_identifier)
            await connection.close()

    return app


@asynccontextmanager
async def serving(app: FastAPI, parser: Parser) -> AsyncIterator[int]:
    """Serve on a free port of the loopback."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=parser, ws="websockets-sansio", log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running


PARSERS = ["h11", "httptools"] if find_spec("httptools") else ["h11"]


@pytest.fixture(params=PARSERS)
async def port(request: pytest.FixtureRequest, auth: FakeAuth) -> AsyncIterator[int]:
    async with serving(notes(auth), request.param) as port:
        yield port


async def exchange(port: int, *lines: bytes, path: bytes = b"/profile") -> tuple[int, bytes]:
    """Send header lines exactly as they are; the status and the whole response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [b"GET " + path + b" HTTP/1.1", b"Host: notes.example", *lines, b"Connection: close", b"", b""]
    writer.write(b"\r\n".join(head))
    try:
        response = await reader.read()
    except ConnectionResetError:  # uvicorn answers an endless header and hangs up while we are still sending
        response = b"HTTP/1.1 400 Bad Request"
    finally:
        writer.close()
    return int(response.split(b" ", 2)[1]) if response else 400, response


async def test_a_valid_token_is_let_in(port: int, manager: FakeTokenManager) -> None:
    token = manager.sign_in("ann").encode()
    for line in (
        b"authorization: bearer " + token,
        b"Authorization:Bearer " + token,
        b"Cookie: a=b; __Host-sid=" + token,
    ):
        status, response = await exchange(port, line)
        assert (status, response.endswith(b'"ann"')) == (200, True)
        assert b"cache-control: no-store" in response


async def test_malformed_tokens_are_refused_unread(port: int, manager: FakeTokenManager) -> None:
    """401, or the server's own 400 for what is no HTTP."""
    for name, value in MALFORMED_BEARER.items():
        if value.endswith(b" ") or b"\n" in value:  # where a value ends is up to the HTTP parser
            continue
        status, _ = await exchange(port, b"Authorization: " + value)
        assert status in {400, 401}, name
    assert manager.reads == 0


async def test_malformed_cookies_are_refused_unread(port: int, manager: FakeTokenManager) -> None:
    for name, value in MALFORMED_COOKIE.items():
        status, _ = await exchange(port, b"Cookie: " + value)
        assert status in {400, 401, 431}, name
    assert manager.reads == 0


async def test_two_headers_are_refused_unread(port: int, manager: FakeTokenManager) -> None:
    line = b"Authorization: Bearer " + manager.sign_in().encode()
    status, response = await exchange(port, line, line)
    assert status == 401
    assert b'www-authenticate: Bearer realm="session", error="invalid_token"' in response
    assert manager.reads == 0


async def test_down_is_not_signed_out(port: int, manager: FakeTokenManager) -> None:
    token = manager.sign_in().encode()
    manager.is_down = True
    for path in (b"/profile", b"/v1/profile"):
        status, response = await exchange(port, b"Authorization: Bearer " + token, path=path)
        assert status == 503
        assert b"retry-after: " in response
        assert b"www-authenticate" not in response


async def test_a_mounted_application_is_refused_in_whole(port: int) -> None:
    status, response = await exchange(port, path=b"/v1/profile")
    assert status == 401
    assert json.loads(response.partition(b"\r\n\r\n")[2])["code"] == "authentication_required"


@pytest.mark.parametrize("path", ["live", "v1/live"])
async def test_a_websocket_is_let_in_or_denied(port: int, manager: FakeTokenManager, path: str) -> None:
    token = manager.sign_in("ann")
    url = f"ws://127.0.0.1:{port}/{path}"
    async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as live:
        assert await live.recv() == "ann"
    async with websockets.connect(url, additional_headers={"Cookie": f"__Host-sid={token}"}) as live:
        assert await live.recv() == "ann"
    with pytest.raises(websockets.InvalidStatus) as denied:
        await websockets.connect(url)
    response = denied.value.response
    assert (response.status_code, json.loads(response.body)["code"]) == (401, "authentication_required")
    assert response.headers["www-authenticate"] == 'Bearer realm="session"'
    manager.is_down = True
    with pytest.raises(websockets.InvalidStatus) as denied:
        await websockets.connect(url, additional_headers={"Authorization": f"Bearer {token}"})
    assert denied.value.response.status_code == 503
