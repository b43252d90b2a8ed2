"""The notes example as a process of its own, on either database."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from coatcheck import Pod, ServerSideSessionsConfigFromPasswords
from tests.servers.app import AppServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from coatcheck import AuthServices

NOTES = Path(__file__).parents[2] / "examples" / "notes"
COOKIE = "notes"  # without its prefix, over http on loopback
PASSWORD = "correct horse battery staple"

PEPPER = {"SERVERPOD_PASSWORD_serverSideSessionKeyHashPepper": "a pepper of thirty-two bytes ok!"}


def notes_server(store_url: str) -> AppServer:
    """The example, not started yet."""
    env = {**PEPPER, "COATCHECK_STORE": store_url}
    options = ["--factory", "--app-dir", str(NOTES), "--log-level", "warning"]
    return AppServer.uvicorn("app:create_app", *options, env=env)


def pod_beside(store_url: str) -> tuple[Pod, AuthServices]:
    """A pod on the same store, as an operator's script has one."""
    pod = Pod(store_url, environ=PEPPER, config_dir="no-such-folder", prune_interval=None)
    return pod, pod.initialize_auth_services(token_manager_builders=[ServerSideSessionsConfigFromPasswords()])


@contextmanager
def no_errors_in(server: AppServer) -> Iterator[AppServer]:
    """Run the server, and assert that it has reported no error at the end."""
    with server:
        yield server
        assert "Traceback" not in server.output, server.output[-4000:]


@pytest.fixture(scope="module")
async def notes_dsn(postgres_admin_dsn: str) -> AsyncIterator[str]:
    """A database for the tests of one module. Each test has users of its own."""
    name = f"coatcheck_notes_{uuid4().hex}"
    admin = await asyncpg.connect(postgres_admin_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    yield urlsplit(postgres_admin_dsn)._replace(path=f"/{name}").geturl()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


ON_POSTGRES = pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.extended])


@pytest.fixture(scope="module", params=["sqlite", ON_POSTGRES])
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('notes') / 'notes.db'}"
    dsn: str = request.getfixturevalue("notes_dsn")
    return dsn


@pytest.fixture(scope="module")
def notes(store_url: str) -> Iterator[AppServer]:
    """The example, served. Starting it takes two seconds, so once for a module and database."""
    with no_errors_in(notes_server(store_url)) as server:
        yield server


@pytest.fixture
async def operator_pod(store_url: str) -> AsyncIterator[Pod]:
    """A pod on the example's store, from outside of it."""
    pod, _ = pod_beside(store_url)
    async with pod:
        yield pod


@pytest.fixture
def operator(operator_pod: Pod) -> AuthServices:
    """Its auth services."""
    return operator_pod.auth_services


@pytest.fixture
def ada() -> str:
    """The e-mail of a person without an account."""
    return f"ada.{uuid4().hex[:8]}@example.org"
