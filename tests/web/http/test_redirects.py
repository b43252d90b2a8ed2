"""Where a sign-in may lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import TokenRefusal
from coatcheck.web import SessionMiddleware, safe_next, sign_in_location
from tests.web.asgi_calls import bearer, request

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiScope, Receive, Send
    from tests.web.fakes import FakeAuth, FakeTokenManager


@pytest.mark.parametrize(
    "path", ["/", "/notes", "/notes?before=12", "/devices?done=ended", "/a/b%20c/~d?e=%2F&f=+", "/@a:b#//c"]
)
def test_paths_of_this_site_are_gone_to(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        "",
        "notes",
        "https://evil.example",
        "https:evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/notes\n",
        "/notes\r\nSet-Cookie: a=b",
        "/ /evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/@evil.example\\@",
        "/nötes",
        "/\u2215/evil.example",
        "/" + "a" * 512,
    ],
)
def test_everything_else_leads_to_the_front_page(wanted: str | None) -> None:
    assert safe_next(wanted) == "/"


@given(st.text(alphabet="/\\.:@?#%\t\n\r evil", max_size=12))
def test_a_path_that_is_let_through_is_resolved_to_this_site_however_it_is_read(wanted: str) -> None:
    path = safe_next(wanted)
    assert path.startswith("/")
    assert not path.startswith("//")
    assert not set(path) & set("\\\t\n\r ")
    assert urlsplit(urljoin("https://notes.example/a/b", path)).netloc == "notes.example"


class TestSignInLocation:
    async def location(self, auth: FakeAuth, path: str, **options: Any) -> str:
        found: list[str] = []
        back_to = options.pop("back_to", None)

        async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
            found.append(sign_in_location(scope, "/sign-in", back_to=back_to))
            await send({"type": "http.response.start", "status": 303, "headers": []})
            await send({"type": "http.response.body"})

        await request(SessionMiddleware(app, auth=auth), path, **options)
        return found[0]

    async def test_it_leads_back_to_the_page_that_was_asked_for(self, auth: FakeAuth) -> None:
        assert await self.location(auth, "/devices") == "/sign-in?next=/devices"
        assert await self.location(auth, "/notes?before=3&x=%20y") == "/sign-in?next=/notes%3Fbefore%3D3%26x%3D%2520y"
        assert await self.location(auth, "/") == "/sign-in"

    async def test_a_form_that_was_sent_leads_back_to_where_its_page_is(self, auth: FakeAuth) -> None:
        assert await self.location(auth, "/notes", method="POST") == "/sign-in"
        assert await self.location(auth, "/notes/3/delete", method="POST", back_to="/notes") == "/sign-in?next=/notes"

    async def test_a_path_that_is_none_of_ours_is_left_out(self, auth: FakeAuth) -> None:
        assert await self.location(auth, "//evil.example") == "/sign-in"
        assert await self.location(auth, "/" + "x" * 600) == "/sign-in"

    @pytest.mark.parametrize(
        ("refusal", "reason"),
        [(TokenRefusal.EXPIRED, "expired"), (TokenRefusal.INACTIVE, "inactive"), (TokenRefusal.UNKNOWN, "revoked")],
    )
    async def test_it_says_why_the_session_ended(
        self, auth: FakeAuth, manager: FakeTokenManager, refusal: TokenRefusal, reason: str
    ) -> None:
        token = manager.sign_in()
        manager.end(token, refusal)
        found = await self.location(auth, "/devices", headers=bearer(token))
        assert found == f"/sign-in?next=/devices&reason={reason}"

    async def test_a_token_that_never_was_a_session_has_not_ended(self, auth: FakeAuth) -> None:
        assert await self.location(auth, "/devices", headers=bearer("nonsense")) == "/sign-in?next=/devices"
