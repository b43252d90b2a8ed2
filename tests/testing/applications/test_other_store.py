"""A pod whose store is replaced for a test: nothing of its own store is touched, and it has it again afterwards."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from coatcheck import ConfigurationError, Pod, ServerSideSessionsConfig, ServerSideSessionsTokenManager
from coatcheck.stores.sql.sqlite.store import SqliteStore
from coatcheck.testing import ManualClock, MemoryStore, in_memory, on_store
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck import AuthServices, AuthUser

URLS = [
    "sqlite:///coatcheck.db",
    "postgresql://nobody@192.0.2.1/nothing",  # an address that nobody has (RFC 5737)
    "redis://192.0.2.1",
    "redis+cluster://192.0.2.1",
    "redis+sentinel://192.0.2.1/service",
]


class MemoryStoreWithSlots(MemoryStore):
    __slots__ = ("own",)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new_pod(store: str | MemoryStore = "sqlite:///coatcheck.db") -> tuple[Pod, AuthServices]:
    """As a module makes it that is imported."""
    pod = Pod(store, environ={}, config_dir="no-such-folder")
    return pod, pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )


def files_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


async def signed_in_and_out(auth: AuthServices) -> None:
    """Every part of a pod that uses its store."""
    user = await auth.auth_users.create(scopes={"notes:read"})
    success = await auth.token_manager.create_token(auth_user_id=user.id, method="test")
    info = await auth.token_manager.validate_token(success.token)
    assert info is not None
    sessions = auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions
    await sessions.flush()
    assert [one.sessions for one in await sessions.admin.pepper_usage()] == [1]
    await auth.token_manager.revoke_token(token_id=info.auth_id)
    assert await auth.token_manager.validate_token(success.token) is None


@pytest.mark.parametrize("url", URLS)
async def test_a_pod_in_memory_needs_neither_the_file_nor_the_server_of_its_own_store(url: str, folder: Path) -> None:
    pod, auth = new_pod(url)
    own, shown = pod.store, repr(pod)
    for _ in range(2):  # the second has nothing of the first
        with in_memory(pod) as store:
            assert repr(pod) == "Pod(MemoryStore(), run_mode='development')"
            async with pod:
                assert (await pod.readiness()).problems == ()
                await signed_in_and_out(auth)
                assert store.database.tables.users != {}
        assert (pod.store is own, repr(pod)) == (True, shown)
        assert files_in(folder) == []


async def test_the_developers_own_file_is_as_it_was_and_is_used_again_afterwards(folder: Path) -> None:
    pod, auth = new_pod()
    async with pod:
        mine = await auth.auth_users.create(id="mine")
    before = (folder / "coatcheck.db").read_bytes()
    with in_memory(pod):
        async with pod:
            await signed_in_and_out(auth)
            assert len(await auth.auth_users.list()) == 1
    assert (folder / "coatcheck.db").read_bytes() == before
    async with pod:
        assert await auth.auth_users.list() == [mine]


async def test_a_store_without_a_dictionary_of_its_own_is_replaced_as_well() -> None:
    pod, auth = new_pod(MemoryStoreWithSlots())
    with in_memory(pod) as store:
        async with pod:
            await signed_in_and_out(auth)
        assert store is not pod.store
    assert type(pod.store) is MemoryStoreWithSlots


async def test_what_is_set_on_the_store_meanwhile_is_not_there_afterwards() -> None:
    pod, _ = new_pod()
    with in_memory(pod) as store:
        pod.store.has_transactions = False
        assert store.has_transactions is False
    assert pod.store.has_transactions is True


async def test_a_replacement_may_be_replaced() -> None:
    pod, auth = new_pod()
    with in_memory(pod) as outer, in_memory(pod) as inner:
        async with pod:
            await signed_in_and_out(auth)
        assert (outer.database.tables.users, len(inner.database.tables.users)) == ({}, 1)


async def test_a_hook_that_runs_sql_is_tested_on_a_file_of_the_test(folder: Path) -> None:
    pod = Pod("sqlite:///coatcheck.db", environ={}, config_dir="no-such-folder")
    counted: list[int | None] = []

    async def count(_user: AuthUser, connection: AsyncConnection) -> None:
        counted.append(await connection.scalar(text("SELECT count(*) FROM coatcheck_users")))

    auth = pod.initialize_auth_services(
        token_manager_builders=[
            ServerSideSessionsConfig(
                session_key_hash_pepper=PEPPER, default_session_inactivity_timeout=timedelta(minutes=30)
            )
        ],
        after_user_created=count,
    )
    clock = ManualClock()
    with on_store(pod, f"sqlite:///{folder}/test.db", clock=clock):
        async with pod:
            user = await auth.auth_users.create()
            success = await auth.token_manager.create_token(auth_user_id=user.id, method="test")
            clock.advance(timedelta(minutes=30))
            assert await auth.token_manager.validate_token(success.token) is None
    assert counted == [1]
    assert not (folder / "coatcheck.db").exists()


async def test_the_store_of_a_pod_that_is_open_is_not_replaced(folder: Path) -> None:
    pod, auth = new_pod()
    async with pod:
        with pytest.raises(ConfigurationError, match="the pod is open"), in_memory(pod):
            pytest.fail("it was replaced")
        await signed_in_and_out(auth)
    assert (folder / "coatcheck.db").exists()


async def test_a_pod_that_is_still_open_when_the_block_ends_is_an_error_and_has_its_own_store_again(
    folder: Path,
) -> None:
    pod, _ = new_pod()
    with pytest.raises(ConfigurationError, match="the pod is still open"), in_memory(pod):
        await pod.__aenter__()
    assert isinstance(pod.store, SqliteStore)
    await pod.__aexit__(None, None, None)
    assert files_in(folder) == []


def test_a_clock_beside_a_store_that_is_made_already_is_refused() -> None:
    pod, _ = new_pod()
    with pytest.raises(ConfigurationError, match=r"MemoryStore\(\.\.\., clock=clock\)"):
        on_store(pod, MemoryStore(), clock=ManualClock()).__enter__()


def test_an_error_inside_the_block_leaves_the_pod_its_own_store() -> None:
    pod, _ = new_pod()
    with pytest.raises(ZeroDivisionError), in_memory(pod):
        raise ZeroDivisionError
    assert isinstance(pod.store, SqliteStore)
    assert "SqliteStore" in repr(pod)


async def test_a_pod_says_whether_it_is_open() -> None:
    pod, _ = new_pod(MemoryStore())
    assert not pod.is_open
    async with pod:
        assert pod.is_open
    assert not pod.is_open
