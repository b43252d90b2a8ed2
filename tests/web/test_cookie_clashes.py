"""Two applications, one host, one name of a cookie: neither takes the other's away, and the log says what to do."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

import pytest

from coatcheck.tokens import TokenRefusal
from coatcheck.web import SessionCookie, SessionMiddleware, authentication_of
from tests.web.asgi_calls import bearer, request
from tests.web.fakes import FakeAuth

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from tests.web.asgi_calls import Answer, Headers

LOCALHOST: Headers = [(b"host", b"localhost:8000")]


@pytest.fixture(autouse=True)
def no_other_applications() -> None:
    """Applications of other tests are gone."""
    gc.collect()


async def page(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    caller = authentication_of(scope)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"nobody" if caller is None else caller.user_identifier.encode()})


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def visit(app: AsgiApp, value: str, name: str = "__Host-coatcheck") -> Answer:
    return await request(app, headers=[(b"cookie", f"{name}={value}".encode())], scheme="https")


class TestTheName:
    def test_it_is_not_the_one_of_other_frameworks(self) -> None:
        assert SessionCookie().name not in {"session", "sessionid", "connect.sid"}

    async def test_applications_with_names_of_their_own_share_a_host(self, caplog: pytest.LogCaptureFixture) -> None:
        """`/crm` and `/wiki`: the browser sends the cookies of both to both."""
        crm, wiki = FakeAuth(), FakeAuth()
        apps = {
            name: SessionMiddleware(page, auth=auth, cookie=SessionCookie(name=name))
            for name, auth in (("crm", crm), ("wiki", wiki))
        }
        anns, bobs = crm.token_manager.sign_in("ann"), wiki.token_manager.sign_in("bob")
        jar = [(b"cookie", f"__Host-crm={anns}; __Host-wiki={bobs}".encode())]
        answers = [await request(app, headers=jar, scheme="https") for app in apps.values()]
        assert [answer.body for answer in answers] == [b"ann", b"bob"]
        assert [answer.header("set-cookie") for answer in answers] == [None, None]
        assert not warnings_in(caplog)


class TestTwoOfOurs:
    async def test_the_other_applications_cookie_is_left_and_a_warning_names_the_setting(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        crm, wiki = FakeAuth(), FakeAuth()
        apps = [SessionMiddleware(page, auth=auth, cookie=SessionCookie()) for auth in (crm, wiki)]
        token = crm.token_manager.sign_in("ann")
        for _ in range(3):
            answer = await visit(apps[1], token)
            assert (answer.body, answer.header("set-cookie")) == (b"nobody", None)
        assert (await visit(apps[0], token)).body == b"ann"
        (warning,) = warnings_in(caplog)
        assert "'__Host-coatcheck'" in warning
        assert "SessionCookie(name=" in warning
        assert token not in warning

    @pytest.mark.parametrize(
        "apps",
        [
            lambda auth: [SessionMiddleware(page, auth=auth, cookie=SessionCookie())],
            lambda auth: [SessionMiddleware(page, auth=auth, cookie=SessionCookie()) for _ in range(2)],
            lambda auth: [
                SessionMiddleware(page, auth=auth, cookie=SessionCookie()),
                SessionMiddleware(page, auth=FakeAuth(), cookie=SessionCookie(name="wiki")),
                SessionMiddleware(page, auth=FakeAuth()),
            ],
        ],
        ids=["one", "one in two places", "other names"],
    )
    async def test_nothing_is_said_where_no_names_clash(self, caplog: pytest.LogCaptureFixture, apps: object) -> None:
        auth = FakeAuth()
        assert callable(apps)
        made = apps(auth)
        revoked = auth.token_manager.sign_in()
        auth.token_manager.end(revoked, TokenRefusal.UNKNOWN)
        assert (await visit(made[0], revoked)).header("set-cookie") is None
        assert not warnings_in(caplog)

    async def test_an_application_that_is_gone_clashes_with_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """As in a test suite, which makes one after the other."""
        gone = SessionMiddleware(page, auth=FakeAuth(), cookie=SessionCookie())
        del gone
        gc.collect()
        auth = FakeAuth()
        revoked = auth.token_manager.sign_in()
        auth.token_manager.end(revoked, TokenRefusal.UNKNOWN)
        await visit(SessionMiddleware(page, auth=auth, cookie=SessionCookie()), revoked)
        assert not warnings_in(caplog)


class TestOnLocalhost:
    COOKIE = SessionCookie(insecure_on_localhost=True)

    async def test_another_applications_cookie_is_left_and_reported_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Another port of the developer's machine is the same site for cookies."""
        app = SessionMiddleware(page, auth=FakeAuth(), cookie=self.COOKIE)
        for _ in range(3):
            answer = await request(app, headers=[*LOCALHOST, (b"cookie", b"coatcheck=eyJhIjoxfQ.aGVsbG8.c2ln")])
            assert answer.header("set-cookie") is None
        (warning,) = warnings_in(caplog)
        assert "cookies know no ports" in warning
        assert "aGVsbG8" not in warning

    async def test_elsewhere_what_cannot_be_a_token_costs_no_line_in_the_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = SessionMiddleware(page, auth=FakeAuth(), cookie=self.COOKIE)
        await visit(app, "nonsense")
        await request(app, headers=[*LOCALHOST, *bearer("nonsense")])
        await request(app, headers=[*LOCALHOST, (b"cookie", b"session=eyJhIjoxfQ.aGVsbG8.c2ln")])
        assert not warnings_in(caplog)
