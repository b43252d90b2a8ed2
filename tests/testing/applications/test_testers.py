"""The testers of applications: one that is open, with devices that have nothing in common but it."""

from __future__ import annotations

import asyncio
import inspect
import traceback
import warnings
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.websockets import WebSocketDisconnect

from coatcheck import (
    AuthenticationInfo,
    ConfigurationError,
    OpenElsewhereError,
    Pod,
    ServerSideSessionsConfig,
    StoreUnavailable,
    UserNotFoundError,
)
from coatcheck.testing import AsyncAppTester, ManualClock, MemoryStore
from coatcheck.web import SessionCookie, SessionMiddleware, sign_in
from coatcheck.web.fastapi import Requires, session_router
from coatcheck.wire import auth_success_json
from tests.worlds import PEPPER

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette says that it would rather have httpx2
    from coatcheck.testing import AppTester

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from starlette.testclient import TestClient

    from coatcheck import AuthServices, UserId

IDLE = timedelta(minutes=30)


@dataclass(frozen=True)
class Site:
    """The names that the module of an application has."""

    pod: Pod
    auth: AuthServices
    api: FastAPI
    app: SessionMiddleware
    cookie: SessionCookie


@pytest.fixture
def site(tmp_path: Path) -> Site:
    pod = Pod(f"sqlite:///{tmp_path}/coatcheck.db", environ={}, config_dir="no-such-folder")
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER, default_session_inactivity_timeout=IDLE)
    auth = pod.initialize_auth_services(token_manager_builders=[config])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        async with pod.lifespan(app):
            yield {"made": "at the start"}

    api = FastAPI(lifespan=lifespan)
    api.include_router(session_router(auth), prefix="/session")

    @api.post("/sign-in")
    async def signs_in(request: Request) -> dict[str, Any]:
        user = await auth.auth_users.create(scopes={"notes:read"})
        return auth_success_json(await sign_in(auth, request, auth_user_id=user.id, method="email"))

    @api.get("/notes")
    async def notes(caller: Annotated[AuthenticationInfo, Requires("notes:read")]) -> str:
        return caller.user_identifier

    @api.get("/state")
    async def state(request: Request) -> str:
        made: str = request.state.made
        return made

    @api.websocket("/live")
    async def live(socket: WebSocket, caller: Annotated[AuthenticationInfo, Requires()]) -> None:
        await socket.accept()
        await socket.send_text(caller.user_identifier)
        with suppress(WebSocketDisconnect):
            await socket.receive_text()

    cookie = SessionCookie(name="notes")
    return Site(pod, auth, api, SessionMiddleware(api, auth=auth, cookie=cookie), cookie)


@pytest.fixture
def tester(site: Site) -> Iterator[AppTester]:
    with AppTester(site.app, site.pod, cookie=site.cookie) as tester:
        yield tester


@pytest.fixture
async def async_tester(site: Site) -> AsyncIterator[AsyncAppTester[httpx.AsyncClient]]:
    async with AsyncAppTester(site.app, site.pod, httpx.AsyncClient, cookie=site.cookie) as tester:
        yield tester


# --- Synchronous tests ---


def status(device: TestClient, path: str = "/notes") -> int:
    code: int = device.get(path).status_code
    return code


@pytest.mark.parametrize("mode", ["header", "cookie"])
def test_a_device_that_is_signed_in_sends_its_token_and_the_other_device_does_not(tester: AppTester, mode: Any) -> None:
    phone, laptop = tester.device(), tester.device()
    ann = tester.signed_in(phone, scopes={"notes:read"}, mode=mode)
    assert phone.get("/notes").json() == ann.auth_user_id
    assert status(laptop) == 401


def test_two_devices_of_one_user_are_two_sessions_and_one_ends_the_other(tester: AppTester) -> None:
    phone, laptop = tester.device(), tester.device()
    ann = tester.signed_in(phone, scopes={"notes:read"})
    other = tester.signed_in(laptop, user_id=ann.auth_user_id, mode="cookie")
    assert {one["id"] for one in phone.get("/session/sessions").json()["sessions"]} == {
        ann.server_side_session_id,
        other.server_side_session_id,
    }
    assert laptop.delete(f"/session/sessions/{ann.server_side_session_id}").status_code == 204
    assert (status(phone), status(laptop)) == (401, 200)


