"""The routes by which people look after their sessions, in every framework that has them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from coatcheck.tokens import TokenRefusal
from coatcheck.web import SessionMiddleware, browser_client_path
from coatcheck.web.fastapi import session_router
from coatcheck.web.routes.browser_client import browser_module
from coatcheck.web.starlette import session_routes
from tests.web.asgi_calls import Headers, bearer, request
from tests.web.fakes import SID

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiApp
    from tests.web.fakes import FakeAuth, FakeTokenManager


def fastapi_app(auth: FakeAuth) -> AsgiApp:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, auth=auth, cookie=SID)
    app.include_router(session_router(auth), prefix="/session")
    return app


def starlette_app(auth: FakeAuth) -> AsgiApp:
    return Starlette(
        routes=[Mount("/session", routes=session_routes(auth))],
        middleware=[Middleware(SessionMiddleware, auth=auth, cookie=SID)],
    )


@pytest.fixture(params=[fastapi_app, starlette_app])
def app(request: pytest.FixtureRequest, auth: FakeAuth) -> AsgiApp:
    made: AsgiApp = request.param(auth)
    return made


def cookie(token: str) -> Headers:
    return [(b"cookie", b"__Host-sid=" + token.encode())]


def id_of(manager: FakeTokenManager, token: str) -> str:
    return next(key for key in manager.sessions if manager.sessions[key] is manager.session_of(token))


async def test_am_i_signed_in(app: AsgiApp, manager: FakeTokenManager) -> None:
    """Is signed in → bool; it works for those who are not, too."""
    token = manager.sign_in("ann", {"notes:write", "notes:read"})
    answer = await request(app, "/session/status", headers=bearer(token))
    assert answer.json == {
        "signed_in": True,
        "user_id": "ann",
        "session_id": id_of(manager, token),
        "scopes": ["notes:read", "notes:write"],
        "reason": None,
        "events": None,
    }
    for headers in ([], bearer("nonsense")):
        answer = await request(app, "/session/status", headers=headers)
        assert (answer.status, answer.json["signed_in"], answer.json["user_id"]) == (200, False, None)


@pytest.mark.parametrize("refusal", list(TokenRefusal))
async def test_only_the_holder_of_an_ended_session_is_told_its_deadline(
    app: AsgiApp, manager: FakeTokenManager, refusal: TokenRefusal
) -> None:
    token = manager.sign_in()
    manager.end(token, refusal)
    answer = await request(app, "/session/status", headers=bearer(token))
    assert answer.json["signed_in"] is False
    others = None if refusal is TokenRefusal.NOT_A_TOKEN else "revoked"
    assert answer.json["reason"] == (refusal.value if refusal.is_for_the_holder else others)


async def test_a_client_that_shows_no_token_is_given_no_reason(app: AsgiApp) -> None:
    answer = await request(app, "/session/status")
    assert (answer.json["signed_in"], answer.json["reason"]) == (False, None)


async def test_down_is_not_signed_out(app: AsgiApp, manager: FakeTokenManager) -> None:
    token = manager.sign_in()
    manager.is_down = True
    for method, path in [("GET", "status"), ("POST", "sign-out"), ("POST", "sign-out-all"), ("GET", "sessions")]:
        answer = await request(app, f"/session/{path}", headers=bearer(token), method=method)
        assert (answer.status, answer.code) == (503, "store_unavailable")
        assert answer.header("retry-after") is not None


async def test_signing_out_ends_this_session_only(app: AsgiApp, manager: FakeTokenManager) -> None:
    """Sign out device → ends the presented session."""
    here, there = manager.sign_in("ann"), manager.sign_in("ann")
    answer = await request(app, "/session/sign-out", headers=bearer(here), method="POST")
    assert (answer.status, answer.json) == (200, {"ended": 1})
    assert await manager.validate_token(here) is None
    assert await manager.validate_token(there) is not None


async def test_signing_out_when_not_signed_in_is_no_error(app: AsgiApp, manager: FakeTokenManager) -> None:
    """Sign out device → no error if there is no session."""
    ended = manager.sign_in()
    manager.end(ended, TokenRefusal.EXPIRED)
    for headers in ([], bearer(ended), cookie(ended)):
        answer = await request(app, "/session/sign-out", headers=headers, method="POST")
        assert (answer.status, answer.json) == (200, {"ended": 0})


async def test_signing_out_everywhere_ends_all_of_mine(app: AsgiApp, manager: FakeTokenManager) -> None:
    """Sign out all devices → ends all of the user's, and nobody else's."""
    here, there, bobs = manager.sign_in("ann"), manager.sign_in("ann"), manager.sign_in("bob")
    answer = await request(app, "/session/sign-out-all", headers=bearer(here), method="POST")
    assert (answer.status, answer.json) == (200, {"ended": 2})
    assert [await manager.validate_token(token) is None for token in (here, there, bobs)] == [True, True, False]


@pytest.mark.parametrize("method_and_path", [("POST", "sign-out-all"), ("GET", "sessions"), ("DELETE", "sessions/x")])
async def test_a_stranger_is_told_to_sign_in_before_anything_else(
    app: AsgiApp, method_and_path: tuple[str, str]
) -> None:
    method, path = method_and_path
    answer = await request(app, f"/session/{path}", method=method)
    assert (answer.status, answer.code) == (401, "authentication_required")


@pytest.mark.parametrize("path", ["sign-out", "sign-out-all"])
async def test_signing_out_makes_the_browser_forget_the_cookie(
    app: AsgiApp, manager: FakeTokenManager, path: str
) -> None:
    """In cookie mode sign-out expires the cookie."""
    answer = await request(app, f"/session/{path}", headers=cookie(manager.sign_in()), method="POST")
    assert answer.status == 200
    assert answer.header("set-cookie") == "__Host-sid=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure"
    assert answer.header("cache-control") == "no-store"


async def test_signing_out_clears_the_cookie_of_a_session_that_is_over(app: AsgiApp, manager: FakeTokenManager) -> None:
    token = manager.sign_in()
    manager.end(token, TokenRefusal.INACTIVE)
    answer = await request(app, "/session/sign-out", headers=cookie(token), method="POST")
    assert answer.json == {"ended": 0}
    assert (answer.header("set-cookie") or "").startswith("__Host-sid=; ")


async def test_signing_out_leaves_a_cookie_that_may_be_another_applications(
    app: AsgiApp, manager: FakeTokenManager
) -> None:
    unknown = manager.sign_in()
    manager.end(unknown, TokenRefusal.UNKNOWN)
    for value, status in (("nonsense", 409), (unknown, 200)):
        answer = await request(app, "/session/sign-out", headers=cookie(value), method="POST")
        assert (answer.status, answer.json["ended"], answer.header("set-cookie")) == (status, 0, None)


async def test_nothing_but_signing_out_touches_the_cookie(app: AsgiApp, manager: FakeTokenManager) -> None:
    token = manager.sign_in()
    manager.is_down = True
    for path in ("status", "sessions"):
        assert (await request(app, f"/session/{path}", headers=cookie(token))).header("set-cookie") is None


async def test_my_sessions_are_listed_without_any_token(app: AsgiApp, manager: FakeTokenManager) -> None:
    here, there = manager.sign_in("ann", {"b", "a"}, "email"), manager.sign_in("ann", (), "passkey")
    manager.sign_in("bob")
    answer = await request(app, "/session/sessions", headers=bearer(here))
    assert answer.json == {
        "sessions": [
            {
                "id": id_of(manager, here),
                "method": "email",
                "scopes": ["a", "b"],
                "created_at": "2026-01-02T03:04:05Z",
                "last_used_at": "2026-01-02T03:04:05Z",
                "expires_at": None,
                "current": True,
                "label": None,
                "user_agent": None,
                "ip_address": None,
            },
            {
                "id": id_of(manager, there),
                "method": "passkey",
                "scopes": [],
                "created_at": "2026-01-02T03:04:05Z",
                "last_used_at": "2026-01-02T03:04:05Z",
                "expires_at": None,
                "current": False,
                "label": None,
                "user_agent": None,
                "ip_address": None,
            },
        ],
        "next_after": None,
    }
    assert here.encode() not in answer.body
    assert there.encode() not in answer.body


async def test_my_sessions_come_a_page_at_a_time(app: AsgiApp, manager: FakeTokenManager) -> None:
    tokens = [manager.sign_in("ann") for _ in range(5)]
    found: list[str] = []
    after = ""
    for size in (2, 2, 1):
        answer = await request(app, f"/session/sessions?limit=2{after}", headers=bearer(tokens[0]))
        assert len(answer.json["sessions"]) == size
        found += [session["id"] for session in answer.json["sessions"]]
        after = f"&after={answer.json['next_after']}"
    assert answer.json["next_after"] is None
    assert found == sorted(manager.sessions)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1e9", "limit=" + "9" * 5000]
)
async def test_a_wrong_limit_is_the_clients_error(app: AsgiApp, manager: FakeTokenManager, query: str) -> None:
    answer = await request(app, f"/session/sessions?{query}", headers=bearer(manager.sign_in()))
    assert answer.status in {400, 422}
    assert b"limit" in answer.body


@pytest.mark.parametrize("after", ["x", "", "%00", "%ff", "9" * 5000 + ":"])
async def test_a_wrong_after_is_the_clients_error(app: AsgiApp, manager: FakeTokenManager, after: str) -> None:
    answer = await request(app, f"/session/sessions?after={after}", headers=bearer(manager.sign_in()))
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert "after" in answer.json["detail"]


async def test_one_of_mine_is_ended(app: AsgiApp, manager: FakeTokenManager) -> None:
    here, there = manager.sign_in("ann"), manager.sign_in("ann")
    path = f"/session/sessions/{id_of(manager, there)}"
    answer = await request(app, path, headers=bearer(here), method="DELETE")
    assert (answer.status, answer.body) == (204, b"")
    assert await manager.validate_token(there) is None
    assert await manager.validate_token(here) is not None
    again = await request(app, path, headers=bearer(here), method="DELETE")
    assert (again.status, again.code) == (404, "session_not_found")


@pytest.mark.parametrize(
    "unknown", ["01890a5d-ac96-774b-bcce-b302099a8057", "not-a-uuid", "%00", "%ff", "..", "x" * 5000, "\u2028"]
)
async def test_an_unknown_session_is_not_found(app: AsgiApp, manager: FakeTokenManager, unknown: str) -> None:
    token = manager.sign_in()
    answer = await request(app, f"/session/sessions/{unquote(unknown)}", headers=bearer(token), method="DELETE")
    assert (answer.status, answer.code) == (404, "session_not_found")


async def test_somebody_elses_session_is_not_found_and_lives_on(app: AsgiApp, manager: FakeTokenManager) -> None:
    """The same answer, to the byte, as for an id that never was."""
    anns, bobs = manager.sign_in("ann"), manager.sign_in("bob")
    answers = [
        await request(app, f"/session/sessions/{session_id}", headers=bearer(anns), method="DELETE")
        for session_id in (id_of(manager, bobs), "01890a5d-ac96-774b-bcce-b302099a8057")
    ]
    assert answers[0] == answers[1]
    assert (answers[0].status, answers[0].code) == (404, "session_not_found")
    assert await manager.validate_token(bobs) is not None


@pytest.mark.parametrize("path", ["sign-out", "sign-out-all"])
async def test_signing_out_is_not_done_by_following_a_link(app: AsgiApp, manager: FakeTokenManager, path: str) -> None:
    token = manager.sign_in()
    assert (await request(app, f"/session/{path}", headers=cookie(token))).status == 405
    assert await manager.validate_token(token) is not None


async def test_every_answer_to_a_signed_in_caller_stays_out_of_caches(app: AsgiApp, manager: FakeTokenManager) -> None:
    for path in ("status", "sessions", "sessions?limit=0"):
        answer = await request(app, f"/session/{path}", headers=bearer(manager.sign_in()))
        assert answer.header("cache-control") == "no-store"
        assert answer.header("vary") == "Authorization, Cookie"


async def test_the_versioned_name_is_kept_for_good(app: AsgiApp, manager: FakeTokenManager) -> None:
    answer = await request(app, browser_client_path("/session"), headers=bearer(manager.sign_in()))
    assert (answer.status, answer.body) == (200, browser_module().content)
    assert answer.header("cache-control") == "public, max-age=31536000, immutable"
    assert (answer.header("content-type") or "").startswith("text/javascript")
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("vary") is None


async def test_the_lasting_name_is_asked_for_again(app: AsgiApp) -> None:
    answer = await request(app, "/session/client.js")
    assert (answer.status, answer.header("cache-control")) == (200, "no-cache")
    again = await request(
        app, "/session/client.js", headers=[(b"if-none-match", (answer.header("etag") or "").encode())]
    )
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "name", ["client-0.0.1-0123456789abcdef.js", "client-.js", "client.mjs", "client-/../client.js"]
)
async def test_another_version_is_not_served(app: AsgiApp, name: str) -> None:
    assert (await request(app, f"/session/{name}")).status == 404


def test_the_path_follows_where_the_session_routes_are() -> None:
    assert browser_client_path("/api/session/").startswith("/api/session/client-")
