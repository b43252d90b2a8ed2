"""A FastAPI application on a pod with the SQLite store, from sign-in to the end of the session."""

# FastAPI reads these annotations when the routes are defined, so their names are imported for real.

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from starlette.types import Lifespan

from coatcheck import (
    AuthenticationInfo,
    AuthServices,
    AuthSuccess,
    AuthUser,
    Pod,
    ServerSideSessionsConfig,
    ServerSideSessionsTokenManager,
)
from coatcheck.clock import from_us
from coatcheck.errors import StoreUnavailable
from coatcheck.identifiers import SessionId
from coatcheck.stores.records import SessionReading
from coatcheck.web import PodLifespan, SessionMiddleware, require
from coatcheck.web.asgi import AsgiApp, AsgiMessage, AsgiScope, Receive, Send
from coatcheck.web.fastapi import MaybeSignedIn, Requires, SignedIn, session_router
from tests.web.asgi_calls import bearer, request, websocket
from tests.web.fakes import SID
from tests.web.malformed import MALFORMED_BEARER, MALFORMED_COOKIE, refusal_of

PEPPER = "a pepper of thirty-two bytes ok!"


@dataclass
class MovableClock:
    """A clock that the test moves."""

    us: int = 1_700_000_000_000_000

    def now_us(self) -> int:
        return self.us

    def advance(self, duration: timedelta) -> None:
        self.us += duration // timedelta(microseconds=1)


@dataclass
class Site:
    """The application, its pod, and how often its store was read for a validation."""

    pod: Pod
    auth: AuthServices
    app: AsgiApp
    clock: MovableClock
    reads: list[SessionId] = field(default_factory=list)
    is_down: bool = False

    def spy(self) -> None:
        read = self.pod.store.read_session

        async def counted(session_id: SessionId) -> SessionReading | None:
            self.reads.append(session_id)
            if self.is_down:
                raise StoreUnavailable("down")
            return await read(session_id)

        self.pod.store.read_session = counted  # type: ignore[method-assign]  # a spy

    async def user(self, *scopes: str) -> AuthUser:
        return await self.auth.auth_users.create(scopes=set(scopes))

    async def sign_in(self, user: AuthUser) -> AuthSuccess:
        return await self.auth.token_manager.create_token(auth_user_id=user.id, method="email")

    def client(self, success: AuthSuccess | None = None) -> httpx.AsyncClient:
        headers = {} if success is None else {"Authorization": f"Bearer {success.token}"}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://notes.example", headers=headers
        )


