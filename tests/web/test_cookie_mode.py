"""Cookie mode: the token travels in a cookie that no script reads and no other site makes use of."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import AuthSuccess, ConfigurationError, InvalidArgumentError, StoreUnavailable, Token, TokenRefusal
from coatcheck.identifiers import UserId
from coatcheck.web import (
    ClientCapture,
    SessionCookie,
    SessionMiddleware,
    authentication_of,
    client_of,
    hand_out,
    sign_in,
    sign_in_location,
)
from coatcheck.web.http.request_facts import RequestFacts
from tests.web.asgi_calls import Answer, Headers, bearer, request, websocket
from tests.web.fakes import SID, FakeAuth

if TYPE_CHECKING:
    from coatcheck.web import Mode
    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from tests.web.fakes import FakeTokenManager
    from tests.worlds import World

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ASKS_FOR_COOKIE: Headers = [(b"coatcheck-mode", b"cookie")]


def success_of(token: str, expires_at: datetime | None = None) -> AuthSuccess:
    return AuthSuccess("session", Token(token), expires_at, UserId("ann"), frozenset())


def cookie(token: str, name: str = "__Host-sid") -> Headers:
    return [(b"cookie", f"{name}={token}".encode())]


def signing_in(manager: FakeTokenManager, mode: Mode | None = None) -> AsgiApp:
    """Hands out a token, and answers with what is left of it for the body."""

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        given = hand_out(scope, success_of(manager.sign_in("ann")), mode)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": given.token.encode()})

    return app


async def whoami(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    caller = authentication_of(scope)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"nobody" if caller is None else caller.user_identifier.encode()})


async def signed_in(
    auth: FakeAuth,
    manager: FakeTokenManager,
    headers: Headers = ASKS_FOR_COOKIE,
    *,
    settings: SessionCookie | None = SID,
    mode: Mode | None = None,
    scheme: str = "https",
) -> Answer:
    app = SessionMiddleware(signing_in(manager, mode), auth=auth, cookie=settings)
    return await request(app, headers=headers, method="POST", scheme=scheme)


class TestHandingOut:
    async def test_the_token_is_in_the_cookie_and_not_in_the_body(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        """Cookie-mode requests get the token as a cookie and an empty token in the body; always HttpOnly."""
        answer = await signed_in(auth, manager)
        set_cookie = answer.header("set-cookie") or ""
        pair, attributes = set_cookie.split("; ", 1)
        assert answer.body == b""
        assert manager.session_of(pair.removeprefix("__Host-sid=")).info.user_id == "ann"
        assert attributes == "Path=/; HttpOnly; SameSite=Lax; Secure"
        assert answer.header("cache-control") == "no-store"

    async def test_a_client_that_does_not_ask_for_a_cookie_gets_the_token_in_the_body(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        """Asked for by the client per request; both modes at once on one server."""
        for headers in ([], [(b"coatcheck-mode", b"header")], [*ASKS_FOR_COOKIE, *ASKS_FOR_COOKIE]):
            answer = await signed_in(auth, manager, headers)
            assert answer.header("set-cookie") is None
            assert manager.session_of(answer.body.decode()).info.user_id == "ann"
            assert answer.header("cache-control") == "no-store"

    async def test_without_a_configured_cookie_there_is_none_even_if_it_is_asked_for(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        """Only if the server configured a cookie."""
        answer = await signed_in(auth, manager, settings=None)
        assert answer.header("set-cookie") is None
        assert manager.session_of(answer.body.decode()).info.user_id == "ann"

    async def test_an_application_may_insist_on_the_cookie_or_on_the_body(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        assert (await signed_in(auth, manager, [], mode="cookie")).body == b""
        assert (await signed_in(auth, manager, mode="header")).header("set-cookie") is None
        with pytest.raises(ConfigurationError, match="SessionCookie"):
            await signed_in(auth, manager, settings=None, mode="cookie")

    async def test_over_plain_http_no_cookie_is_set_and_the_error_says_what_to_do(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        with pytest.raises(ConfigurationError, match=r"X-Forwarded-Proto.*insecure_on_localhost=True"):
            await signed_in(auth, manager, scheme="http")

    @pytest.mark.parametrize("host", [b"localhost", b"localhost:8000", b"127.0.0.1:80", b"[::1]:9", b"a.localhost"])
    async def test_in_development_localhost_gets_a_cookie_over_plain_http(
        self, auth: FakeAuth, manager: FakeTokenManager, host: bytes
    ) -> None:
        settings = SessionCookie(name="sid", insecure_on_localhost=True)
        answer = await signed_in(auth, manager, [*ASKS_FOR_COOKIE, (b"host", host)], settings=settings, scheme="http")
        pair, attributes = (answer.header("set-cookie") or "").split("; ", 1)
        assert attributes == "Path=/; HttpOnly; SameSite=Lax"
        app = SessionMiddleware(whoami, auth=auth, cookie=settings)
        headers = [(b"cookie", pair.encode()), (b"host", host)]
        assert (await request(app, headers=headers)).body == b"ann"
        assert (await request(app, headers=headers, scheme="https")).body == b"nobody"  # never weaker than it was set

    @pytest.mark.parametrize("host", [b"notes.example", b"localhost.example", b"10.0.0.1", b"128.0.0.1", b"", b"1::"])
    async def test_in_development_another_host_gets_no_cookie_over_plain_http(
        self, auth: FakeAuth, manager: FakeTokenManager, host: bytes
    ) -> None:
        settings = SessionCookie(name="sid", insecure_on_localhost=True)
        with pytest.raises(ConfigurationError):
            await signed_in(auth, manager, [*ASKS_FOR_COOKIE, (b"host", host)], settings=settings, scheme="http")


class TestLifetime:
    @pytest.mark.parametrize(
        ("left", "max_age"),
        [
            (None, None),
            (timedelta(hours=1), 3600 + 600),
            (timedelta(seconds=1, microseconds=999_999), 1 + 600),
            (timedelta(days=3650), 400 * 24 * 3600),
            (timedelta(0), 600),
            (timedelta(seconds=-5), 600),
        ],
    )
    def test_the_cookie_lives_ten_minutes_longer_than_the_session_can(
        self, left: timedelta | None, max_age: int | None
    ) -> None:
        """So that the server can say that it has expired. A browser-session cookie where it has no deadline."""
        here = SID.on(RequestFacts("GET", "https", [], None))
        value = here.carrying(success_of("c2Fz", None if left is None else NOW + left), now=NOW).decode()
        assert ("Max-Age" in value) == (max_age is not None)
        if max_age is not None:
            assert f"; Max-Age={max_age};" in value

    def test_the_longest_cookie_fits_into_a_browser(self) -> None:
        """RFC 6265bis section 5.6: 4096 bytes of name and value."""
        here = SessionCookie(name="x" * 200).on(RequestFacts("GET", "https", [], None))
        longest = "c2Fz" + "A" * 1400  # the 1024 bytes of the longest secret, in base64url
        name, _, value = here.carrying(success_of(longest), now=NOW).split(b";")[0].partition(b"=")
        assert len(name) + len(value) < 4096


class TestADeadSession:
    @pytest.mark.parametrize("refusal", [TokenRefusal.EXPIRED, TokenRefusal.INACTIVE])
    @pytest.mark.parametrize("headers", [[], [(b"sec-fetch-mode", b"navigate")]])
    async def test_a_browser_that_opens_a_page_with_it_is_rid_of_its_cookie(
        self, auth: FakeAuth, manager: FakeTokenManager, refusal: TokenRefusal, headers: Headers
    ) -> None:
        token = manager.sign_in()
        manager.end(token, refusal)
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        answer = await request(app, headers=[*cookie(token), *headers])
        assert (answer.header("set-cookie") or "").startswith("__Host-sid=; Max-Age=0; ")
        assert answer.header("cache-control") == "no-store"

    @pytest.mark.parametrize("refusal", [refusal for refusal in TokenRefusal if not refusal.is_for_the_holder])
    async def test_a_cookie_that_may_be_another_applications_is_left_alone(
        self, auth: FakeAuth, manager: FakeTokenManager, refusal: TokenRefusal
    ) -> None:
        """Browsers keep one cookie of a name for a host. Only a right secret says that it is ours."""
        token = manager.sign_in()
        manager.end(token, refusal)
        answer = await request(SessionMiddleware(whoami, auth=auth, cookie=SID), headers=cookie(token))
        assert (answer.body, answer.header("set-cookie")) == (b"nobody", None)

    @pytest.mark.parametrize("value", ["", "eyJ1c2VyIjoxfQ.aGVsbG8.sig_of_flask", "c2Fz", "a\x80b", "sid=1, x"])
    async def test_a_cookie_of_another_framework_is_left_alone(self, auth: FakeAuth, value: str) -> None:
        answer = await request(SessionMiddleware(whoami, auth=auth, cookie=SID), headers=cookie(value))
        assert (answer.body, answer.header("set-cookie")) == (b"nobody", None)

    @pytest.mark.parametrize("mode", [b"cors", b"same-origin", b"no-cors", b"websocket"])
    async def test_a_script_that_comes_late_with_it_does_not_take_the_new_one_away(
        self, auth: FakeAuth, manager: FakeTokenManager, mode: bytes
    ) -> None:
        """What another tab has signed in meanwhile is in the browser already, under the same name."""
        token = manager.sign_in()
        manager.end(token, TokenRefusal.EXPIRED)
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        answer = await request(app, headers=[*cookie(token), (b"sec-fetch-mode", mode)])
        assert (answer.body, answer.header("set-cookie")) == (b"nobody", None)

    async def test_a_store_that_is_down_leaves_the_cookie(self, auth: FakeAuth, manager: FakeTokenManager) -> None:
        """An outage signs nobody out."""
        token = manager.sign_in()
        manager.is_down = True
        answer = await request(SessionMiddleware(whoami, auth=auth, cookie=SID), headers=cookie(token))
        assert (answer.status, answer.header("set-cookie")) == (503, None)

    async def test_a_live_one_and_a_bearer_token_leave_the_cookie(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        for headers in (cookie(manager.sign_in()), [*bearer("nonsense"), *cookie("c2Fz")]):
            assert (await request(app, headers=headers)).header("set-cookie") is None

    async def test_signing_in_with_it_sets_the_new_one_and_nothing_else(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        answer = await signed_in(auth, manager, [*ASKS_FOR_COOKIE, *cookie("c2Fz")])
        assert "Max-Age=0" not in (answer.header("set-cookie") or "Max-Age=0")


MANY_COOKIES: Headers = [(b"cookie", b"; ".join(b"analytics%d=" % n + b"x" * 4000 for n in range(5)))]


class TestTooManyCookies:
    """More than 16 KiB of them are not searched; they are no reason to sign anybody out."""

    async def test_where_the_application_asks_for_the_caller_the_answer_says_so_and_leaves_the_cookie(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        """HTTP/2 sends them in several lines."""
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        answer = await request(app, headers=[*cookie(manager.sign_in()), *MANY_COOKIES])
        assert (answer.status, answer.code, answer.header("set-cookie")) == (431, "too_many_cookies", None)
        assert answer.header("www-authenticate") is None
        assert manager.explained == 0

    async def test_what_does_not_depend_on_the_caller_is_served(self, auth: FakeAuth) -> None:
        async def same_for_all(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"style"})

        answer = await request(
            SessionMiddleware(same_for_all, auth=auth, cookie=SID), headers=[*MANY_COOKIES, *cookie("c2Fz")]
        )
        assert (answer.status, answer.body, answer.header("cache-control")) == (200, b"style", None)

    async def test_a_bearer_token_beside_them_is_read(self, auth: FakeAuth, manager: FakeTokenManager) -> None:
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        assert (await request(app, headers=[*MANY_COOKIES, *bearer(manager.sign_in("ann"))])).body == b"ann"

    async def test_a_stranger_with_as_many_is_served(self, auth: FakeAuth, manager: FakeTokenManager) -> None:
        """Our cookie is not among them, so nothing has to be found, and a sign-in is one."""
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        assert (await request(app, headers=MANY_COOKIES)).body == b"nobody"
        answer = await signed_in(auth, manager, [*ASKS_FOR_COOKIE, *MANY_COOKIES])
        assert (answer.header("set-cookie") or "").startswith("__Host-sid=c2Fz")

    async def test_a_websocket_gets_the_same_answer(self, auth: FakeAuth) -> None:
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        headers = [*cookie("c2Fz"), *MANY_COOKIES]
        assert (await websocket(app, headers=headers)).denial.status == 431
        assert (await websocket(app, headers=headers, can_deny=False)).close_code == 4431

    async def test_a_request_of_another_site_is_refused_as_ever(self, auth: FakeAuth) -> None:
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        headers = [*MANY_COOKIES, *cookie("c2Fz"), (b"sec-fetch-site", b"cross-site")]
        assert (await request(app, headers=headers, method="POST")).code == "cross_site_request"

    async def test_it_is_logged_once(self, auth: FakeAuth, caplog: pytest.LogCaptureFixture) -> None:
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        for _ in range(3):
            await request(app, headers=[*MANY_COOKIES, *cookie("c2Fz")])
        (record,) = caplog.records
        assert "16384 bytes of cookies" in record.getMessage()
        assert "431" in record.getMessage()


UNSAFE = ("POST", "PUT", "PATCH", "DELETE", "PROPFIND")
OTHERS: dict[str, Headers] = {
    "cross-site": [(b"sec-fetch-site", b"cross-site")],
    "same-site": [(b"sec-fetch-site", b"same-site")],
    "cross-site without CORS": [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"no-cors")],
    "cross-site with our origin": [(b"sec-fetch-site", b"cross-site"), (b"origin", b"https://notes.example")],
    "unknown site": [(b"sec-fetch-site", b"something-new")],
    "sec-fetch-site twice": [(b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"cross-site")],
    "another origin": [(b"origin", b"https://evil.example")],
    "another port": [(b"origin", b"https://notes.example:8443")],
    "our name as a suffix": [(b"origin", b"https://evilnotes.example")],
    "our name as a prefix": [(b"origin", b"https://notes.example.evil.example")],
    "our name as a user": [(b"origin", b"https://notes.example@evil.example")],
    "no TLS": [(b"origin", b"http://notes.example")],
    "a sandboxed frame": [(b"origin", b"null")],
    "an empty origin": [(b"origin", b"")],
    "origin twice": [(b"origin", b"https://notes.example"), (b"origin", b"https://notes.example")],
}
OURS: dict[str, Headers] = {
    "same-origin": [(b"sec-fetch-site", b"same-origin"), (b"origin", b"https://notes.example")],
    "typed in": [(b"sec-fetch-site", b"none")],
    "an old browser": [(b"origin", b"https://notes.example")],
    "a program": [],
}
HOST: Headers = [(b"host", b"notes.example")]


class TestOtherSites:
    @pytest.mark.parametrize("method", UNSAFE)
    @pytest.mark.parametrize("headers", OTHERS.values(), ids=OTHERS)
    async def test_a_request_of_another_site_with_the_cookie_is_refused_unread(
        self, auth: FakeAuth, manager: FakeTokenManager, method: str, headers: Headers
    ) -> None:
        """ASVS 3.5.1: the application does not see it, the store is not read, the cookie stays."""
        answer = await request(
            SessionMiddleware(whoami, auth=auth, cookie=SID),
            headers=[*HOST, *cookie(manager.sign_in()), *headers],
            method=method,
            scheme="https",
        )
        assert (answer.status, answer.code) == (403, "cross_site_request")
        assert answer.header("set-cookie") is None
        assert manager.explained == 0

    @pytest.mark.parametrize("headers", OURS.values(), ids=OURS)
    async def test_requests_of_our_own_pages_and_of_programs_are_served(
        self, auth: FakeAuth, manager: FakeTokenManager, headers: Headers
    ) -> None:
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        headers = [*HOST, *cookie(manager.sign_in("ann")), *headers]
        assert (await request(app, headers=headers, method="POST", scheme="https")).body == b"ann"

    async def test_a_host_with_its_schemes_port_is_the_same(self, auth: FakeAuth, manager: FakeTokenManager) -> None:
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        headers = [(b"host", b"Notes.Example:443"), *cookie(manager.sign_in("ann")), *OURS["an old browser"]]
        assert (await request(app, headers=headers, method="POST", scheme="https")).body == b"ann"

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    async def test_links_from_other_sites_lead_here(
        self, auth: FakeAuth, manager: FakeTokenManager, method: str
    ) -> None:
        headers = [*HOST, *cookie(manager.sign_in("ann")), *OTHERS["cross-site"]]
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        assert (await request(app, headers=headers, method=method, scheme="https")).body == b"ann"

    async def test_behind_a_proxy_that_ends_tls_our_own_origin_is_known(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        headers = [*HOST, *cookie(manager.sign_in("ann")), (b"origin", b"https://notes.example")]
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        assert (await request(app, headers=headers, method="POST", scheme="http")).body == b"ann"

    async def test_a_bearer_token_is_nothing_another_site_can_send(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        headers = [*HOST, *bearer(manager.sign_in("ann")), *cookie("c2Fz"), *OTHERS["cross-site"]]
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        assert (await request(app, headers=headers, method="POST", scheme="https")).body == b"ann"

    async def test_a_trusted_origin_may_send_the_same_as_our_own(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        settings = SessionCookie(name="sid", trusted_origins=("https://App.Example.org:443",))
        app = SessionMiddleware(whoami, auth=auth, cookie=settings)
        trusted = [
            *HOST,
            *cookie(manager.sign_in("ann")),
            *OTHERS["same-site"],
            (b"origin", b"https://app.example.org"),
        ]
        assert (await request(app, headers=trusted, method="POST", scheme="https")).body == b"ann"
        other = [*HOST, *cookie(manager.sign_in("ann")), *OTHERS["same-site"], (b"origin", b"https://app.example.or")]
        assert (await request(app, headers=other, method="POST", scheme="https")).status == 403

    @pytest.mark.parametrize("headers", OTHERS.values(), ids=OTHERS)
    async def test_another_site_cannot_sign_a_browser_in(
        self, auth: FakeAuth, manager: FakeTokenManager, headers: Headers
    ) -> None:
        """Login CSRF: the person would write into the attacker's account."""
        answer = await signed_in(auth, manager, [*HOST, *headers], mode="cookie")
        assert (answer.status, answer.code, answer.header("set-cookie")) == (403, "cross_site_request", None)

    async def test_a_proxy_that_changes_the_host_needs_no_setting_where_the_browser_says_the_site(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        changed = [(b"host", b"backend:8000"), (b"origin", b"https://app.example.org"), *cookie(manager.sign_in())]
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        said = [*changed, (b"sec-fetch-site", b"same-origin")]
        assert (await request(app, headers=said, method="POST", scheme="https")).body == b"ann"
        assert (await request(app, headers=changed, method="POST", scheme="https")).code == "cross_site_request"

    async def test_a_development_server_that_changes_the_host_is_named_as_a_trusted_origin(
        self, auth: FakeAuth, manager: FakeTokenManager
    ) -> None:
        """vite with changeOrigin: the Host of the API, the Origin of the page; a WebSocket without Sec-Fetch-Site."""
        page = (b"origin", b"http://localhost:5173")
        headers = [(b"host", b"localhost:8000"), page, (b"cookie", b"sid=" + manager.sign_in().encode())]
        named = SessionCookie(name="sid", insecure_on_localhost=True, trusted_origins=("http://localhost:5173",))
        unnamed = SessionCookie(name="sid", insecure_on_localhost=True)
        call = await websocket(SessionMiddleware(whoami, auth=auth, cookie=unnamed), headers=headers, scheme="ws")
        assert call.denial.code == "cross_site_request"
        answer = await request(SessionMiddleware(whoami, auth=auth, cookie=named), headers=headers, method="POST")
        assert answer.body == b"ann"
        seen: list[object] = []

        async def live(scope: AsgiScope, _receive: Receive, send: Send) -> None:
            seen.append(authentication_of(scope))
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})

        await websocket(SessionMiddleware(live, auth=auth, cookie=named), headers=headers, scheme="ws")
        assert getattr(seen[0], "user_identifier", None) == "ann"
        other = [(name, b"http://127.0.0.1:5173" if name == b"origin" else value) for name, value in headers]
        call = await websocket(SessionMiddleware(whoami, auth=auth, cookie=named), headers=other, scheme="ws")
        assert call.denial.code == "cross_site_request"

    async def test_coming_back_from_another_provider_signs_in(self, auth: FakeAuth, manager: FakeTokenManager) -> None:
        """The last step of OAuth is a redirect, which `state` protects; it is a GET from another site."""
        app = SessionMiddleware(signing_in(manager, "cookie"), auth=auth, cookie=SID)
        answer = await request(app, headers=[*HOST, *OTHERS["cross-site"]], scheme="https")
        assert (answer.header("set-cookie") or "").startswith("__Host-sid=c2Fz")

    @pytest.mark.parametrize("headers", OTHERS.values(), ids=OTHERS)
    async def test_a_websocket_that_another_site_opens_with_the_cookie_is_denied(
        self, auth: FakeAuth, manager: FakeTokenManager, headers: Headers
    ) -> None:
        """ASVS 4.4.2: the Origin of a handshake is checked."""
        app = SessionMiddleware(whoami, auth=auth, cookie=SID)
        call = await websocket(app, headers=[*HOST, *cookie(manager.sign_in()), *headers], scheme="wss")
        assert (call.denial.status, call.denial.code) == (403, "cross_site_request")
        assert manager.explained == 0


