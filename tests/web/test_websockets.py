"""The middleware over WebSockets, around a bare ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import AuthenticationRequiredError, ConfigurationError, InsufficientScopeError, StoreUnavailable
from coatcheck.tokens import TokenRefusal
from coatcheck.web import SessionMiddleware, authentication_of, check_may_sign_in, require, sign_in
from tests.web.asgi_calls import Headers, bearer, websocket
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


class TestSigningIn:
    """A WebSocket can be answered with a token, and not with a cookie."""

    @pytest.mark.parametrize("is_accepted", [False, True])
    async def test_in_cookie_mode_it_is_refused_before_a_session_is_made(
        self, auth: FakeAuth, manager: FakeTokenManager, is_accepted: bool
    ) -> None:
        async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
            if is_accepted:
                await send({"type": "websocket.accept"})
            await sign_in(auth, scope, auth_user_id="ann", method="email", mode="cookie")

        with pytest.raises(ConfigurationError, match='needs mode="header"'):
            await websocket(SessionMiddleware(app, auth=auth, cookie=SID), scheme="wss")
        assert manager.issued == 0

    async def test_the_client_cannot_ask_for_a_cookie(self, auth: FakeAuth, manager: FakeTokenManager) -> None:
        """Nor cause an error by it: it gets its token in what the application sends."""

        async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
            check_may_sign_in(scope)
            success = await sign_in(auth, scope, auth_user_id="ann", method="email")
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": success.token})

        headers = [(b"coatcheck-mode", b"cookie")]
        call = await websocket(SessionMiddleware(app, auth=auth, cookie=SID), headers=headers, scheme="wss")
        assert manager.session_of(call.sent[-1]["text"]).info.user_id == "ann"
        assert not call.sent[0].get("headers")


@pytest.mark.parametrize(
    ("own", "cache_control"),
    [([], "no-store"), ([(b"Cache-Control", b"private")], "private")],
)
async def test_an_applications_own_denial_for_a_signed_in_caller_is_not_stored(
    auth: FakeAuth, manager: FakeTokenManager, own: Headers, cache_control: str
) -> None:
    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        caller = authentication_of(scope)
        await send({"type": "websocket.http.response.start", "status": 403, "headers": own})
        await send({"type": "websocket.http.response.body", "body": b"private to " + str(caller).encode()})

    wrapped = SessionMiddleware(app, auth=auth)
    call = await websocket(wrapped, headers=bearer(manager.sign_in()))
    assert call.denial.header("cache-control") == cache_control
    assert (await websocket(wrapped)).denial.headers == own, "a stranger's denial is as the application has it"
