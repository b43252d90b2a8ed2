"""The way to the sign-in page says where to go back to, and why the session ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from coatcheck import TokenRefusal
from coatcheck.web import SessionMiddleware, next_location, sign_in_location
from tests.web.asgi_calls import bearer, request

if TYPE_CHECKING:
    from starlette.requests import Request

    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
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


# How an application comes to be below "/app", and the path and root_path that its server gives it.
BELOW_A_PATH = {
    "the server knows the path, and keeps it": ("/app/notes", "/app"),
    "the server knows the path, and the proxy has stripped it": ("/notes", "/app"),
    "the same, with a slash at its end": ("/app/notes", "/app/"),
}


@pytest.mark.parametrize(("path", "root_path"), BELOW_A_PATH.values(), ids=BELOW_A_PATH)
async def test_below_a_path_the_way_stays_inside_the_application(auth: FakeAuth, path: str, root_path: str) -> None:
    assert await location(auth, f"{path}?a=1", root_path=root_path) == "/app/sign-in?next=/app/notes%3Fa%3D1"
    found = await location(auth, path, root_path=root_path, method="POST", back_to="/notes")
    assert found == "/app/sign-in?next=/app/notes"
    found = await location(auth, path, root_path=root_path, method="POST", back_to="/app/notes")
    assert found == "/app/sign-in?next=/app/notes"
    assert await location(auth, "/app/", root_path=root_path) == "/app/sign-in"


async def found_at(app: AsgiApp, path: str, root_path: str = "") -> str:
    return (await request(app, path, root_path=root_path)).body.decode()


async def notes(connection: Request) -> PlainTextResponse:
    return PlainTextResponse(sign_in_location(connection))


async def test_a_mounted_application_has_its_own_sign_in_page(auth: FakeAuth) -> None:
    inner = SessionMiddleware(Starlette(routes=[Route("/notes", notes)]), auth=auth)
    site = Starlette(routes=[Mount("/app", inner)])
    assert await found_at(site, "/app/notes") == "/app/sign-in?next=/app/notes"
    assert await found_at(site, "/x/app/notes", root_path="/x") == "/x/app/sign-in?next=/x/app/notes"


async def test_a_mount_that_groups_routes_has_that_of_the_application(auth: FakeAuth) -> None:
    app = SessionMiddleware(Starlette(routes=[Mount("/account", routes=[Route("/notes", notes)])]), auth=auth)
    assert await found_at(app, "/account/notes") == "/sign-in?next=/account/notes"
    assert await found_at(app, "/app/account/notes", root_path="/app") == "/app/sign-in?next=/app/account/notes"


async def test_a_client_does_not_choose_the_path_of_the_application(auth: FakeAuth) -> None:
    headers = [(b"x-forwarded-prefix", b"/evil"), (b"x-script-name", b"/evil"), (b"x-forwarded-uri", b"/evil")]
    assert await location(auth, "/notes", headers=headers) == "/sign-in?next=/notes"
    assert await location(auth, "/notes", root_path="//evil.example") == "/sign-in"


@pytest.mark.parametrize(
    ("wanted", "goes_to"),
    [
        ("/app/notes?a=1#b", "/app/notes?a=1#b"),
        ("/app", "/app"),
        ("/app?a=1", "/app?a=1"),
        ("/application", "/app/home"),
        ("/other", "/app/home"),
        ("/app/../other", "/app/home"),
        ("/app/%2E%2e/other", "/app/home"),
        ("/app/.%2e?x", "/app/home"),
        ("/app/..", "/app/home"),
        ("/app/notes?a=/../b", "/app/notes?a=/../b"),
        ("//evil.example", "/app/home"),
        ("https://evil.example", "/app/home"),
        ("", "/app/home"),
        (None, "/app/home"),
    ],
)
@pytest.mark.parametrize("default", ["/home", "/app/home"])
def test_the_way_back_stays_inside_the_application(wanted: str | None, goes_to: str, default: str) -> None:
    assert next_location({"path": "/app/sign-in", "root_path": "/app"}, wanted, default) == goes_to


def test_the_way_back_is_any_page_where_the_application_has_the_whole_site() -> None:
    assert next_location({"path": "/sign-in", "root_path": ""}, "/other") == "/other"
    assert next_location({"path": "/sign-in"}, "//evil.example", "/home") == "/home"
