"""A transaction on another database than the store's is refused, by every call that writes, before it writes there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from coatcheck import InvalidArgumentError
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.stores.sql.sqlite.store import SqliteStore
from coatcheck.testing.conformance.isolation import EVERY_CALL, Given
from coatcheck.testing.samples import ADA, epochs_of, new_session, read, register, sign_in, stored_ids
from tests.servers.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from typing import Any

    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.stores.store import Store
    from coatcheck.testing.conformance.isolation import Row

NOT_THERE = r"^transaction must be on the (database|file) of this store"


@asynccontextmanager
async def transaction_on(url: str, **options: Any) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(url, **options)
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


def driver_url(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+asyncpg://")


async def given(store: Store, row: Row) -> Given:
    session = None
    if not row.of_a_new_user:
        await register(store)
        session = await sign_in(store)
    return Given(ADA, session, await epochs_of(store, ADA))


# --- SQLite ---


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "ours.db") as store:
        yield store


@EVERY_CALL
async def test_no_call_writes_into_another_file(sqlite: SqliteStore, tmp_path: Path, row: Row) -> None:
    """Not into one that has our tables, nor one that has none."""
    subject = await given(sqlite, row)
    async with SqliteStore(tmp_path / "theirs.db") as theirs:
        for name in ("theirs.db", "empty.db"):
            async with transaction_on(f"sqlite+aiosqlite:///{tmp_path / name}") as transaction:
                with pytest.raises(InvalidArgumentError, match=NOT_THERE):
                    await row.call(sqlite, subject, transaction)
        assert await theirs.read_user(ADA) is None
        assert await stored_ids(theirs) == set()


async def test_a_position_is_not_read_in_another_file(sqlite: SqliteStore, tmp_path: Path) -> None:
    """The transaction's reads tell nothing of an ending in ours."""
    async with transaction_on(f"sqlite+aiosqlite:///{tmp_path / 'app.db'}") as transaction:
        with pytest.raises(InvalidArgumentError, match=NOT_THERE):
            await sqlite.read_position(transaction=transaction)


async def test_a_database_in_memory_is_another(sqlite: SqliteStore) -> None:
    async with transaction_on("sqlite+aiosqlite://") as transaction:
        with pytest.raises(InvalidArgumentError, match=NOT_THERE + r".*, not on ':memory:'$"):
            await sqlite.end_user_sessions(ADA, transaction=transaction)


@pytest.mark.parametrize("is_in_session", [False, True], ids=["connection", "session"])
async def test_the_same_file_by_another_path_is_accepted(
    sqlite: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_in_session: bool
) -> None:
    (tmp_path / "folder").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in ("ours.db", "folder/ours.db", "./ours.db"):
        session = await sign_in(sqlite)
        async with transaction_on(f"sqlite+aiosqlite:///{path}") as connection:
            mine = AsyncSession(connection) if is_in_session else connection
            await sqlite.end_user_sessions(ADA, transaction=mine)
            await sqlite.end_user_sessions(ADA, transaction=mine)
        assert await read(sqlite, session.id) is None


async def test_a_file_that_the_applications_connection_has_attached_is_accepted(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    session = await sign_in(sqlite)
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'app.db'}")
    event.listen(engine.sync_engine, "connect", _attach(tmp_path / "ours.db"))
    async with engine.begin() as transaction:
        await sqlite.end_user_sessions(ADA, transaction=transaction)
    await engine.dispose()
    assert await read(sqlite, session.id) is None


def _attach(path: Path) -> Callable[[DBAPIConnection, object], None]:
    def attach(connection: DBAPIConnection, _record: object) -> None:
        connection.cursor().execute("ATTACH DATABASE ? AS sessions", (str(path),))

    return attach


# --- PostgreSQL ---


