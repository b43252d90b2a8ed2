"""One user's page is never another's: what responses say to caches (RFC 9111, RFC 9110 section 12.5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import StoreUnavailable
from coatcheck.tokens import TokenRefusal
from coatcheck.web import SessionCookie, SessionMiddleware, authentication_of, forget_cookie, hand_out
from tests.web.asgi_calls import Headers, bearer, request
from tests.web.fakes import SID

if TYPE_CHECKING:
    from coatcheck.web import Mode
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


def in_cookie(token: str) -> Headers:
    return [(b"cookie", b"__Host-sid=" + token.encode())]


def forgetting(error: Exception | None = None) -> AsgiApp:
    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        forget_cookie(scope)
        if error is not None:
            raise error
        await page()(scope, receive, send)

    return app


async def test_a_forgotten_cookie_is_removed_with_the_attributes_it_was_set_with(
    auth: FakeAuth, manager: FakeTokenManager
) -> None:
    cookie = in_cookie(manager.sign_in())
    answer = await request(SessionMiddleware(forgetting(), auth=auth, cookie=SID), headers=cookie)
    assert answer.header("set-cookie") == "__Host-sid=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure"
    answer = await request(SessionMiddleware(forgetting(), auth=auth, cookie=SID), headers=cookie, scheme="https")
    assert answer.header("set-cookie") == "__Host-sid=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure"


async def test_a_cookie_is_removed_with_an_error_too(auth: FakeAuth, manager: FakeTokenManager) -> None:
    app = SessionMiddleware(forgetting(StoreUnavailable("down")), auth=auth, cookie=SID)
    answer = await request(app, headers=in_cookie(manager.sign_in()))
    assert answer.status == 503
    assert (answer.header("set-cookie") or "").startswith("__Host-sid=; ")


async def test_a_cookie_is_left_where_the_token_did_not_come_in_it(auth: FakeAuth, manager: FakeTokenManager) -> None:
    app = SessionMiddleware(forgetting(), auth=auth, cookie=SID)
    headers = [*bearer(manager.sign_in()), (b"cookie", b"__Host-sid=another")]
    assert (await request(app, headers=headers)).header("set-cookie") is None


async def test_a_cookie_is_left_where_it_may_be_another_applications(auth: FakeAuth, manager: FakeTokenManager) -> None:
    """Unknown, or not looked up in an outage: nothing says that it is ours."""
    app = SessionMiddleware(forgetting(), auth=auth, cookie=SID)
    revoked = manager.sign_in()
    manager.end(revoked, TokenRefusal.UNKNOWN)
    for token in ("old", revoked):
        assert (await request(app, headers=in_cookie(token))).header("set-cookie") is None
    manager.is_down = True
    app = SessionMiddleware(forgetting(StoreUnavailable("down")), auth=auth, cookie=SID)
    assert (await request(app, headers=in_cookie(manager.sign_in()))).header("set-cookie") is None


SHARED: dict[str, tuple[int, Headers]] = {
    "public": (200, [(b"cache-control", b"public, max-age=31536000, immutable")]),
    "in capitals": (200, [(b"Cache-Control", b"Public")]),
    "a lifetime": (200, [(b"cache-control", b"max-age=60")]),
    "a lifetime in shared caches": (200, [(b"cache-control", b"private, s-maxage=60")]),
    "to be looked up again": (200, [(b"cache-control", b"no-cache")]),
    "private for one field": (200, [(b"cache-control", b'private="set-cookie"')]),
    "public and private": (200, [(b"cache-control", b"private"), (b"cache-control", b"public")]),
    "for CDNs": (200, [(b"cache-control", b"no-store"), (b"cdn-cache-control", b"max-age=60")]),
    "for one CDN": (200, [(b"cache-control", b"no-store"), (b"Cloudflare-CDN-Cache-Control", b"max-age=60")]),
    "for a surrogate": (200, [(b"surrogate-control", b"max-age=60")]),
    "not modified": (304, []),
}
PRIVATE: dict[str, Headers] = {
    "nothing": [],
    "no-store": [(b"cache-control", b"no-cache, No-Store")],
    "private": [(b"cache-control", b"private, max-age=60")],
    "no-store for CDNs too": [(b"cache-control", b"no-store"), (b"cdn-cache-control", b"no-store")],
}


@pytest.mark.parametrize(("status", "headers"), SHARED.values(), ids=SHARED)
async def test_a_dead_cookie_is_not_removed_with_what_caches_share(
    auth: FakeAuth, manager: FakeTokenManager, status: int, headers: Headers
) -> None:
    """Everybody who is served the stored response would lose their cookie (RFC 9111 section 7.3)."""
    token = manager.sign_in()
    manager.end(token, TokenRefusal.EXPIRED)
    app = SessionMiddleware(page(*headers, status=status, asks=False), auth=auth, cookie=SID)
    answer = await request(app, headers=in_cookie(token))
    assert answer.headers == headers


@pytest.mark.parametrize("headers", PRIVATE.values(), ids=PRIVATE)
async def test_a_dead_cookie_is_removed_with_what_no_cache_shares(
    auth: FakeAuth, manager: FakeTokenManager, headers: Headers
) -> None:
    token = manager.sign_in()
    manager.end(token, TokenRefusal.EXPIRED)
    app = SessionMiddleware(page(*headers, asks=False), auth=auth, cookie=SID)
    answer = await request(app, headers=in_cookie(token))
    assert (answer.header("set-cookie") or "").startswith("__Host-sid=; ")
    cache_control = (answer.header("cache-control") or "").lower()
    assert "no-store" in cache_control or "private" in cache_control


@pytest.mark.parametrize(("status", "headers"), SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("mode", ["cookie", "header"])
async def test_a_token_is_never_handed_out_with_what_caches_share(
    auth: FakeAuth, manager: FakeTokenManager, status: int, headers: Headers, mode: Mode
) -> None:
    """Whatever the application says of all its responses: this one is one person's."""

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        hand_out(scope, await manager.create_token(auth_user_id="ann", method="email"), mode)
        await page(*headers, status=status)(scope, receive, send)

    answer = await request(SessionMiddleware(app, auth=auth, cookie=SID), method="POST", scheme="https")
    assert answer.header("cache-control") == "no-store"
    assert not [name for name, _ in answer.headers if b"cdn" in name.lower() or b"surrogate" in name.lower()]
    assert (answer.header("set-cookie") is not None) == (mode == "cookie")


@pytest.mark.parametrize(("status", "headers"), SHARED.values(), ids=SHARED)
async def test_a_sign_out_removes_the_cookie_with_a_response_that_no_cache_keeps(
    auth: FakeAuth, manager: FakeTokenManager, status: int, headers: Headers
) -> None:
    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        forget_cookie(scope)
        await page(*headers, status=status)(scope, receive, send)

    answer = await request(SessionMiddleware(app, auth=auth, cookie=SID), headers=in_cookie(manager.sign_in()))
    assert (answer.header("set-cookie") or "").startswith("__Host-sid=; ")
    assert answer.header("cache-control") == "no-store"