class TestSigningIn:
    """`sign_in` with a real store."""

    async def post(self, world: World, headers: Headers, user_id: str, **options: object) -> Answer:
        async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
            success = await sign_in(
                world.auth, scope, auth_user_id=user_id, method="email", mode=cast("Mode | None", options.get("mode"))
            )
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": success.token.encode()})

        middleware = SessionMiddleware(app, auth=world.auth, cookie=SID)
        return await request(middleware, headers=headers, method="POST", scheme="https")

    def token_in(self, answer: Answer) -> str:
        return (answer.header("set-cookie") or "").split(";")[0].removeprefix("__Host-sid=")

    async def test_each_sign_in_has_a_fresh_token_and_ends_the_one_it_replaces(self, world: World) -> None:
        """ASVS 7.2.4: no fixation, nothing left over."""
        user = await world.user()
        first = self.token_in(await self.post(world, ASKS_FOR_COOKIE, user.id))
        second = self.token_in(await self.post(world, [*ASKS_FOR_COOKIE, *cookie(first)], user.id))
        assert first != second
        assert await world.tokens.validate_token(first) is None
        assert await world.tokens.validate_token(second) is not None
        assert len(await world.tokens.list_tokens(auth_user_id=user.id)) == 1

    async def test_a_bearer_token_is_replaced_too(self, world: World) -> None:
        user = await world.user()
        first = (await self.post(world, [], user.id)).body.decode()
        second = (await self.post(world, bearer(first), user.id)).body.decode()
        assert await world.tokens.validate_token(first) is None
        assert await world.tokens.validate_token(second) is not None

    async def test_a_planted_token_is_never_adopted(self, world: World) -> None:
        """Session fixation: an expired, unknown or malformed token does not come back as a session."""
        user = await world.user()
        over = await world.sign_in(user)
        await world.tokens.revoke_token(token_id=over.server_side_session_id)
        for planted in (over.token, "c2FzAAAA", "x"):
            fresh = self.token_in(await self.post(world, [*ASKS_FOR_COOKIE, *cookie(planted)], user.id))
            assert fresh != planted
            assert await world.tokens.validate_token(planted) is None

    async def test_somebody_else_signs_out_first(self, world: World) -> None:
        """A signed-in caller may only issue for themself."""
        ann, bob = await world.user(), await world.user()
        anns = self.token_in(await self.post(world, ASKS_FOR_COOKIE, ann.id))
        answer = await self.post(world, [*ASKS_FOR_COOKIE, *cookie(anns)], bob.id)
        assert (answer.code, answer.header("set-cookie")) == ("sign_in_while_authenticated", None)
        assert await world.tokens.validate_token(anns) is not None

    async def test_a_refused_sign_in_makes_no_session(self, world: World) -> None:
        user = await world.user()
        answer = await self.post(world, [*HOST, *OTHERS["cross-site"]], user.id, mode="cookie")
        assert answer.code == "cross_site_request"
        assert len(await world.tokens.list_tokens(auth_user_id=user.id)) == 0

    async def test_the_session_remembers_the_client(self, world: World) -> None:
        user = await world.user()
        headers = [(b"user-agent", b"python-httpx/0.28.1"), (b"coatcheck-client", b"notes%20on%20ada")]
        await self.post(world, headers, user.id)
        (token,) = await world.tokens.list_tokens(auth_user_id=user.id)
        assert (token.client.label, token.client.user_agent) == ("notes on ada", "python-httpx/0.28.1")
        assert token.client.ip_address == "127.0.0.0/24"

    async def test_an_outage_is_no_sign_out(self, auth: FakeAuth, manager: FakeTokenManager) -> None:
        token = manager.sign_in()
        manager.is_down = True

        async def app(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
            await sign_in(auth, scope, auth_user_id="ann", method="email")

        answer = await request(SessionMiddleware(app, auth=auth, cookie=SID), headers=cookie(token), scheme="https")
        assert (answer.status, answer.header("set-cookie")) == (503, None)
        with pytest.raises(StoreUnavailable):
            await manager.explain_token(token)


class TestSettings:
    @pytest.mark.parametrize("name", ["", "a b", "a;b", "a=b", "é", "a\r\nb", "x" * 201, b"sid", 1, "__Host-sid"])
    def test_a_name_that_no_cookie_can_have_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="SessionCookie name must be"):
            SessionCookie(name=name)

    @pytest.mark.parametrize("same_site", ["None", "lax", None])
    def test_a_cookie_for_every_site_is_refused(self, same_site: str) -> None:
        with pytest.raises(ConfigurationError, match='"Lax" or "Strict"'):
            SessionCookie(same_site=same_site)  # type: ignore[arg-type]  # that is the mistake

    @pytest.mark.parametrize(
        "origin",
        ["", "app.example.org", "https://", "https://a.example/", "https://a.example/path", "https://u@a.example",
         "https://a.example:port", "https://a.example?x", "https://*.example", "ftp://a.example", "null", 1],
    )  # fmt: skip
    def test_a_trusted_origin_that_is_none_is_refused(self, origin: str) -> None:
        with pytest.raises(ConfigurationError, match="trusted_origins must be origins like"):
            SessionCookie(trusted_origins=(origin,))

    def test_one_origin_in_place_of_a_list_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="must be a list"):
            SessionCookie(trusted_origins="https://app.example.org")  # type: ignore[arg-type]  # that is the mistake

    async def test_strict_is_said_to_the_browser(self, auth: FakeAuth, manager: FakeTokenManager) -> None:
        answer = await signed_in(auth, manager, settings=SessionCookie(same_site="Strict"))
        assert "; SameSite=Strict; " in (answer.header("set-cookie") or "")

    def test_the_session_id_is_not_in_an_empty_token(self) -> None:
        """An empty (cookie-mode) token gives a clear error."""
        with pytest.raises(InvalidArgumentError):
            _ = success_of("").server_side_session_id