@pytest.fixture
async def postgres(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore(postgres_dsn) as store:
        yield store


@EVERY_CALL
async def test_no_call_writes_into_another_database(
    postgres: PostgresStore, postgres_dsn: str, postgres_admin_dsn: str, row: Row
) -> None:
    """Not into one that is a copy of ours, tables and all, nor into one without them, nor into another schema."""
    subject = await given(postgres, row)
    async with transaction_on(driver_url(postgres_admin_dsn)) as transaction:
        with pytest.raises(InvalidArgumentError, match=NOT_THERE):
            await row.call(postgres, subject, transaction)
    async with transaction_on(driver_url(postgres_dsn)) as transaction:
        await transaction.execute(text("CREATE SCHEMA theirs"))
        await transaction.execute(text("SET LOCAL search_path = theirs, public"))
        await transaction.execute(text("CREATE TABLE coatcheck_sessions (LIKE public.coatcheck_sessions)"))
        with pytest.raises(InvalidArgumentError, match=NOT_THERE):
            await row.call(postgres, subject, transaction)
    assert (await postgres.read_user(ADA) is None) is row.of_a_new_user


async def test_a_copy_of_the_database_is_another(postgres_dsn: str, postgres_admin_dsn: str) -> None:
    """Its tables have the same numbers."""
    async with PostgresStore(postgres_dsn) as store:
        await register(store)
    ours = postgres_dsn.rpartition("/")[2]
    admin = await asyncpg.connect(postgres_admin_dsn)
    await admin.execute(f"CREATE DATABASE {ours}_copy TEMPLATE {ours}")
    async with PostgresStore(postgres_dsn) as store:
        async with transaction_on(driver_url(f"{postgres_dsn}_copy")) as transaction:
            with pytest.raises(InvalidArgumentError, match=NOT_THERE) as refused:
                await store.end_user_sessions(ADA, transaction=transaction)
        assert repr(store) in str(refused.value)
        async with transaction_on(driver_url(postgres_dsn)) as transaction:
            await store.end_user_sessions(ADA, transaction=transaction)
    await admin.execute(f"DROP DATABASE {ours}_copy WITH (FORCE)")
    await admin.close()


async def test_a_store_knows_its_database_again_after_another_server_has_taken_over(
    postgres_server: PostgresServer,
) -> None:
    """The application's engine may find the new server before a connection of the store's does."""
    standby = PostgresServer(primary=postgres_server)
    try:
        dsn = f"postgresql://postgres@127.0.0.1:{postgres_server.port},127.0.0.1:{standby.port}/postgres"
        async with PostgresStore(dsn) as store:
            session = await sign_in(store)
            async with transaction_on(driver_url(postgres_server.dsn())) as transaction:
                await store.end_user_sessions(ADA, transaction=transaction)
            session = await sign_in(store)
            postgres_server.stop()  # has sent everything when it ends
            standby.promote()
            async with transaction_on(driver_url(standby.dsn())) as transaction:
                await store.end_user_sessions(ADA, transaction=transaction)
            assert await read(store, session.id) is None
    finally:
        standby.remove()


async def test_a_transaction_on_a_standby_is_refused_by_its_name(postgres_server: PostgresServer) -> None:
    standby = PostgresServer(primary=postgres_server)
    try:
        async with PostgresStore(postgres_server.dsn()) as store:
            session = await sign_in(store)
            async with transaction_on(driver_url(standby.dsn())) as transaction:
                with pytest.raises(InvalidArgumentError, match=r"is read-only \(its server is a standby\)"):
                    await store.end_user_sessions(ADA, transaction=transaction)
            assert await read(store, session.id) is not None
    finally:
        standby.remove()


# --- another kind of database ---


@pytest.mark.postgres
async def test_a_transaction_on_another_kind_of_database_is_refused_by_every_kind_of_call(
    sqlite: SqliteStore, postgres: PostgresStore, postgres_dsn: str, tmp_path: Path
) -> None:
    for store, url in (
        (sqlite, driver_url(postgres_dsn)),
        (postgres, f"sqlite+aiosqlite:///{tmp_path / 'ours.db'}"),
    ):
        async with transaction_on(url) as transaction:
            calls = (
                store.read_user(ADA, transaction=transaction),
                store.read_position(transaction=transaction),
                store.end_user_sessions(ADA, transaction=transaction),
                store.insert_session(
                    new_session(), expected_revocations=0, expected_rescopes=None, transaction=transaction
                ),
                store.connection_of(transaction),
            )
            for call in calls:
                with pytest.raises(InvalidArgumentError, match=r"^transaction must be on .* not (sqlite|postgresql)$"):
                    await call
