"""Whatever passes for a transaction of the application's and is none is refused, before anything is committed.

What each call does after each BEGIN is in the conformance suite (`isolation.py`).
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession

from coatcheck import InvalidArgumentError, StoreUnavailable
from coatcheck.stores.records import SessionFilter, UserEpochs
from coatcheck.stores.sql.sqlite.store import SqliteStore
from coatcheck.testing import in_savepoint
from coatcheck.testing.samples import ADA, BOB, insert, new_session, read, read_present, register, sign_in, stored_ids
from coatcheck.testing.transaction_kinds import ChangedMindError, TransactionKind
from tests.stores.transaction_kinds import NO_BEGIN, Engines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

NEEDS_PYTHON_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has no attribute `autocommit` yet")


class AutocommitsAsSince312(sqlite3.Connection):
    """What `autocommit=True` makes of a connection, for older versions of Python: `commit()` does nothing."""

    autocommit = True

    def commit(self) -> None:
        """Nothing."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "coatcheck.db") as store:
        yield store


@pytest.fixture
async def engines(tmp_path: Path, store: SqliteStore) -> AsyncIterator[Engines]:  # noqa: ARG001 (it makes the file)
    made = Engines(f"sqlite+aiosqlite:///{tmp_path / 'coatcheck.db'}")
    yield made
    await made.dispose()


def _leave_out_begin(engines: Engines) -> AsyncEngine:
    engine = engines.make()

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None

    return engine


NONE: dict[str, Callable[[Engines], AsyncEngine]] = {
    "AUTOCOMMIT of the engine": lambda engines: engines.make(isolation_level="AUTOCOMMIT"),
    "AUTOCOMMIT of the engine's options": lambda engines: engines.make(
        execution_options={"isolation_level": "AUTOCOMMIT"}
    ),
    "AUTOCOMMIT of a copy of the engine": lambda engines: engines.make().execution_options(
        isolation_level="AUTOCOMMIT"
    ),
    "isolation_level=None among the driver's arguments": lambda engines: engines.make(connect_args=NO_BEGIN),
    "isolation_level=None by a listener": _leave_out_begin,
    "autocommit=True of the connection's class": lambda engines: engines.make(
        connect_args={"factory": AutocommitsAsSince312, **NO_BEGIN}
    ),
    "autocommit=True of the connection's class, with BEGIN": lambda engines: engines.make(
        connect_args={"factory": AutocommitsAsSince312}, begin="BEGIN IMMEDIATE"
    ),
}


@pytest.mark.parametrize("is_in_session", [False, True], ids=["connection", "session"])
@pytest.mark.parametrize("engine_of", NONE.values(), ids=NONE)
async def test_autocommit_is_refused_wherever_it_hides(
    store: SqliteStore, engines: Engines, engine_of: Callable[[Engines], AsyncEngine], *, is_in_session: bool
) -> None:
    session = await sign_in(store)
    engine = engine_of(engines)
    async with AsyncSession(engine) if is_in_session else engine.connect() as mine:
        await mine.begin()
        for call in (
            lambda: insert(store, new_session(), epochs=UserEpochs(), transaction=mine),
            lambda: store.delete_sessions(SessionFilter(session_id=session.id), transaction=mine),
            lambda: store.end_user_sessions(ADA, transaction=mine),
        ):
            with pytest.raises(InvalidArgumentError, match="AUTOCOMMIT"):
                await call()
        await mine.commit()
    assert await stored_ids(store) == {session.id}


@NEEDS_PYTHON_3_12
@pytest.mark.parametrize("begin", [None, "BEGIN IMMEDIATE"])
@pytest.mark.parametrize("check_same_thread", [False, True])
async def test_sqlite3s_autocommit_is_refused_with_and_without_a_begin(
    store: SqliteStore, engines: Engines, begin: str | None, *, check_same_thread: bool
) -> None:
    await register(store)
    engine = engines.make(connect_args={"autocommit": True, "check_same_thread": check_same_thread}, begin=begin)
    async with engine.begin() as mine:
        with pytest.raises(InvalidArgumentError, match="AUTOCOMMIT"):
            await insert(store, new_session(), transaction=mine)
    assert await stored_ids(store) == set()


