"""The middleware over WebSockets, around a bare ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import AuthenticationRequiredError, InsufficientScopeError, StoreUnavailable
from coatcheck.tokens import TokenRefusal
from coatcheck.web import SessionMiddleware, authentication_of, require
from tests.web.asgi_calls import bearer, websocket
from tests.web.fakes import SID
from tests.web.malformed import MALFORMED_BEARER, MALFORMED_COOKIE, refusal_of

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiApp, AsgiMessage, AsgiScope, Receive, Send
    from tests.web.fakes import FakeAuth, FakeTokenManager


async def protected(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    caller = require(scope, "notes:read")
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": caller.user_identifier})


async def optional(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    caller = authentication_of(scope)
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": caller.user_identifier if caller else "anonymous"})


async def test_a_valid_token_connects(auth: FakeAuth, manager: FakeTokenManager) -> None:
    app = SessionMiddleware(protected, auth=auth, cookie=SID)
    token = manager.sign_in("ann", {"notes:read"})
    for headers in (bearer(token), [(b"cookie", b"__Host-sid=" + token.encode())]):
        call = await websocket(app, headers=headers)
        assert call.types == ["accept", "send"]
        assert call.sent[1]["text"] == "ann"


async def test_a_stranger_is_denied_with_the_problem(auth: FakeAuth) -> None:
    call = await websocket(SessionMiddleware(protected, auth=auth))
    assert (call.denial.status, call.denial.code) == (401, "authentication_required")
    assert call.denial.header("www-authenticate") == 'Bearer realm="session"'


async def test_a_missing_scope_is_denied_with_the_problem(auth: FakeAuth, manager: FakeTokenManager) -> None:
    call = await websocket(SessionMiddleware(protected, auth=auth), headers=bearer(manager.sign_in()))
    assert (call.denial.status, call.denial.code) == (403, "insufficient_scope")


@pytest.mark.parametrize("value", MALFORMED_BEARER.values(), ids=MALFORMED_BEARER)
async def test_a_malformed_token_is_denied_unread(auth: FakeAuth, manager: FakeTokenManager, value: bytes) -> None:
    call = await websocket(SessionMiddleware(protected, auth=auth), headers=[(b"authorization", value)])
    assert (call.denial.status, call.denial.code) == (401, "invalid_token")
    assert manager.reads == 0


@pytest.mark.parametrize("value", MALFORMED_COOKIE.values(), ids=MALFORMED_COOKIE)
async def test_a_malformed_cookie_is_denied_unread(auth: FakeAuth, manager: FakeTokenManager, value: bytes) -> None:
    call = await websocket(SessionMiddleware(protected, auth=auth, cookie=SID), headers=[(b"cookie", value)])
    assert (call.denial.status, call.denial.code) == refusal_of(value)
    assert manager.reads == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(AuthenticationRequiredError(), 4401), (InsufficientScopeError(["a"]), 4403), (StoreUnavailable("x"), 1013)],
)
async def test_a_server_without_the_extension_closes_the_handshake(auth: FakeAuth, error: Exception, code: int) -> None:
    async def app(_scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        raise error

    call = await websocket(SessionMiddleware(app, auth=auth), can_deny=False)
    assert call.types == ["close"]
    assert call.close_code == code


@pytest.mark.parametrize("app", [protected, optional])
async def test_down_is_not_signed_out(auth: FakeAuth, manager: FakeTokenManager, app: AsgiApp) -> None:
    token = manager.sign_in("ann", {"notes:read"})
    manager.is_down = True
    denial = (await websocket(SessionMiddleware(app, auth=auth), headers=bearer(token))).denial
    assert (denial.status, denial.code) == (503, "store_unavailable")
    assert denial.header("retry-after") is not None
    assert denial.header("www-authenticate") is None
    call = await websocket(SessionMiddleware(app, auth=auth), headers=bearer(token), can_deny=False)
    assert call.close_code == 1013


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (AuthenticationRequiredError(), 4401, "authentication_required"),
        (InsufficientScopeError(["a"]), 4403, "insufficient_scope"),
        (StoreUnavailable("x"), 1013, "store_unavailable"),
    ],
)
async def test_an_open_connection_is_closed_with_a_code_that_says_why(
    auth: FakeAuth, error: Exception, code: int, reason: str
) -> None:
    """A session that is checked again while the connection is open."""

    async def app(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise error

    call = await websocket(SessionMiddleware(app, auth=auth))
    assert call.types == ["accept", "close"]
    assert (call.close_code, call.sent[-1]["reason"]) == (code, reason)


async def test_an_ended_session_closes_as_an_invalid_token(auth: FakeAuth, manager: FakeTokenManager) -> None:
    token = manager.sign_in()
    manager.end(token, TokenRefusal.EXPIRED)
    call = await websocket(SessionMiddleware(protected, auth=auth), headers=bearer(token), can_deny=False)
    assert (call.close_code, call.sent[-1]["reason"]) == (4401, "invalid_token")


@pytest.mark.parametrize(
    "last", [{"type": "websocket.close", "code": 1000}, {"type": "websocket.http.response.start", "status": 404}]
)
async def test_after_the_end_an_error_is_raised_again(auth: FakeAuth, last: AsgiMessage) -> None:
    async def app(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
        await send(last)
        raise StoreUnavailable("down")

    with pytest.raises(StoreUnavailable):
        await websocket(SessionMiddleware(app, auth=auth))


async def test_a_client_that_has_gone_is_no_error(auth: FakeAuth) -> None:
    async def app(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise StoreUnavailable("down")

    async def send(message: AsgiMessage) -> None:
        if message["type"] == "websocket.close":
            raise OSError("gone")

    scope = {"type": "websocket", "headers": []}
    await SessionMiddleware(app, auth=auth)(scope, None, send)  # type: ignore[arg-type]  # never read


async def test_other_errors_are_none_of_our_business(auth: FakeAuth) -> None:
    async def app(_scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        await websocket(SessionMiddleware(app, auth=auth))
