"""Mistakes in an application on the web are named where they are made, and the message says what to write."""

# FastAPI reads these annotations when the routes are defined, so their names are imported for real.

import itertools
import logging
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, Security
from fastapi.middleware.cors import CORSMiddleware

from coatcheck.errors import ConfigurationError
from coatcheck.tokens import AuthenticationInfo, SignInAttempt
from coatcheck.web import SessionCookie, SessionMiddleware, authentication_of, sign_in
from coatcheck.web.asgi import AsgiScope, Receive, Send
from coatcheck.web.fastapi import BeginsSignIn, Requires
from coatcheck.web.http import cross_site
from tests.web.asgi_calls import bearer, request
from tests.web.fakes import FakeAuth, FakeTokenManager

INSIDE_DEPENDS = r"inside of Depends\(\.\.\.\).*write Annotated\[{}.*without Depends"


class BeginningTokenManager(FakeTokenManager):
    async def begin_sign_in(self, auth_user_id: object = None, **_: object) -> SignInAttempt:
        return SignInAttempt(None)


class TestSignatures:
    async def test_a_requirement_may_be_the_default_of_a_parameter(self) -> None:
        api, auth = FastAPI(), FakeAuth(BeginningTokenManager())

        @api.get("/notes")
        async def notes(caller: AuthenticationInfo = Requires("notes:read")) -> str:  # noqa: B008 (the point of the test)
            return caller.user_identifier

        @api.get("/attempt")
        async def attempt(attempt: SignInAttempt = BeginsSignIn(auth)) -> bool:  # noqa: B008 (the point of the test)
            return isinstance(attempt, SignInAttempt)

        app = SessionMiddleware(api, auth=auth)
        token = auth.token_manager.sign_in("ann", ["notes:read"])
        assert (await request(app, "/notes", headers=bearer(token))).json == "ann"
        assert (await request(app, "/notes", headers=bearer(auth.token_manager.sign_in()))).status == 403
        assert (await request(app, "/notes")).status == 401
        assert (await request(app, "/attempt")).json is True

    @pytest.mark.parametrize("around", [Depends, Security])
    def test_a_requirement_inside_of_depends_is_named(self, around: type) -> None:
        async def annotated(caller: Annotated[AuthenticationInfo, around(Requires("notes:read"))]) -> None: ...
        async def default(caller: AuthenticationInfo = around(Requires())) -> None: ...  # noqa: B008 (the point of the test)

        for route in (annotated, default):
            with pytest.raises(ConfigurationError, match=r"Requires\(\.\.\.\).*" + INSIDE_DEPENDS.format("Auth")):
                FastAPI().get("/")(route)
        with pytest.raises(ConfigurationError, match=INSIDE_DEPENDS.format("Auth")):
            FastAPI().get("/", dependencies=[around(Requires("admin"))])(lambda: None)

    def test_a_sign_in_that_begins_inside_of_depends_is_named(self) -> None:
        auth = FakeAuth()

        async def route(attempt: Annotated[SignInAttempt, Depends(BeginsSignIn(auth))]) -> None: ...

        with pytest.raises(ConfigurationError, match=r"BeginsSignIn\(\.\.\.\).*" + INSIDE_DEPENDS.format("SignIn")):
            FastAPI().post("/")(route)

    def test_a_bare_parameter_is_named_where_the_route_is_defined(self) -> None:
        async def caller(caller: AuthenticationInfo) -> None: ...
        async def possible(caller: AuthenticationInfo | None = None) -> None: ...
        async def attempt(attempt: SignInAttempt) -> None: ...

        for route, words in (
            (caller, r"bare AuthenticationInfo.*SignedIn.*MaybeSignedIn.*Requires"),
            (possible, r"bare AuthenticationInfo.*MaybeSignedIn"),
            (attempt, r"bare SignInAttempt.*BeginsSignIn\(auth\)"),
        ):
            with pytest.raises(ConfigurationError, match=words):
                FastAPI().get("/")(route)
            with pytest.raises(ConfigurationError, match=words):
                FastAPI().websocket("/")(route)

    def test_an_answer_with_the_caller_is_named_where_the_route_is_defined(self) -> None:
        async def me(caller: Annotated[AuthenticationInfo, Requires()]) -> AuthenticationInfo:
            return caller

        with pytest.raises(ConfigurationError, match="answer with members of your own"):
            FastAPI().get("/me")(me)


