"""The asynchronous client on trio, against a real server: signed in, called, listening, signed out, and cut off."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio

from coatcheck.client import AsyncClientSessionManager, MemoryStorage
from coatcheck.wire import auth_success_of
from tests.client.programs import Program
from tests.client.test_cancelling import CHANGES, GatedStorage
from tests.examples.notes_server import PEPPER, no_errors_in
from tests.servers.app import AppServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from coatcheck.client import AuthChange
    from coatcheck.client.flows import Mode


pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    env = {**PEPPER, "COATCHECK_STORE": f"sqlite:///{tmp_path_factory.mktemp('trio') / 'sessions.db'}"}
    with no_errors_in(AppServer.uvicorn("tests.browser.spa:create_app", "--factory", env=env)) as running:
        yield running


@pytest.fixture(params=["header", "cookie"])
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


async def sign_in(program: Program) -> None:
    answer = await program.request("POST", "/api/sign-in?user=ada")
    await program.sign_in(auth_success_of(answer.json()))


@asynccontextmanager
async def signed_in(app: AppServer, mode: str, **options: Any) -> AsyncIterator[Program]:
    program = Program("async", app.url, mode=mode, **options)
    await sign_in(program)
    yield program
    await program.close()


async def is_live(app: AppServer, headers: dict[str, str]) -> bool:
    """Whether the server still takes what was sent with a request of a signed-in program."""
    async with httpx2.AsyncClient(base_url=app.url) as http:
        return (await http.get("/api/secret", headers=headers)).status_code == 200


def credentials_of(response: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in response.request.headers.items() if name in {"authorization", "cookie"}}


@pytest.mark.parametrize("method", ["sign_out_device", "sign_out_all_devices"])
def test_a_program_signs_in_calls_and_signs_out(app: AppServer, mode: str, method: str) -> None:
    async def main() -> None:
        async with signed_in(app, mode) as program:
            secret = await program.get("/api/secret")
            assert secret.text.startswith("the secret of ")
            assert await program.do("validate_authentication") is True
            assert await is_live(app, credentials_of(secret))
            assert await program.do(method) is True
            assert not await is_live(app, credentials_of(secret))
            assert program.reasons == ["signed-out"]
            assert program.manager.auth_info is program.storage.read() is None

    trio.run(main)


def test_the_next_request_finds_out_that_the_session_has_ended(app: AppServer, mode: str) -> None:
    async def main() -> None:
        async with signed_in(app, mode) as program, signed_in(app, mode) as other:
            assert await other.do("sign_out_all_devices") is True
            assert (await program.get("/api/secret")).status_code == 401
            assert program.reasons == ["revoked"]
            assert program.manager.auth_info is program.storage.read() is None

    trio.run(main)


def test_a_program_that_listens_hears_of_the_end(app: AppServer, mode: str) -> None:
    async def main() -> None:
        async with signed_in(app, mode) as program, signed_in(app, mode) as other:
            has_ended = trio.Event()
            program.manager.listen(lambda _: has_ended.set())
            assert isinstance(program.manager, AsyncClientSessionManager)
            async with program.manager.listening():
                assert await other.do("sign_out_all_devices") is True
                await has_ended.wait()
            assert program.reasons == ["revoked"]

    trio.run(main)


def test_listeners_may_be_asynchronous(app: AppServer, mode: str) -> None:
    async def main() -> None:
        told: list[AuthChange] = []

        async def hear(change: AuthChange) -> None:
            await trio.lowlevel.checkpoint()
            told.append(change)

        async with signed_in(app, mode) as program:
            program.manager.listen(hear)
            await program.do("sign_out_device")
            assert told == program.changes

    trio.run(main)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_is_cancelled_while_it_is_stored_is_finished_and_told(app: AppServer, name: str) -> None:
    async def main() -> None:
        storage = GatedStorage()
        async with signed_in(app, "header", storage=storage) as program:
            headers = credentials_of(await program.get("/api/secret"))
            storage.shut()
            assert isinstance(program.manager, AsyncClientSessionManager)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(CHANGES[name], program.manager)
                assert await trio.to_thread.run_sync(storage.entered.wait, 60)
                nursery.cancel_scope.cancel()
                storage.gate.set()
            (change,) = program.changes
            assert change.auth_info == program.manager.auth_info == storage.read()
            assert (change.auth_info is None) == (name != "sign in")
            assert await is_live(app, headers) == (not name.startswith("sign out"))

    trio.run(main)


class Held(httpx2.AsyncBaseTransport):
    """Holds back each answer of the server until it is let go."""

    def __init__(self) -> None:
        self._inner = httpx2.AsyncHTTPTransport()
        self.has_answered = trio.Event()
        self.holds = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if self.holds:
            await response.aread()
            self.has_answered.set()
            await trio.sleep_forever()
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.any_library
@pytest.mark.parametrize("name", ["sign out", "sign out all"])
def test_a_sign_out_that_is_cancelled_while_the_server_answers_forgets_the_session(app: AppServer, name: str) -> None:
    async def main() -> None:
        transport, storage, told = Held(), MemoryStorage(), list[object]()
        async with httpx2.AsyncClient(transport=transport, base_url=app.url) as http:
            sessions = AsyncClientSessionManager(app.url, storage=storage, http=http)
            answer = await http.post("/api/sign-in?user=ada")
            await sessions.update_signed_in_user(auth_success_of(answer.json()))
            response = await http.get("/api/secret", auth=sessions.auth)
            sessions.listen(lambda change: told.append(change.auth_info))
            transport.holds = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(CHANGES[name], sessions)
                await transport.has_answered.wait()
                nursery.cancel_scope.cancel()
            assert not await is_live(app, credentials_of(response))
            assert (sessions.auth_info, storage.read(), told) == (None, None, [None])

    trio.run(main)


@pytest.mark.any_library
def test_a_call_that_is_cancelled_leaves_the_session_and_the_client_usable(app: AppServer, mode: Mode) -> None:
    async def main() -> None:
        transport = Held()
        async with httpx2.AsyncClient(transport=transport, base_url=app.url) as http:
            sessions = AsyncClientSessionManager(app.url, mode=mode, http=http)
            http.auth = sessions.auth
            answer = await http.post("/api/sign-in?user=ada")
            await sessions.update_signed_in_user(auth_success_of(answer.json()))
            transport.holds = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(http.get, "/api/secret")
                await transport.has_answered.wait()
                nursery.cancel_scope.cancel()
            transport.holds = False
            assert (await http.get("/api/secret")).status_code == 200
            assert await sessions.sign_out_device() is True

    trio.run(main)


def test_one_manager_works_in_a_loop_of_either_kind_after_the_other(app: AppServer) -> None:
    sessions = AsyncClientSessionManager(app.url)

    async def main() -> None:
        answer = await sessions.http.post("/api/sign-in?user=ada")
        await sessions.update_signed_in_user(auth_success_of(answer.json()))
        assert (await sessions.http.get("/api/secret")).status_code == 200
        assert await sessions.sign_out_device() is True
        await sessions.aclose()

    for _ in range(2):
        asyncio.run(main())
        trio.run(main)


def test_threads_that_the_program_keeps_busy_do_not_hold_up_a_sign_out(app: AppServer) -> None:
    async def main() -> None:
        free = threading.Event()
        async with signed_in(app, "header") as program, trio.open_nursery() as nursery:
            for _ in range(int(trio.to_thread.current_default_thread_limiter().total_tokens)):
                nursery.start_soon(trio.to_thread.run_sync, free.wait, 60)
            assert await program.do("sign_out_device") is True
            free.set()

    trio.run(main)