@NEEDS_PYTHON_3_12
@pytest.mark.parametrize("is_nested", [False, True])
async def test_sqlite3_without_autocommit_sends_every_begin_itself(
    store: SqliteStore, engines: Engines, *, is_nested: bool
) -> None:
    await register(store)
    kind = TransactionKind("autocommit=False", engines.make(connect_args={"autocommit": False}).begin)
    for commits in (False, True):
        with suppress(ChangedMindError):
            async with (in_savepoint(kind) if is_nested else kind).begin() as mine:
                await insert(store, new_session(), transaction=mine)
                if not commits:
                    raise ChangedMindError
        assert len(await stored_ids(store)) == int(commits)


async def test_a_connection_that_only_its_own_thread_may_use_is_accepted(store: SqliteStore, engines: Engines) -> None:
    """Since Python 3.12 sqlite3 tells other threads nothing about `autocommit`."""
    await register(store)
    async with engines.make(connect_args={"check_same_thread": True}).begin() as mine:
        session = await insert(store, new_session(), transaction=mine)
    assert await stored_ids(store) == {session.id}


@pytest.mark.parametrize("level", ["SERIALIZABLE", "READ UNCOMMITTED"])
async def test_sqlalchemys_levels_are_accepted(store: SqliteStore, engines: Engines, level: str) -> None:
    session = await sign_in(store)
    async with engines.make(isolation_level=level).begin() as mine:
        await store.end_user_sessions(ADA, transaction=mine)
    assert await read(store, session.id) is None


async def test_a_savepoint_that_may_lack_a_begin_is_refused(store: SqliteStore, engines: Engines) -> None:
    """Its RELEASE would be a COMMIT: what was rolled back afterwards would stay."""
    session = await sign_in(store)
    async with engines.make().connect() as mine:
        savepoint = await mine.begin_nested()
        with pytest.raises(InvalidArgumentError, match="SAVEPOINT"):
            await store.end_user_sessions(ADA, transaction=mine)
        await savepoint.commit()
        await mine.rollback()
    assert await read_present(store, session.id) == session


async def test_a_savepoint_after_another_call_is_accepted(store: SqliteStore, engines: Engines) -> None:
    """The first call has had the driver send BEGIN."""
    one, two = await sign_in(store), await sign_in(store, BOB)
    async with engines.make().connect() as mine:
        await store.end_user_sessions(ADA, transaction=mine)
        async with mine.begin_nested():
            await store.end_user_sessions(BOB, transaction=mine)
        await mine.rollback()
        assert await stored_ids(store) == {one.id, two.id}
        async with mine.begin_nested():  # another transaction, of which that is not known
            with pytest.raises(InvalidArgumentError, match="SAVEPOINT"):
                await store.end_user_sessions(BOB, transaction=mine)


async def test_a_transaction_that_was_committed_by_hand_is_none(store: SqliteStore) -> None:
    session = await sign_in(store)
    async with store.transaction() as transaction:
        await transaction.execute(text("COMMIT"))
        with pytest.raises(InvalidArgumentError, match="COMMIT by hand"):
            await store.end_user_sessions(ADA, transaction=transaction)
    assert await read_present(store, session.id) == session


async def test_a_transaction_that_has_read_before_another_wrote_is_told_to_begin_otherwise(
    store: SqliteStore, engines: Engines
) -> None:
    session = await sign_in(store)
    async with engines.make(begin="BEGIN").connect() as mine:
        assert len(await store.list_sessions(SessionFilter(), transaction=mine)) == 1
        later = await sign_in(store)
        with pytest.raises(StoreUnavailable, match="begun with BEGIN IMMEDIATE"):
            await store.end_user_sessions(ADA, transaction=mine)
        await mine.commit()
    assert await stored_ids(store) == {session.id, later.id}


async def test_a_transaction_that_has_read_while_another_writes_is_told_the_same_at_once(
    store: SqliteStore, engines: Engines, tmp_path: Path
) -> None:
    session = await sign_in(store)
    async with engines.make(begin="BEGIN").connect() as mine:
        await store.list_sessions(SessionFilter(), transaction=mine)
        with closing(sqlite3.connect(tmp_path / "coatcheck.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="begun with BEGIN IMMEDIATE"):
                await store.end_user_sessions(ADA, transaction=mine)
            other.execute("ROLLBACK")
    assert await read_present(store, session.id) == session


async def test_a_call_that_reads_first_is_in_time_in_a_transaction_that_has_not_read(
    store: SqliteStore, engines: Engines
) -> None:
    """It takes the file's lock before it reads."""
    async with engines.make(begin="BEGIN").begin() as mine:
        session = await sign_in(store, scopes={"a", "b"})
        await store.set_session_scopes(session.id, frozenset(), transaction=mine)
    assert (await read_present(store, session.id)).scopes == frozenset()
