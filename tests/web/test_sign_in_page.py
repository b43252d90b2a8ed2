"""The way to the sign-in page says where to go back to, and why the session ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coatcheck import TokenRefusal
from coatcheck.web import SessionMiddleware, sign_in_location
from tests.web.asgi_calls import bearer, request

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiScope, Receive, Send
    from tests.web.fakes import FakeAuth, FakeTokenManager


async def location(auth: FakeAuth, path: str, **options: Any) -> str:
    found: list[str] = []
    back_to = options.pop("back_to", None)

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        found.append(sign_in_location(scope, "/sign-in", back_to=back_to))
        await send({"type": "http.response.start", "status": 303, "headers": []})
        await send({"type": "http.response.body"})

    await request(SessionMiddleware(app, auth=auth), path, **options)
    return found[0]


async def test_the_way_to_the_sign_in_page_leads_back_to_the_page_that_was_asked_for(auth: FakeAuth) -> None:
    assert await location(auth, "/devices") == "/sign-in?next=/devices"
    assert await location(auth, "/notes?before=3&x=%20y") == "/sign-in?next=/notes%3Fbefore%3D3%26x%3D%2520y"
    assert await location(auth, "/") == "/sign-in"


async def test_a_form_that_was_sent_leads_back_to_where_its_page_is(auth: FakeAuth) -> None:
    assert await location(auth, "/notes", method="POST") == "/sign-in"
    assert await location(auth, "/notes/3/delete", method="POST", back_to="/notes") == "/sign-in?next=/notes"


async def test_a_path_that_is_none_of_ours_is_left_out(auth: FakeAuth) -> None:
    assert await location(auth, "//evil.example") == "/sign-in"
    assert await location(auth, "/" + "x" * 600) == "/sign-in"


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [(TokenRefusal.EXPIRED, "expired"), (TokenRefusal.INACTIVE, "inactive"), (TokenRefusal.UNKNOWN, "revoked")],
)
async def test_the_sign_in_page_is_told_why_the_session_ended(
    auth: FakeAuth, manager: FakeTokenManager, refusal: TokenRefusal, reason: str
) -> None:
    token = manager.sign_in()
    manager.end(token, refusal)
    found = await location(auth, "/devices", headers=bearer(token))
    assert found == f"/sign-in?next=/devices&reason={reason}"


async def test_a_token_that_never_was_a_session_has_not_ended(auth: FakeAuth) -> None:
    assert await location(auth, "/devices", headers=bearer("nonsense")) == "/sign-in?next=/devices"