def test_a_websocket_of_one_device_ends_when_another_device_signs_out_everywhere(tester: AppTester) -> None:
    phone, laptop = tester.device(), tester.device()
    ann = tester.signed_in(phone, mode="cookie")
    tester.signed_in(laptop, user_id=ann.auth_user_id)
    with phone.websocket_connect("wss://testserver/live") as socket:
        assert socket.receive_text() == ann.auth_user_id
        assert laptop.post("/session/sign-out-all").status_code == 200
        with pytest.raises(WebSocketDisconnect) as ended:
            socket.receive_text()
    assert ended.value.code == 4401


def test_a_scope_that_is_taken_from_the_user_is_missed_by_the_next_request(tester: AppTester) -> None:
    phone = tester.device()
    ann = tester.signed_in(phone, scopes={"notes:read"})
    assert status(phone) == 200
    tester.run(tester.auth.auth_users.update(ann.auth_user_id, scopes=set()))
    assert status(phone) == 403


def test_a_session_with_scopes_of_its_own_has_exactly_these(tester: AppTester) -> None:
    phone, laptop = tester.device(), tester.device()
    ann = tester.signed_in(phone, scopes={"notes:read"})
    assert tester.signed_in(laptop, user_id=ann.auth_user_id, scopes={"other"}).scope_names == {"other"}
    assert (status(phone), status(laptop)) == (200, 403)


def test_the_idle_deadline_comes_when_the_clock_is_moved_and_a_request_counts_as_a_use(tester: AppTester) -> None:
    phone, laptop = tester.device(), tester.device()
    ann = tester.signed_in(phone, scopes={"notes:read"})
    tester.signed_in(laptop, user_id=ann.auth_user_id)
    for _ in range(2):
        tester.advance(IDLE * 0.9)
        assert status(phone) == 200
    assert status(laptop) == 401


def test_while_the_store_cannot_answer_nobody_is_signed_out(tester: AppTester) -> None:
    phone = tester.device()
    tester.signed_in(phone, scopes={"notes:read"})
    with tester.outage():
        assert phone.get("/notes").json()["code"] == "store_unavailable"
    assert status(phone) == 200


def test_a_sign_out_takes_the_cookie_and_a_sign_in_replaces_it(tester: AppTester) -> None:
    phone = tester.device()
    tester.signed_in(phone, mode="cookie")
    assert phone.post("/session/sign-out").status_code == 200
    assert len(phone.cookies.jar) == 0
    ann = tester.signed_in(phone, scopes={"notes:read"}, mode="cookie")
    assert phone.get("/notes").json() == ann.auth_user_id
    assert phone.post("/session/sign-out").status_code == 200
    assert phone.post("/sign-in", headers={"Coatcheck-Mode": "cookie"}).json()["token"] == ""
    assert len(phone.cookies.jar) == 1
    bob = tester.signed_in(phone, scopes={"notes:read"}, mode="cookie")
    assert len(phone.cookies.jar) == 1
    assert phone.get("/notes").json() == bob.auth_user_id


@pytest.mark.parametrize(("first", "second"), [("header", "cookie"), ("cookie", "header")])
def test_a_device_that_is_signed_in_again_sends_the_new_token_alone(tester: AppTester, first: Any, second: Any) -> None:
    phone = tester.device()
    tester.signed_in(phone, scopes={"notes:read"}, mode=first)
    bob = tester.signed_in(phone, scopes={"notes:read"}, mode=second)
    assert phone.get("/notes").json() == bob.auth_user_id
    assert ("authorization" in phone.headers, len(phone.cookies.jar)) == (second == "header", int(second == "cookie"))


def test_no_cookie_is_set_over_plain_http(site: Site) -> None:
    with AppTester(site.app, site.pod, cookie=site.cookie, base_url="http://testserver") as tester:
        phone = tester.device()
        with pytest.raises(ConfigurationError, match="plain http"):
            tester.signed_in(phone, mode="cookie")


