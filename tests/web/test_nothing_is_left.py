"""A request leaves nothing for the garbage collector, which stops the whole process when it comes.

A cycle in each request was one response in a hundred 20 ms late.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from coatcheck.errors import AuthorizationError
from coatcheck.tokens import TokenRefusal
from coatcheck.web import SessionCookie, SessionMiddleware, authentication_of, forget_cookie, require, traffic_is_use
from tests.web.asgi_calls import bearer, scope_of
from tests.web.fakes import FakeAuth
from tests.web.live.test_revalidation import Auth
from tests.web.test_frameworks_that_catch import framework

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coatcheck.web.asgi import AsgiApp, AsgiMessage, AsgiScope, Receive, Send

ROUNDS = 10
STRANGER: list[tuple[bytes, bytes]] = []


class ServerSide:
    """A connection as uvicorn has it: one object has its scope and its `send`, so each may refer to the other."""

    def __init__(self, scope: AsgiScope) -> None:
        self.scope = scope
        self.sent: list[AsgiMessage] = []
        self.incoming = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]
        if scope["type"] == "websocket":
            self.incoming = [
                {"type": "websocket.connect"},
                {"type": "websocket.receive", "text": "hello"},
                {"type": "websocket.disconnect", "code": 1000},
            ]

    async def receive(self) -> Any:
        return self.incoming.pop(0)

    async def send(self, message: AsgiMessage) -> None:
        self.sent.append(message)

    async def run(self, app: AsgiApp) -> None:
        await app(self.scope, self.receive, self.send)


@pytest.fixture
def auth() -> Auth:
    return Auth()


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def plain(scope: AsgiScope, receive: Receive, send: Send) -> None:
    require(scope)
    await receive()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})


async def caught(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    """In an application that answers its refusals by itself."""
    try:
        require(scope, "a scope that nobody has")
    except AuthorizationError:
        await send({"type": "http.response.start", "status": 500})
        await send({"type": "http.response.body", "body": b"held back"})


async def refused(scope: AsgiScope) -> bytes:
    return require(scope, "a scope that nobody has").user_identifier.encode()


caught_by_litestar = framework(refused)


async def greeting(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    authentication_of(scope)
    forget_cookie(scope)
    await send({"type": "http.response.start", "status": 500})
    await send({"type": "http.response.body", "body": b"held back"})


async def streaming(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    require(scope)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


async def chatting(scope: AsgiScope, receive: Receive, send: Send) -> None:
    require(scope)
    traffic_is_use(scope)
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": "hello"})


async def open_until_over(scope: AsgiScope, receive: Receive, send: Send) -> None:
    """An application that is left without having ended what it has begun."""
    require(scope)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"1", "more_body": True})
    await receive()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("cookie", [None, SessionCookie()], ids=["header", "cookie"])
@pytest.mark.parametrize(
    ("kind", "app", "headers"),
    [
        ("http", plain, None),
        ("http", caught, None),
        ("http", caught, STRANGER),
        ("http", caught_by_litestar, None),
        ("http", caught_by_litestar, STRANGER),
        ("http", greeting, None),
        ("http", greeting, STRANGER),
        ("http", plain, STRANGER),
        ("http", streaming, None),
        ("http", streaming, [(b"accept", b"text/event-stream")]),
        ("http", open_until_over, None),
        ("websocket", chatting, None),
        ("websocket", chatting, STRANGER),
    ],
)
async def test_a_request_is_freed_without_the_garbage_collector(
    auth: Auth, kind: str, app: AsgiApp, headers: Any, cookie: SessionCookie | None
) -> None:
    wrapped, token = SessionMiddleware(app, auth=auth, cookie=cookie), auth.token_manager.sign_in("ann")
    sent = STRANGER if headers is STRANGER else [*bearer(token), *(headers or [])]

    async def one() -> None:
        await ServerSide(scope_of(kind, headers=sent)).run(wrapped)

    for is_warm in (False, True):
        for _ in range(ROUNDS):
            await asyncio.ensure_future(one())  # in a task of its own, as a server has it
        for _ in range(10):
            await asyncio.sleep(0)  # the looks that were begun
        found = gc.collect()
        assert found == 0 or not is_warm


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("cookie", [None, SessionCookie()], ids=["header", "cookie"])
async def test_a_request_that_nothing_would_watch_over_is_freed_without_it_too(cookie: SessionCookie | None) -> None:
    auth = FakeAuth()
    wrapped, token = SessionMiddleware(plain, auth=auth, cookie=cookie), auth.token_manager.sign_in("ann")
    for is_warm in (False, True):
        for _ in range(ROUNDS):
            await ServerSide(scope_of("http", headers=bearer(token))).run(wrapped)
        found = gc.collect()
        assert found == 0 or not is_warm


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_request_in_an_outage_is_freed_without_it_too(auth: Auth, kind: str) -> None:
    wrapped, token = SessionMiddleware(plain, auth=auth), auth.token_manager.sign_in("ann")
    auth.token_manager.is_down = True
    for is_warm in (False, True):
        for _ in range(ROUNDS):
            await asyncio.ensure_future(ServerSide(scope_of(kind, headers=bearer(token))).run(wrapped))
        found = gc.collect()
        assert found == 0 or not is_warm


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(("kind", "app"), [("http", streaming), ("websocket", chatting)])
async def test_a_connection_that_ends_with_its_session_is_freed_without_it_too(
    auth: Auth, kind: str, app: AsgiApp
) -> None:
    async def ends_first(scope: AsgiScope, receive: Receive, send: Send) -> None:
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await app(scope, receive, send)

    wrapped = SessionMiddleware(ends_first, auth=auth)
    for is_warm in (False, True):
        for _ in range(ROUNDS):
            token = auth.token_manager.sign_in("ann")
            await asyncio.ensure_future(ServerSide(scope_of(kind, headers=bearer(token))).run(wrapped))
        for _ in range(20):
            await asyncio.sleep(0)
        found = gc.collect()
        assert found == 0 or not is_warm
