"""The middleware over HTTP, around a bare ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coatcheck.errors import (
    AuthenticationRequiredError,
    ConfigurationError,
    InsufficientScopeError,
    RevocationIndeterminate,
    StoreUnavailable,
)
from coatcheck.scope import Scope
from coatcheck.tokens import AuthenticationInfo, TokenRefusal
from coatcheck.web import (
    SCOPE_KEY,
    RequestState,
    SessionMiddleware,
    authentication_of,
    request_state,
    require,
)
from tests.web.asgi_calls import Answer, Headers, bearer, request, scope_of
from tests.web.fakes import SID
from tests.web.malformed import MALFORMED_BEARER, MALFORMED_COOKIE, NO_COOKIE_AT_ALL, NO_TOKEN_AT_ALL, refusal_of

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiApp, AsgiMessage, AsgiScope, Receive, Send
    from tests.web.fakes import FakeAuth, FakeTokenManager


async def respond(send: Send, status: int = 200, body: bytes = b"ok", headers: Headers | None = None) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers or []})
    await send({"type": "http.response.body", "body": body})


async def protected(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    """An application that needs a signed-in caller."""
    await respond(send, body=require(scope).user_identifier.encode())


async def optional(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    """An application that greets everybody, by name if it can."""
    caller = authentication_of(scope)
    await respond(send, body=caller.user_identifier.encode() if caller else b"anonymous")


async def public(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
    """An application that does not care who is calling."""
    await respond(send)


def raising(error: BaseException) -> AsgiApp:
    async def app(_scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        raise error

    return app


async def test_a_valid_token_makes_its_user_known(auth: FakeAuth, manager: FakeTokenManager) -> None:
    token = manager.sign_in("ann", {"notes:read"})
    seen: list[RequestState] = []

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        seen.append(scope[SCOPE_KEY])
        await respond(send)

    await request(SessionMiddleware(app, auth=auth), headers=bearer(token))
    info = seen[0].authentication
    assert isinstance(info, AuthenticationInfo)
    assert info.user_identifier == "ann"
    assert info.scopes == {Scope("notes:read")}
    assert seen[0].refusal is None
    assert manager.reads == 1


async def test_without_a_token_the_store_is_not_read(auth: FakeAuth, manager: FakeTokenManager) -> None:
    answer = await request(SessionMiddleware(optional, auth=auth, cookie=SID))
    assert answer.body == b"anonymous"
    assert manager.explained == manager.reads == 0


async def test_a_protected_application_asks_strangers_to_sign_in(auth: FakeAuth) -> None:
    answer = await request(SessionMiddleware(protected, auth=auth))
    assert (answer.status, answer.code) == (401, "authentication_required")
    assert answer.header("www-authenticate") == 'Bearer realm="session"'


@pytest.mark.parametrize("value", MALFORMED_BEARER.values(), ids=MALFORMED_BEARER)
async def test_a_malformed_token_is_refused_unread(auth: FakeAuth, manager: FakeTokenManager, value: bytes) -> None:
    headers = [(b"authorization", value)]
    answer = await request(SessionMiddleware(protected, auth=auth), headers=headers)
    assert (answer.status, answer.code) == (401, "invalid_token")
    assert "reason" not in answer.json
    assert (await request(SessionMiddleware(optional, auth=auth), headers=headers)).body == b"anonymous"
    assert manager.reads == 0


@pytest.mark.parametrize("value", NO_TOKEN_AT_ALL.values(), ids=NO_TOKEN_AT_ALL)
async def test_another_scheme_is_no_token(auth: FakeAuth, manager: FakeTokenManager, value: bytes) -> None:
    answer = await request(SessionMiddleware(protected, auth=auth), headers=[(b"authorization", value)])
    assert (answer.status, answer.code) == (401, "authentication_required")
    assert manager.explained == 0


@pytest.mark.parametrize("value", MALFORMED_COOKIE.values(), ids=MALFORMED_COOKIE)
async def test_a_malformed_cookie_is_refused_unread(auth: FakeAuth, manager: FakeTokenManager, value: bytes) -> None:
    answer = await request(SessionMiddleware(protected, auth=auth, cookie=SID), headers=[(b"cookie", value)])
    assert (answer.status, answer.code) == refusal_of(value)
    assert manager.reads == 0


@pytest.mark.parametrize("value", NO_COOKIE_AT_ALL.values(), ids=NO_COOKIE_AT_ALL)
async def test_another_cookie_is_no_token(auth: FakeAuth, manager: FakeTokenManager, value: bytes) -> None:
    answer = await request(SessionMiddleware(protected, auth=auth, cookie=SID), headers=[(b"cookie", value)])
    assert (answer.status, answer.code) == (401, "authentication_required")
    assert manager.explained == 0


async def test_two_valid_authorization_headers_are_refused_unread(auth: FakeAuth, manager: FakeTokenManager) -> None:
    headers = [*bearer(manager.sign_in("ann")), *bearer(manager.sign_in("bob"))]
    answer = await request(SessionMiddleware(protected, auth=auth), headers=headers)
    assert (answer.status, answer.code) == (401, "invalid_token")
    assert manager.reads == 0


async def test_two_valid_cookies_are_refused_unread(auth: FakeAuth, manager: FakeTokenManager) -> None:
    value = f"__Host-sid={manager.sign_in('ann')}; __Host-sid={manager.sign_in('bob')}".encode()
    answer = await request(SessionMiddleware(protected, auth=auth, cookie=SID), headers=[(b"cookie", value)])
    assert (answer.status, answer.code) == (401, "invalid_token")
    assert manager.reads == 0


async def test_a_token_in_the_url_is_no_token(auth: FakeAuth, manager: FakeTokenManager) -> None:
    token = manager.sign_in()
    app = SessionMiddleware(protected, auth=auth, cookie=SID)
    answer = await request(app, f"/?access_token={token}&token={token}&__Host-sid={token}")
    assert (answer.status, answer.code) == (401, "authentication_required")


@pytest.mark.parametrize("end", [b"A" * 43, b""])
async def test_the_right_id_with_a_wrong_secret_is_refused(
    auth: FakeAuth, manager: FakeTokenManager, end: bytes
) -> None:
    token = manager.sign_in()
    wrong = token[:-43] + end.decode() if end else token[:-4] + "AAAA"
    answer = await request(SessionMiddleware(protected, auth=auth), headers=bearer(wrong))
    assert (answer.status, answer.code) == (401, "invalid_token")


async def test_a_cookie_is_as_good_as_a_header(auth: FakeAuth, manager: FakeTokenManager) -> None:
    headers = [(b"cookie", f"a=b; __Host-sid={manager.sign_in('ann')}".encode())]
    assert (await request(SessionMiddleware(protected, auth=auth, cookie=SID), headers=headers)).body == b"ann"
    assert (await request(SessionMiddleware(protected, auth=auth), headers=headers)).status == 401


async def test_the_bearer_header_wins_over_the_cookie(auth: FakeAuth, manager: FakeTokenManager) -> None:
    app = SessionMiddleware(protected, auth=auth, cookie=SID)
    cookie = (b"cookie", f"__Host-sid={manager.sign_in('bob')}".encode())
    assert (await request(app, headers=[cookie, *bearer(manager.sign_in("ann"))])).body == b"ann"
    assert (await request(app, headers=[cookie, *bearer("nonsense")])).status == 401


@pytest.mark.parametrize("refusal", [TokenRefusal.EXPIRED, TokenRefusal.INACTIVE])
async def test_the_holder_of_an_ended_session_is_told_why(
    auth: FakeAuth, manager: FakeTokenManager, refusal: TokenRefusal
) -> None:
    token = manager.sign_in()
    manager.end(token, refusal)
    answer = await request(SessionMiddleware(protected, auth=auth), headers=bearer(token))
    assert (answer.status, answer.code, answer.json["reason"]) == (401, "invalid_token", refusal.value)


async def test_a_missing_scope_is_forbidden(auth: FakeAuth, manager: FakeTokenManager) -> None:
    async def app(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        require(scope, "notes:read", "notes:write")

    answer = await request(SessionMiddleware(app, auth=auth), headers=bearer(manager.sign_in("ann", {"notes:read"})))
    assert (answer.status, answer.code) == (403, "insufficient_scope")
    assert answer.json["missing_scopes"] == ["notes:write"]


async def test_a_scope_is_not_granted_by_a_longer_or_shorter_one(auth: FakeAuth, manager: FakeTokenManager) -> None:
    async def app(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        require(scope, "notes")

    token = manager.sign_in("ann", {"notes:write", "not", "NOTES", "*"})
    assert (await request(SessionMiddleware(app, auth=auth), headers=bearer(token))).status == 403


def is_outage(answer: Answer) -> bool:
    assert answer.header("www-authenticate") is None
    assert answer.header("cache-control") == "no-store"
    retry_after = answer.header("retry-after")
    assert retry_after is not None
    assert 1 <= int(retry_after) <= 10
    return (answer.status, answer.code) == (503, "store_unavailable")


@pytest.mark.parametrize("app", [protected, optional])
async def test_down_is_not_signed_out(auth: FakeAuth, manager: FakeTokenManager, app: AsgiApp) -> None:
    """Promise 6: while the store is down nobody is refused, and nobody is taken for a stranger."""
    token = manager.sign_in()
    manager.is_down = True
    assert is_outage(await request(SessionMiddleware(app, auth=auth), headers=bearer(token)))


async def test_an_outage_refuses_no_answer_that_does_not_depend_on_the_caller(
    auth: FakeAuth, manager: FakeTokenManager
) -> None:
    token = manager.sign_in()
    manager.is_down = True
    assert (await request(SessionMiddleware(public, auth=auth), headers=bearer(token))).status == 200
    assert (await request(SessionMiddleware(optional, auth=auth))).body == b"anonymous"


async def test_down_is_not_signed_out_even_for_an_application_that_concludes_so(
    auth: FakeAuth, manager: FakeTokenManager
) -> None:
    async def app(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        try:
            authentication_of(scope)
        except StoreUnavailable:
            raise AuthenticationRequiredError from None

    token = manager.sign_in()
    manager.is_down = True
    assert is_outage(await request(SessionMiddleware(app, auth=auth), headers=bearer(token)))


async def test_an_outage_that_the_application_meets_is_a_503_too(auth: FakeAuth, manager: FakeTokenManager) -> None:
    app = SessionMiddleware(raising(StoreUnavailable("down")), auth=auth)
    assert is_outage(await request(app))
    assert is_outage(await request(app, headers=bearer(manager.sign_in())))


async def test_an_error_of_ours_is_found_inside_of_groups_of_one(auth: FakeAuth) -> None:
    group = ExceptionGroup("task group", [ExceptionGroup("inner", [StoreUnavailable("down")])])
    assert is_outage(await request(SessionMiddleware(raising(group), auth=auth)))


async def test_an_unconfirmed_revocation_is_a_503_with_its_own_code(auth: FakeAuth) -> None:
    answer = await request(SessionMiddleware(raising(RevocationIndeterminate("lost")), auth=auth))
    assert (answer.status, answer.code) == (503, "revocation_indeterminate")


@pytest.mark.parametrize("error", [RuntimeError("bug"), ExceptionGroup("two", [StoreUnavailable("a"), ValueError()])])
async def test_other_errors_are_none_of_our_business(auth: FakeAuth, error: Exception) -> None:
    with pytest.raises(type(error)):
        await request(SessionMiddleware(raising(error), auth=auth))


@pytest.mark.parametrize("error", [AuthenticationRequiredError(), InsufficientScopeError(["a"]), StoreUnavailable("x")])
async def test_after_the_response_has_begun_an_error_is_raised_again(auth: FakeAuth, error: Exception) -> None:
    sent: list[AsgiMessage] = []

    async def app(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    with pytest.raises(type(error)):
        await SessionMiddleware(app, auth=auth)(scope_of("http"), None, send)  # type: ignore[arg-type]  # never read
    assert [message["type"] for message in sent] == ["http.response.start"]


async def test_a_500_made_of_our_error_gives_way_to_the_right_answer(auth: FakeAuth) -> None:
    """What a mounted Starlette application does with exceptions it does not know."""

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        try:
            require(scope)
        except AuthenticationRequiredError:
            await respond(send, 500, b"Internal Server Error")
            raise

    answer = await request(SessionMiddleware(app, auth=auth))
    assert (answer.status, answer.code) == (401, "authentication_required")


async def test_any_other_500_comes_out_as_it_was(auth: FakeAuth) -> None:
    async def app(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
        await respond(send, 500, b"own page", [(b"x-own", b"1")])

    answer = await request(SessionMiddleware(app, auth=auth))
    assert (answer.status, answer.body, answer.header("x-own")) == (500, b"own page", "1")


async def test_the_500_of_another_error_is_sent_before_the_error_is_raised_again(auth: FakeAuth) -> None:
    sent: list[AsgiMessage] = []

    async def app(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
        await respond(send, 500)
        raise RuntimeError("bug")

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError, match="bug"):
        await SessionMiddleware(app, auth=auth)(scope_of("http"), None, send)  # type: ignore[arg-type]  # never read
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


async def test_a_500_is_not_held_back_without_limit(auth: FakeAuth) -> None:
    sent: list[AsgiMessage] = []

    async def app(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        for _ in range(20):
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
        assert len(sent) == 21
        raise AuthenticationRequiredError

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    with pytest.raises(AuthenticationRequiredError):
        await SessionMiddleware(app, auth=auth)(scope_of("http"), None, send)  # type: ignore[arg-type]  # never read


@pytest.mark.parametrize("scope", [{}, {SCOPE_KEY: None}, {SCOPE_KEY: {"authentication": "ann"}}])
def test_without_the_middleware_nobody_gets_in(scope: dict[str, Any]) -> None:
    for look in (authentication_of, request_state, require):
        with pytest.raises(ConfigurationError, match="SessionMiddleware did not run"):
            look(scope)


@pytest.mark.parametrize("setting", ["cookie", "clients", "live"])
def test_a_setting_of_the_wrong_kind_is_refused_at_once(auth: FakeAuth, setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{setting} must be None or a "):
        SessionMiddleware(public, auth=auth, **{setting: "sid"})  # type: ignore[arg-type]  # that is the mistake


async def test_the_lifespan_passes_through(auth: FakeAuth) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        seen.append(dict(scope))

    await SessionMiddleware(app, auth=auth)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # never used
    assert seen == [{"type": "lifespan"}]


async def test_the_state_does_not_hold_the_token(auth: FakeAuth, manager: FakeTokenManager) -> None:
    token = manager.sign_in()
    seen: list[str] = []

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        seen.append(repr(scope[SCOPE_KEY]))
        await respond(send)

    await request(SessionMiddleware(app, auth=auth), headers=bearer(token))
    assert token not in seen[0]