def test_a_cookie_for_localhost_has_the_name_that_it_has_there(site: Site) -> None:
    cookie = SessionCookie(name="notes", insecure_on_localhost=True)
    app = SessionMiddleware(site.api, auth=site.auth, cookie=cookie)
    with AppTester(app, site.pod, cookie=cookie, base_url="http://localhost:8000") as tester:
        phone = tester.device()
        tester.signed_in(phone, scopes={"notes:read"}, mode="cookie")
        assert [one.name for one in phone.cookies.jar] == ["notes"]
        assert status(phone) == 200


def test_cookie_mode_asks_for_the_cookie_of_the_application(site: Site) -> None:
    with AppTester(site.app, site.pod) as tester:
        phone = tester.device()
        with pytest.raises(ConfigurationError, match="cookie=SessionCookie"):
            tester.signed_in(phone, mode="cookie")


def test_requests_have_the_state_that_the_lifespan_has_made(tester: AppTester) -> None:
    assert tester.device().get("/state").json() == "at the start"


def test_each_tester_has_an_event_loop_and_a_store_of_its_own_on_one_application(site: Site, tmp_path: Path) -> None:
    loops = []

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    for _ in range(3):
        with AppTester(site.app, site.pod) as tester:
            phone = tester.device()
            ann = tester.signed_in(phone, scopes={"notes:read"})
            assert [one.id for one in tester.run(tester.auth.auth_users.list())] == [ann.auth_user_id]
            with phone.websocket_connect("/live") as socket:
                assert socket.receive_text() == ann.auth_user_id
            loops.append(tester.run(loop()))
    assert len(set(loops)) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_tester_may_be_opened_again_and_is_empty_then(site: Site) -> None:
    tester = AppTester(site.app, site.pod)
    for _ in range(2):
        with tester:
            tester.signed_in(tester.device())
            assert len(tester.run(tester.auth.auth_users.list())) == 1
    with pytest.raises(ConfigurationError, match="is not open"):
        tester.device()
    with pytest.raises(ConfigurationError, match="while the application is open"):
        tester.outage()


def test_a_call_fails_with_its_own_error_and_is_refused_and_closed_where_nothing_is_open(site: Site) -> None:
    tester = AppTester(site.app, site.pod)
    call = site.auth.auth_users.list()
    with pytest.raises(ConfigurationError, match="is not open"):
        tester.run(call)
    assert inspect.getcoroutinestate(call) == inspect.CORO_CLOSED
    with pytest.raises(ConfigurationError, match="is not open"):
        tester.advance(timedelta(minutes=1))
    with tester, pytest.raises(ConfigurationError, match="no token manager"):
        tester.run(_no_such_manager(site.auth))


async def _no_such_manager(auth: AuthServices) -> object:
    return auth.get_token_manager(MemoryStore)  # type: ignore[type-var]  # that is the mistake


def test_two_testers_of_one_application_at_a_time_are_refused(site: Site, tester: AppTester) -> None:
    with pytest.raises(ConfigurationError, match="the pod is open"), AppTester(site.app, site.pod):
        pytest.fail("it was opened")
    assert status(tester.device()) == 401


def test_a_store_of_the_test_may_be_a_file_whose_clock_is_moved(site: Site, tmp_path: Path) -> None:
    async def transaction() -> None:
        async with site.pod.store.transaction():
            pass

    url = f"sqlite:///{tmp_path}/test.db"
    with AppTester(site.app, site.pod, store=url, clock=ManualClock()) as tester:
        phone = tester.device()
        tester.signed_in(phone, scopes={"notes:read"})
        assert status(phone) == 200
        tester.advance(IDLE)
        assert status(phone) == 401
        tester.signed_in(phone, scopes={"notes:read"})
        with tester.outage():
            assert status(phone) == 503
            with pytest.raises(StoreUnavailable):
                tester.run(tester.auth.auth_users.list())
            with pytest.raises(StoreUnavailable):
                tester.run(transaction())
            assert site.pod.store.has_transactions
        assert status(phone) == 200
        tester.run(transaction())
    assert not (tmp_path / "coatcheck.db").exists()
    with AppTester(site.app, site.pod, store=url) as tester, pytest.raises(ConfigurationError, match="ManualClock"):
        tester.advance(IDLE)


