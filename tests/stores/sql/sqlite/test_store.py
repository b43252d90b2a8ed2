"""The SQLite store alone: one file, several processes, reads that never wait for a writer."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from coatcheck import Pod, ServerSideSessionsConfig, StoreUnavailable
from coatcheck.stores.records import SessionUse
from coatcheck.stores.sql.sqlite.store import SqliteStore
from coatcheck.testing.samples import unknown_id
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coatcheck import AuthServices


PATIENCE_SECONDS = 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "coatcheck.db"


@pytest.fixture
async def pod(path: Path) -> AsyncIterator[Pod]:
    made = Pod(SqliteStore(path), environ={}, config_dir="none", prune_interval=None)
    made.initialize_auth_services(token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)])
    async with made:
        yield made


@pytest.fixture
def auth(pod: Pod) -> AuthServices:
    return pod.auth_services


async def test_the_file_is_in_wal_mode_and_writes_are_synced(pod: Pod, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    async with pod.store.transaction() as connection:
        assert (await connection.execute(text("PRAGMA synchronous"))).scalar_one() == 2  # FULL


async def test_a_validation_does_not_wait_for_a_writer(pod: Pod, auth: AuthServices) -> None:
    user = await auth.auth_users.create()
    success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
    async with pod.store.transaction() as connection:  # holds the file's only write lock
        await connection.execute(text("DELETE FROM coatcheck_sessions"))
        assert await auth.token_manager.validate_token(success.token) is not None
    assert await auth.token_manager.validate_token(success.token) is None


async def test_touches_are_written_one_after_another_even_when_a_caller_is_cancelled(path: Path) -> None:
    async with SqliteStore(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # the touch has to wait for it, in its thread
            first = asyncio.create_task(store.touch_sessions([SessionUse(unknown_id(), 0)]))
            await asyncio.sleep(0)
            first.cancel()
            second = asyncio.create_task(store.touch_sessions([SessionUse(unknown_id(), 0)]))
            await asyncio.sleep(0)
            other.execute("COMMIT")
        assert await second == frozenset()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_revocation_in_another_process_is_seen_at_once(auth: AuthServices, path: Path) -> None:
    user = await auth.auth_users.create()
    success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
    assert await auth.token_manager.validate_token(success.token) is not None
    other = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from coatcheck.stores.records import SessionFilter
        from coatcheck.stores.sql.sqlite.store import SqliteStore

        async def main() -> None:
            async with SqliteStore(Path(sys.argv[1])) as store:
                change = await store.delete_sessions(SessionFilter(session_id=sys.argv[2]))
                assert len(change.ended) == 1

        asyncio.run(main())
    """)
    command = [sys.executable, "-c", other, str(path), success.server_side_session_id]
    await asyncio.to_thread(subprocess.run, command, check=True)
    assert await auth.token_manager.validate_token(success.token) is None


async def test_a_file_that_cannot_be_read_is_unavailable(auth: AuthServices, path: Path) -> None:
    user = await auth.auth_users.create()
    success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
    with closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE coatcheck_sessions RENAME TO elsewhere")
        with pytest.raises(StoreUnavailable):
            await auth.token_manager.validate_token(success.token)
        with pytest.raises(StoreUnavailable):
            await auth.token_manager.revoke_token(token_id=success.server_side_session_id)
        other.execute("ALTER TABLE elsewhere RENAME TO coatcheck_sessions")
    assert await auth.token_manager.validate_token(success.token) is not None


@pytest.mark.parametrize("own_begin", [True, False], ids=["begin by the application", "the driver's default"])
async def test_an_engine_of_the_applications_shares_the_file(
    auth: AuthServices, path: Path, *, own_begin: bool
) -> None:
    """With sqlite3's own transaction control BEGIN comes before the first write only."""
    user = await auth.auth_users.create(scopes={"a"})
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    async with AsyncSession(engine) as mine:
        if own_begin:
            await mine.execute(text("BEGIN IMMEDIATE"))
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email", transaction=mine)
        assert await auth.token_manager.validate_token(success.token) is None
        await mine.commit()
    assert await auth.token_manager.validate_token(success.token) is not None
    async with AsyncSession(engine) as mine:
        assert await auth.token_manager.revoke_token(token_id=success.server_side_session_id, transaction=mine)
        await mine.rollback()
    assert await auth.token_manager.validate_token(success.token) is not None
    await engine.dispose()


async def test_a_store_can_be_opened_and_closed_again(path: Path) -> None:
    store = SqliteStore(path)
    for _ in range(3):
        await store.open()
        await store.open()
        assert len(await store.list_users()) == 0
        await store.close()
        await store.close()


async def test_many_writers_at_once_all_get_their_turn(auth: AuthServices) -> None:
    user = await auth.auth_users.create()
    made = await asyncio.gather(
        *(auth.token_manager.create_token(auth_user_id=user.id, method="email") for _ in range(30))
    )
    assert len({success.server_side_session_id for success in made}) == 30
    ended = await asyncio.gather(
        *(auth.token_manager.revoke_token(token_id=success.server_side_session_id) for success in made)
    )
    assert ended == [True] * 30


def take_the_lock(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=PATIENCE_SECONDS, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")


async def test_a_write_that_is_cancelled_in_the_middle_gives_the_file_back(path: Path) -> None:
    """Also while what was cancelled is remembered, by its traceback say, with the statement it was in the middle of."""
    is_there, may_go_on = threading.Event(), threading.Event()

    def wait() -> int:
        is_there.set()
        return int(may_go_on.wait(PATIENCE_SECONDS))

    async def write(store: SqliteStore) -> None:
        async with store.transaction() as transaction:
            driver = (await transaction.get_raw_connection()).driver_connection
            assert driver is not None
            await driver.create_function("wait", 0, wait)
            await transaction.execute(text("SELECT wait() UNION ALL SELECT 2"))  # stops within its rows

    async with SqliteStore(path) as store:
        writing = asyncio.create_task(write(store))
        await asyncio.to_thread(is_there.wait, PATIENCE_SECONDS)
        writing.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        may_go_on.set()
        gc.disable()
        try:
            await asyncio.wait({writing})
            assert writing.cancelled()
            with pytest.raises(asyncio.CancelledError) as remembered:
                await writing
            await asyncio.to_thread(take_the_lock, path)
            del remembered
        finally:
            gc.enable()