HEADER_NAMES = [
    b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"cookie", b"authorization", b"coatcheck-mode",
    b"coatcheck-client", b"user-agent", b"x-forwarded-for",
]  # fmt: skip
HEADER_VALUES = st.binary(max_size=60) | st.sampled_from(
    [
        b"localhost:99999",
        b"[::1",
        b"https://[",
        b"https://a:b",
        b"null",
        b"cookie",
        b"__Host-sid=c2Fz",
        b"sid=c2Fz; sid=x",
    ]
)


@given(
    st.lists(st.tuples(st.sampled_from(HEADER_NAMES), HEADER_VALUES), max_size=8),
    st.sampled_from(["GET", "POST", "BREW"]),
    st.sampled_from(["http", "https"]),
)
def test_nothing_a_client_sends_is_an_error(headers: Headers, method: str, scheme: str) -> None:
    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        sign_in_location(scope)
        client_of(scope)
        await whoami(scope, receive, send)

    settings = SessionCookie(name="sid", insecure_on_localhost=True)
    capture = ClientCapture(trusted_proxies=1)
    middleware = SessionMiddleware(app, auth=FakeAuth(), cookie=settings, clients=capture)
    answer = asyncio.run(request(middleware, headers=headers, method=method, scheme=scheme))
    assert answer.status in {200, 403}
    assert all(b"\r" not in value and b"\n" not in value for _, value in answer.headers)