def test_a_tester_on_postgresql_says_where_deadlines_are_tested(site: Site) -> None:
    tester = AppTester(site.app, site.pod, store="postgresql://ann@192.0.2.1/x")
    with pytest.raises(ConfigurationError, match="PostgreSQL server tells the time itself: test deadlines on a SQLite"):
        _ = tester.clock


def test_the_password_of_a_store_is_not_shown_by_a_tester_or_the_error_of_its_opening(site: Site) -> None:
    tester = AppTester(site.app, site.pod, store="postgresql://ann:open-sesame@192.0.2.1/x", clock=ManualClock())
    with pytest.raises(ConfigurationError, match="clock is not for PostgreSQL") as refused, tester:
        pytest.fail("it was opened")
    assert "open-sesame" not in repr(vars(tester))
    frames = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    ours = [frame.locals for frame in frames.stack if "applications/other_store" in frame.filename]
    assert ours != []
    assert "open-sesame" not in repr(ours)


def test_a_store_that_is_made_already_is_taken_with_its_clock(site: Site) -> None:
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    with AppTester(site.app, site.pod, store=store, clock=clock) as tester:
        phone = tester.device()
        tester.signed_in(phone, scopes={"notes:read"})
        tester.advance(IDLE)
        assert status(phone) == 401
        with tester.outage():
            assert status(phone) == 503
    assert len(store.database.tables.users) == 1


def test_an_application_that_keeps_its_users_itself_is_given_their_ids(site: Site) -> None:
    class Account(NamedTuple):
        scopes: frozenset[str] = frozenset({"notes:read"})
        blocked: bool = False

    class Accounts:
        async def get(self, user_id: UserId, *, transaction: object = None) -> Account:
            if user_id != "ann":
                raise UserNotFoundError(user_id)
            return Account()

    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
    auth = site.pod.initialize_auth_services(token_manager_builders=[config], user_source=Accounts())
    with AppTester(SessionMiddleware(site.api, auth=auth), site.pod) as tester:
        phone = tester.device()
        with pytest.raises(ConfigurationError, match="auth_users"):
            tester.signed_in(phone)
        with pytest.raises(UserNotFoundError):
            tester.signed_in(phone, user_id="bob")
        tester.signed_in(phone, user_id="ann")
        assert phone.get("/notes").json() == "ann"


# --- Applications that do not start ---


def without_lifespan(site: Site) -> SessionMiddleware:
    return SessionMiddleware(FastAPI(), auth=site.auth)


def with_a_lifespan_that_fails(site: Site) -> SessionMiddleware:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        raise ZeroDivisionError
        yield

    return SessionMiddleware(FastAPI(lifespan=lifespan), auth=site.auth)


def test_an_application_that_does_not_open_its_pod_is_refused(site: Site) -> None:
    tester = AppTester(without_lifespan(site), site.pod)
    with pytest.raises(ConfigurationError, match=r"lifespan=pod\.lifespan"), tester:
        pytest.fail("it was opened")
    with AppTester(site.app, site.pod) as tester:
        assert status(tester.device()) == 401


def test_what_the_lifespan_raises_is_raised(site: Site) -> None:
    with pytest.raises(ZeroDivisionError), AppTester(with_a_lifespan_that_fails(site), site.pod):
        pytest.fail("it was opened")
    with AppTester(site.app, site.pod) as tester:
        assert status(tester.device()) == 401


# --- Asynchronous tests ---


@pytest.mark.parametrize("mode", ["header", "cookie"])
async def test_devices_of_an_asynchronous_test_have_nothing_in_common(
    async_tester: AsyncAppTester[httpx.AsyncClient], mode: Any
) -> None:
    phone, laptop = async_tester.device(), async_tester.device()
    ann = await async_tester.signed_in(phone, scopes={"notes:read"}, mode=mode)
    assert (await phone.get("/notes")).json() == ann.auth_user_id
    assert (await laptop.get("/notes")).status_code == 401
    await async_tester.signed_in(laptop, user_id=ann.auth_user_id)
    assert (await laptop.post("/session/sign-out-all")).status_code == 200
    assert (await phone.get("/notes")).status_code == 401


