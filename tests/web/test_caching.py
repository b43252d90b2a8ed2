"""One user's page is never another's: what responses say to caches (RFC 9111, RFC 9110 section 12.5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import StoreUnavailable
from coatcheck.web import SessionCookie, SessionMiddleware, authentication_of, forget_cookie
from tests.web.asgi_calls import Headers, bearer, request
from tests.web.fakes import SID

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from tests.web.fakes import FakeAuth, FakeTokenManager


def page(*headers: tuple[bytes, bytes], asks: bool = True, status: int = 200) -> AsgiApp:
    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        if asks:
            authentication_of(scope)
        await send({"type": "http.response.start", "status": status, "headers": [list(pair) for pair in headers]})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


@pytest.mark.parametrize("asks", [True, False])
async def test_a_response_to_a_signed_in_caller_is_not_stored(
    auth: FakeAuth, manager: FakeTokenManager, asks: bool
) -> None:
    answer = await request(SessionMiddleware(page(asks=asks), auth=auth), headers=bearer(manager.sign_in()))
    assert answer.header("cache-control") == "no-store"


async def test_an_applications_own_cache_control_stands(auth: FakeAuth, manager: FakeTokenManager) -> None:
    app = page((b"Cache-Control", b"private, max-age=60"))
    answer = await request(SessionMiddleware(app, auth=auth), headers=bearer(manager.sign_in()))
    assert answer.header("cache-control") == "private, max-age=60"


async def test_a_response_to_a_stranger_may_be_stored(auth: FakeAuth) -> None:
    assert (await request(SessionMiddleware(page(), auth=auth))).header("cache-control") is None


@pytest.mark.parametrize(("cookie", "vary"), [(None, "Authorization"), (SessionCookie(), "Authorization, Cookie")])
async def test_a_response_that_depends_on_the_caller_says_so(
    auth: FakeAuth, cookie: SessionCookie | None, vary: str
) -> None:
    """Else a page stored for a stranger would be served to those who are signed in."""
    answer = await request(SessionMiddleware(page(), auth=auth, cookie=cookie))
    assert answer.header("vary") == vary


async def test_a_response_that_does_not_depend_on_the_caller_stays_cacheable_for_all(
    auth: FakeAuth, manager: FakeTokenManager
) -> None:
    app = SessionMiddleware(page((b"cache-control", b"public"), asks=False), auth=auth, cookie=SID)
    for headers in ([], bearer(manager.sign_in())):
        answer = await request(app, headers=headers)
        assert answer.header("vary") is None
        assert answer.header("cache-control") == "public"


async def test_a_response_that_sets_another_cookie_is_the_applications_affair(auth: FakeAuth) -> None:
    app = page((b"set-cookie", b"theme=dark"), asks=False)
    assert (await request(SessionMiddleware(app, auth=auth, cookie=SID))).header("cache-control") is None


async def test_a_500_is_not_stored_either(auth: FakeAuth, manager: FakeTokenManager) -> None:
    answer = await request(SessionMiddleware(page(status=500), auth=auth), headers=bearer(manager.sign_in()))
    assert (answer.status, answer.header("cache-control")) == (500, "no-store")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], "Authorization, Cookie"),
        ([(b"vary", b"Accept-Encoding")], "Accept-Encoding, Authorization, Cookie"),
        ([(b"Vary", b"cookie")], "cookie, Authorization"),
        ([(b"vary", b"a"), (b"vary", b" b ,, Authorization")], "a, b, Authorization, Cookie"),
        ([(b"vary", b"*")], "*"),
    ],
)
async def test_vary_is_added_to_and_stays_one_field(auth: FakeAuth, before: Headers, after: str) -> None:
    app = page((b"content-type", b"text/plain"), *before)
    answer = await request(SessionMiddleware(app, auth=auth, cookie=SID))
    assert answer.headers == [(b"content-type", b"text/plain"), (b"vary", after.encode())]


def forgetting(error: Exception | None = None) -> AsgiApp:
    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        forget_cookie(scope)
        if error is not None:
            raise error
        await page()(scope, receive, send)

    return app


async def test_a_forgotten_cookie_is_removed_with_the_attributes_it_was_set_with(auth: FakeAuth) -> None:
    cookie = [(b"cookie", b"__Host-sid=old")]
    answer = await request(SessionMiddleware(forgetting(), auth=auth, cookie=SID), headers=cookie)
    assert answer.header("set-cookie") == "__Host-sid=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure"
    answer = await request(SessionMiddleware(forgetting(), auth=auth, cookie=SID), headers=cookie, scheme="https")
    assert answer.header("set-cookie") == "__Host-sid=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure"


async def test_a_cookie_is_removed_with_an_error_too(auth: FakeAuth) -> None:
    app = SessionMiddleware(forgetting(StoreUnavailable("down")), auth=auth, cookie=SID)
    answer = await request(app, headers=[(b"cookie", b"__Host-sid=old")])
    assert answer.status == 503
    assert (answer.header("set-cookie") or "").startswith("__Host-sid=; ")


async def test_a_cookie_is_left_where_the_token_did_not_come_in_it(auth: FakeAuth, manager: FakeTokenManager) -> None:
    app = SessionMiddleware(forgetting(), auth=auth, cookie=SID)
    headers = [*bearer(manager.sign_in()), (b"cookie", b"__Host-sid=another")]
    assert (await request(app, headers=headers)).header("set-cookie") is None