def notes_app(auth: AuthServices, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    app = FastAPI(lifespan=lifespan)
    app.add_middleware(SessionMiddleware, auth=auth, cookie=SID)
    app.include_router(session_router(auth), prefix="/session")

    @app.get("/profile")
    async def profile(user: SignedIn) -> str:
        return user.user_identifier

    @app.get("/front")
    async def front(user: MaybeSignedIn) -> str:
        return user.user_identifier if user else "anonymous"

    @app.post("/notes")
    async def add_note(user: Annotated[AuthenticationInfo, Requires("notes:write")]) -> str:
        return user.user_identifier

    @app.websocket("/live")
    async def live(socket: WebSocket, user: SignedIn) -> None:
        await socket.accept()
        await socket.send_text(user.user_identifier)

    return app


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock = MovableClock()
    pod = Pod(f"sqlite:///{tmp_path}/notes.db", environ={}, config_dir=tmp_path, prune_interval=None, clock=clock)
    auth = pod.initialize_auth_services(
        token_manager_builders=[
            ServerSideSessionsConfig(
                session_key_hash_pepper=PEPPER,
                default_session_lifetime=timedelta(days=30),
                default_session_inactivity_timeout=timedelta(days=7),
            )
        ]
    )
    async with pod:
        site = Site(pod, auth, notes_app(auth), clock)
        site.spy()
        yield site


async def test_a_session_works_until_it_is_ended_on_another_device(site: Site) -> None:
    """The example that is the main job: revoked from a second browser, it is out on its next request."""
    user = await site.user("notes:write")
    async with site.client(await site.sign_in(user)) as laptop, site.client(await site.sign_in(user)) as phone:
        assert (await laptop.post("/notes")).json() == user.id
        sessions = (await phone.get("/session/sessions")).json()["sessions"]
        assert [session["method"] for session in sessions] == ["email", "email"]
        (other,) = [session for session in sessions if not session["current"]]
        assert (await phone.delete(f"/session/sessions/{other['id']}")).status_code == 204
        out = await laptop.post("/notes")
        assert (out.status_code, out.json()["code"]) == (401, "invalid_token")
        assert (await phone.post("/notes")).status_code == 200


async def test_a_strangers_session_cannot_be_ended(site: Site) -> None:
    ann, bob = await site.sign_in(await site.user()), await site.sign_in(await site.user())
    async with site.client(ann) as anns, site.client(bob) as bobs:
        answer = await anns.delete(f"/session/sessions/{bob.server_side_session_id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
        assert (await bobs.get("/profile")).status_code == 200


@pytest.mark.parametrize(
    "unknown", ["x", "%00", "%ff", "%ed%a0%80", "x" * 5000, "01890a5d-ac96-774b-bcce-b302099a8057"]
)
async def test_an_unknown_session_is_not_found(site: Site, unknown: str) -> None:
    """Revoking an id that is unknown, or not a UUID, is no error and revokes nothing."""
    async with site.client(await site.sign_in(await site.user())) as client:
        answer = await client.delete(f"/session/sessions/{unknown}")
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
        assert (await client.get("/profile")).status_code == 200


async def test_signed_in_signed_out_here_and_everywhere(site: Site) -> None:
    """Is signed in; sign out device; sign out all devices."""
    user = await site.user()
    here, there, elsewhere = [await site.sign_in(user) for _ in range(3)]
    async with site.client(here) as first, site.client(there) as second, site.client(elsewhere) as third:
        status = (await first.get("/session/status")).json()
        assert (status["signed_in"], status["user_id"]) == (True, user.id)
        assert status["session_id"] == here.server_side_session_id
        assert (await first.post("/session/sign-out")).json() == {"ended": 1}
        assert (await first.get("/session/status")).json()["signed_in"] is False
        assert (await first.post("/session/sign-out")).json() == {"ended": 0}
        assert (await second.post("/session/sign-out-all")).json() == {"ended": 2}
        assert (await third.get("/profile")).status_code == 401


async def test_signing_out_in_a_browser_expires_the_cookie_even_if_ending_the_session_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cookie first, then the session."""
    success = await site.sign_in(await site.user())

    async def fail(**_: object) -> bool:
        raise StoreUnavailable("down")

    async with site.client() as browser:
        browser.cookies.set("__Host-sid", success.token, domain="notes.example", path="/")
        with monkeypatch.context() as patch:
            patch.setattr(site.auth.token_manager, "revoke_token", fail)
            answer = await browser.post("/session/sign-out")
        assert answer.status_code == 503
        assert "__Host-sid" not in browser.cookies
        assert (await browser.get("/front")).json() == "anonymous"
    async with site.client(success) as client:
        assert (await client.get("/profile")).status_code == 200


async def test_scopes_are_live(site: Site) -> None:
    """U5: taken from the user, a scope is gone from the session on its next request."""
    user = await site.user("notes:write")
    async with site.client(await site.sign_in(user)) as client:
        assert (await client.post("/notes")).status_code == 200
        await site.auth.auth_users.update(user.id, scopes=set())
        answer = await client.post("/notes")
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
        await site.auth.auth_users.update(user.id, scopes={"notes:write"})
        assert (await client.post("/notes")).status_code == 200
        await site.auth.auth_users.update(user.id, blocked=True)
        assert (await client.post("/notes")).status_code == 401


async def test_an_expired_session_is_said_to_be_expired(site: Site) -> None:
    sessions = site.auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions
    tomorrow = from_us(site.clock.now_us()) + timedelta(days=1)
    success = await sessions.create_session((await site.user()).id, method="email", expires_at=tomorrow)
    async with site.client(success) as client:
        site.clock.advance(timedelta(days=1, microseconds=-1))
        assert (await client.get("/profile")).status_code == 200
        site.clock.advance(timedelta(microseconds=1))
        answer = await client.get("/profile")
        assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (401, "invalid_token", "expired")
        assert (await client.get("/session/status")).json()["reason"] == "expired"


async def test_an_unused_session_is_said_to_be_inactive(site: Site) -> None:
    success = await site.sign_in(await site.user())
    site.clock.advance(timedelta(days=7))
    async with site.client(success) as client:
        assert (await client.get("/profile")).json()["reason"] == "inactive"


@pytest.mark.parametrize("value", MALFORMED_BEARER.values(), ids=MALFORMED_BEARER)
async def test_a_malformed_token_costs_no_read(site: Site, value: bytes) -> None:
    headers = [(b"authorization", value)]
    answer = await request(site.app, "/profile", headers=headers)
    assert (answer.status, answer.code) == (401, "invalid_token")
    assert (await websocket(site.app, "/live", headers=headers)).denial.status == 401
    assert (await request(site.app, "/front", headers=headers)).json == "anonymous"
    assert site.reads == []


@pytest.mark.parametrize("value", MALFORMED_COOKIE.values(), ids=MALFORMED_COOKIE)
async def test_a_malformed_cookie_costs_no_read(site: Site, value: bytes) -> None:
    answer = await request(site.app, "/profile", headers=[(b"cookie", value)])
    assert (answer.status, answer.code) == refusal_of(value)
    assert site.reads == []


async def test_every_single_changed_character_is_refused(site: Site) -> None:
    """No two spellings of one token, and no 500 for any."""
    token = (await site.sign_in(await site.user())).token
    for place in range(len(token)):
        for other in "A-_z9=+/ é\x00":
            if other != token[place]:
                changed = token[:place] + other + token[place + 1 :]
                answer = await request(site.app, "/profile", headers=bearer(changed))
                assert (answer.status, answer.code) == (401, "invalid_token")


async def test_the_right_id_with_a_wrong_secret_learns_nothing(site: Site) -> None:
    """Wrong secret → None; the answer is that to an id that never was, even when the session has expired."""
    token = (await site.sign_in(await site.user())).token
    wrong_secret = bearer(token[:26] + "A" * 42)
    unknown_id = bearer("c2Fz" + "A" * 64)
    site.clock.advance(timedelta(days=60))
    answers = [await request(site.app, "/profile", headers=headers) for headers in (wrong_secret, unknown_id)]
    assert answers[0] == answers[1]
    assert answers[0].code == "invalid_token"
    assert "reason" not in answers[0].json


async def test_without_a_token_the_store_is_not_read(site: Site) -> None:
    async with site.client() as client:
        assert (await client.get("/front")).json() == "anonymous"
        assert (await client.get("/session/status")).json()["signed_in"] is False
    assert site.reads == []


async def test_one_request_is_one_read(site: Site) -> None:
    async with site.client(await site.sign_in(await site.user("notes:write"))) as client:
        await client.post("/notes")
    assert len(site.reads) == 1


async def test_down_is_not_signed_out(site: Site) -> None:
    """Promise 6: 503 with Retry-After while the store is down; afterwards the same token works."""
    success = await site.sign_in(await site.user())
    async with site.client(success) as client:
        site.is_down = True
        for path in ("/profile", "/front", "/session/status", "/session/sessions"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert 1 <= int(answer.headers["retry-after"]) <= 10
            assert "www-authenticate" not in answer.headers
        assert (await websocket(site.app, "/live", headers=bearer(success.token))).denial.status == 503
        site.is_down = False
        assert (await client.get("/profile")).status_code == 200


async def test_a_websocket_is_refused_once_the_session_is_ended(site: Site) -> None:
    success = await site.sign_in(await site.user())
    assert (await websocket(site.app, "/live", headers=bearer(success.token))).types == ["accept", "send"]
    await site.auth.token_manager.revoke_token(token_id=success.server_side_session_id)
    denial = (await websocket(site.app, "/live", headers=bearer(success.token))).denial
    assert (denial.status, denial.code) == (401, "invalid_token")


@pytest.mark.parametrize("after", ["x", "0:x", "0:%00", "7:", "%ff", "9" * 1000 + ":", "9" * 5000 + ":"])
async def test_a_wrong_after_is_the_clients_error(site: Site, after: str) -> None:
    async with site.client(await site.sign_in(await site.user())) as client:
        answer = await client.get(f"/session/sessions?after={after}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_my_sessions_come_a_page_at_a_time(site: Site) -> None:
    user = await site.user()
    made = {(await site.sign_in(user)).server_side_session_id for _ in range(7)}
    last = await site.sign_in(user)
    found: list[str] = []
    params: dict[str, str | int] = {"limit": 3}
    async with site.client(last) as client:
        while True:
            page = (await client.get("/session/sessions", params=params)).json()
            found += [session["id"] for session in page["sessions"]]
            if page["next_after"] is None:
                break
            params["after"] = page["next_after"]
    assert len(found) == 8
    assert set(found) == {*made, last.server_side_session_id}


async def test_no_token_reaches_a_log_or_a_page(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    user = await site.user()
    success = await site.sign_in(user)
    async with site.client(success) as client:
        paths = ("/profile", "/session/status", "/session/sessions", "/nowhere")
        seen = [(await client.get(path)).text for path in paths]
        site.is_down = True
        seen.append((await client.get("/profile")).text)
    malformed = success.token + "!"
    seen.append((await request(site.app, "/profile", headers=bearer(malformed))).body.decode())
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("coatcheck"))
    for text in (*seen, logged):
        assert success.token not in text
        assert success.token[-42:] not in text


@pytest.mark.parametrize("wrapped", [True, False])
async def test_the_pod_lives_as_long_as_the_application(tmp_path: Path, *, wrapped: bool) -> None:
    """As the lifespan of FastAPI, and around an application without one."""
    pod = Pod(f"sqlite:///{tmp_path}/notes.db", environ={}, config_dir=tmp_path)
    auth = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )

    async def bare(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "this application knows nothing of lifespans"
        body = require(scope).user_identifier.encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    app: AsgiApp = notes_app(auth, lifespan=pod.lifespan)
    if wrapped:
        app = PodLifespan(SessionMiddleware(bare, auth=auth), pod)
    said: list[str] = []

    async def receive() -> AsgiMessage:
        if not said:
            return {"type": "lifespan.startup"}
        user = await auth.auth_users.create()
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        answer = await request(app, "/profile", headers=bearer(success.token))
        assert (answer.status, user.id.encode() in answer.body) == (200, True)
        return {"type": "lifespan.shutdown"}

    async def send(message: AsgiMessage) -> None:
        said.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