async def test_an_asynchronous_test_moves_the_clock_and_switches_the_store_off(
    async_tester: AsyncAppTester[httpx.AsyncClient],
) -> None:
    phone = async_tester.device()
    await async_tester.signed_in(phone, scopes={"notes:read"})
    for _ in range(2):
        await async_tester.advance(IDLE * 0.9)
        assert (await phone.get("/notes")).status_code == 200
    with async_tester.outage():
        assert (await phone.get("/notes")).status_code == 503
    await async_tester.advance(IDLE)
    assert (await phone.get("/notes")).status_code == 401


async def test_an_asynchronous_test_has_the_state_of_the_lifespan_too(
    async_tester: AsyncAppTester[httpx.AsyncClient],
) -> None:
    assert (await async_tester.device().get("/state")).json() == "at the start"


def test_asynchronous_testers_open_one_application_in_one_loop_after_the_other(site: Site, tmp_path: Path) -> None:
    async def test() -> int:
        async with AsyncAppTester(site.app, site.pod, httpx.AsyncClient) as tester:
            phone = tester.device()
            await tester.signed_in(phone, scopes={"notes:read"})
            return (await phone.get("/notes")).status_code

    assert [asyncio.run(test()) for _ in range(3)] == [200] * 3
    assert list(tmp_path.iterdir()) == []


async def test_an_application_that_does_not_start_leaves_the_pod_as_it_was(site: Site) -> None:
    with pytest.raises(ConfigurationError, match=r"lifespan=pod\.lifespan"):
        async with AsyncAppTester(without_lifespan(site), site.pod, httpx.AsyncClient):
            pytest.fail("it was opened")
    with pytest.raises(ZeroDivisionError):
        async with AsyncAppTester(with_a_lifespan_that_fails(site), site.pod, httpx.AsyncClient):
            pytest.fail("it was opened")
    async with AsyncAppTester(site.app, site.pod, httpx.AsyncClient) as tester:
        with pytest.raises(OpenElsewhereError):
            await site.pod.__aenter__()
        assert (await tester.device().get("/notes")).status_code == 401
    with pytest.raises(ConfigurationError, match="is not open"):
        tester.device()


async def test_an_application_stops_when_the_test_fails_and_what_its_end_raises_is_raised(site: Site) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with site.pod.lifespan(app):
            yield
        raise KeyError

    app = SessionMiddleware(FastAPI(lifespan=lifespan), auth=site.auth)
    with pytest.raises(KeyError):
        async with AsyncAppTester(app, site.pod, httpx.AsyncClient):
            pass
    with pytest.raises(ZeroDivisionError):
        async with AsyncAppTester(site.app, site.pod, httpx.AsyncClient):
            raise ZeroDivisionError
    assert not site.pod.is_open


async def test_an_application_may_know_no_lifespan_where_something_else_opens_the_pod(site: Site) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await site.pod.__aenter__()
            return
        await site.app(scope, receive, send)

    async with AsyncAppTester(app, site.pod, httpx.AsyncClient) as tester:
        assert (await tester.device().get("/notes")).status_code == 401
        await site.pod.__aexit__(None, None, None)


async def test_a_class_of_clients_may_be_derived_from_that_of_httpx_and_no_other_is_taken(site: Site) -> None:
    class Phone(httpx.AsyncClient):
        pass

    class Other:
        async def aclose(self) -> None:
            pass

    async with AsyncAppTester(site.app, site.pod, Phone) as tester:
        assert isinstance(tester.device(), Phone)
    async with AsyncAppTester(site.app, site.pod, Other) as other:
        with pytest.raises(ConfigurationError, match=r"Other is not httpx\.AsyncClient"):
            other.device()


def test_a_test_that_runs_on_another_event_loop_than_asyncios_is_told_so(site: Site) -> None:
    opening = AsyncAppTester(site.app, site.pod, httpx.AsyncClient).__aenter__()
    with pytest.raises(ConfigurationError, match="anyio_backend"):
        opening.send(None)