async def signing_in(auth: FakeAuth, settings: SessionCookie, **sent: object) -> None:
    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        await sign_in(auth, scope, auth_user_id="ann", method="email", mode="cookie")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    await request(SessionMiddleware(app, auth=auth, cookie=settings), **sent)  # type: ignore[arg-type]  # its options


class TestCookies:
    async def test_a_test_client_is_told_of_its_host_and_not_of_a_setting_that_is_on(self) -> None:
        settings = SessionCookie(insecure_on_localhost=True)
        with pytest.raises(ConfigurationError) as raised:
            await signing_in(FakeAuth(), settings, headers=[(b"host", b"testserver")], scheme="http")
        assert "'testserver'" in str(raised.value)
        assert 'TestClient(app, base_url="https://testserver")' in str(raised.value)
        assert "insecure_on_localhost" not in str(raised.value)
        await signing_in(FakeAuth(), settings, headers=[(b"host", b"testserver")], scheme="https")

    async def test_a_host_of_any_length_makes_a_short_message(self) -> None:
        with pytest.raises(ConfigurationError) as raised:
            await signing_in(
                FakeAuth(), SessionCookie(insecure_on_localhost=True), headers=[(b"host", b"x" * 5000)], scheme="http"
            )
        assert len(str(raised.value)) < 600


class TestOtherOrigins:
    @pytest.fixture(autouse=True)
    def nothing_said_yet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cross_site, "_hinted", set())

    @staticmethod
    async def refused_with(auth: FakeAuth, origin: bytes, settings: SessionCookie) -> int:
        """The status of a POST by a page of `origin`, which headers for CORS allow to read the answer."""

        async def page(scope: AsgiScope, _receive: Receive, send: Send) -> None:
            authentication_of(scope)
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        inner = SessionMiddleware(page, auth=auth, cookie=settings)
        app = CORSMiddleware(inner, allow_origins=["https://app.example.org"], allow_credentials=True)
        cookie = f"__Host-{settings.name}={auth.token_manager.sign_in()}".encode()
        headers = [(b"host", b"api.example.org"), (b"origin", origin), (b"cookie", cookie)]
        return (await request(app, method="POST", headers=headers, scheme="https")).status

    async def test_the_log_names_the_setting_that_headers_for_cors_are_not(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "coatcheck")
        auth, origin = FakeAuth(), "https://app.example.org"
        for _ in range(2):
            assert await self.refused_with(auth, origin.encode(), SessionCookie()) == 403
        (said,) = caplog.messages  # once
        assert f"SessionCookie(trusted_origins=['{origin}'])" in said
        assert "CORS" in said
        assert await self.refused_with(auth, origin.encode(), SessionCookie(trusted_origins=(origin,))) == 204

    async def test_a_sign_in_by_another_origins_page_is_named_in_the_log_too(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "coatcheck")
        headers = [(b"host", b"api.example.org"), (b"origin", b"https://app.example.org")]
        await signing_in(FakeAuth(), SessionCookie(), method="POST", headers=headers, scheme="https")
        assert [message for message in caplog.messages if "trusted_origins=['https://app.example.org']" in message]

    async def test_strangers_cannot_fill_the_log_nor_write_into_it(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING, "coatcheck")
        auth = FakeAuth()
        for origin in (b"null", b"https://a.example\xff", b"https://a.example'] # b", b"https://" + b"a" * 5000):
            assert await self.refused_with(auth, origin, SessionCookie()) == 403
        assert caplog.messages == []
        for number in itertools.islice(itertools.count(), 50):
            await self.refused_with(auth, b"https://%d.example" % number, SessionCookie())
        assert len(caplog.messages) == 10
