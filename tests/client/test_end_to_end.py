"""The Python client against a real Coatcheck server, in header mode and in cookie mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from coatcheck.stores.sql.schema import sessions
from coatcheck.wire import auth_success_of
from tests.client.programs import Program
from tests.examples.notes_server import PEPPER, no_errors_in, pod_beside
from tests.servers.app import AppServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import ModuleType

    from coatcheck import AuthServices, Pod

pytestmark = pytest.mark.usefixtures("library")

LONG_AGO_US = 1_000_000


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('end to end') / 'sessions.db'}"


@pytest.fixture(scope="module")
def app(store_url: str) -> Iterator[AppServer]:
    env = {**PEPPER, "COATCHECK_STORE": store_url}
    with no_errors_in(AppServer.uvicorn("tests.browser.spa:create_app", "--factory", env=env)) as running:
        yield running
        assert "c2Fz" not in running.output, "a token is in the access log"


@pytest.fixture
async def pod(store_url: str) -> AsyncIterator[Pod]:
    pod, auth = pod_beside(store_url)
    async with pod:
        for user in await auth.auth_users.list():
            await auth.token_manager.revoke_all_tokens(auth_user_id=user.id)
        yield pod


@pytest.fixture
def operator(pod: Pod) -> AuthServices:
    return pod.auth_services


@pytest.fixture(params=["header", "cookie"])
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


@pytest.fixture
async def program(kind: str, mode: str, library: ModuleType, app: AppServer, pod: Pod) -> AsyncIterator[Program]:
    """A program that has signed in, under a name of its own."""
    assert pod is not None
    program = Program(kind, app.url, library=library, mode=mode, client_label="end to end")
    await sign_in(program)
    yield program
    await program.close()


async def sign_in(program: Program) -> None:
    answer = await program.request("POST", "/api/sign-in?user=ada")
    await program.sign_in(auth_success_of(answer.json()))


async def test_requests_carry_the_session(
    program: Program, mode: str, library: ModuleType, operator: AuthServices
) -> None:
    secret = await program.get("/api/secret")
    assert secret.text.startswith("the secret of ")
    assert await program.do("validate_authentication") is True
    info = program.manager.auth_info
    assert info is not None
    assert (info.token == "") == (mode == "cookie")
    (token,) = await operator.token_manager.list_tokens()
    assert (token.client.label, token.client.ip_address) == ("end to end", "127.0.0.0/24")
    assert (token.client.user_agent or "").startswith(f"python-{library.__name__}/")


async def test_signing_in_again_ends_the_session_before(program: Program, operator: AuthServices) -> None:
    await sign_in(program)
    assert (await program.get("/api/secret")).status_code == 200
    assert len(await operator.token_manager.list_tokens()) == 1


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"expires_at": LONG_AGO_US}, "expired"),
        ({"expire_after_unused_for_us": 1_000_000, "last_used_at": LONG_AGO_US}, "inactive"),
        (None, "revoked"),
    ],
)
async def test_the_next_request_finds_out_that_the_session_ended_and_why(
    program: Program, pod: Pod, columns: dict[str, int] | None, reason: str
) -> None:
    async with pod.store.transaction() as transaction:
        change = sessions.delete() if columns is None else update(sessions).values(**columns)
        await transaction.execute(change)
    assert (await program.get("/api/secret")).status_code == 401
    assert program.reasons == [reason]
    assert program.manager.auth_info is program.storage.read() is None
    await sign_in(program)
    assert (await program.get("/api/secret")).status_code == 200


@pytest.mark.parametrize("method", ["sign_out_device", "sign_out_all_devices"])
async def test_signing_out_ends_the_row(program: Program, operator: AuthServices, method: str) -> None:
    assert await program.do(method) is True
    assert list(await operator.token_manager.list_tokens()) == []
    assert (await program.get("/api/secret")).status_code == 401
    assert program.reasons == ["signed-out"]


async def test_a_refused_stranger_is_not_told_of_a_sign_out(kind: str, mode: str, app: AppServer) -> None:
    stranger = Program(kind, app.url, mode=mode)
    assert (await stranger.get("/api/secret")).status_code == 401
    assert stranger.changes == []
    await stranger.close()


@pytest.mark.any_library
async def test_the_session_survives_a_restart_of_the_server(
    kind: str, mode: str, store_url: str, operator: AuthServices, library: ModuleType
) -> None:
    env = {**PEPPER, "COATCHECK_STORE": store_url}
    server = AppServer.uvicorn("tests.browser.spa:create_app", "--factory", env=env)
    with no_errors_in(server):
        program = Program(kind, server.url, mode=mode)
        await sign_in(program)
        server.stop()
        with pytest.raises(library.ConnectError):
            await program.get("/api/secret")
        assert await program.do("initialize") is False
        assert program.manager.is_authenticated
        server.start()
        assert (await program.get("/api/secret")).status_code == 200
        await program.close()
    assert len(await operator.token_manager.list_tokens()) == 1
