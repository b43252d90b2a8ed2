"""Wherever READ ONLY comes from, a call that writes says so, and one that reads takes part.

What each call does in a read-only transaction is in the conformance suite (`isolation.py`).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck import ConfigurationError, InvalidArgumentError, StoreUnavailable
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.testing.samples import ADA, read_present, sign_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection

pytestmark = pytest.mark.postgres

READ_ONLY = {"server_settings": {"default_transaction_read_only": "on"}}


@asynccontextmanager
async def begun(dsn: str, **options: Any) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(dsn.replace("://", "+asyncpg://"), **options)
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def of_set_transaction(dsn: str) -> AsyncIterator[AsyncConnection]:
    async with begun(dsn) as connection:
        await connection.execute(text("SET TRANSACTION READ ONLY"))
        yield connection


@asynccontextmanager
async def of_sqlalchemys_option(dsn: str) -> AsyncIterator[AsyncConnection]:
    async with begun(dsn, execution_options={"postgresql_readonly": True}) as connection:
        yield connection


@asynccontextmanager
async def of_server_settings(dsn: str) -> AsyncIterator[AsyncConnection]:
    async with begun(dsn, connect_args=READ_ONLY) as connection:
        yield connection


@asynccontextmanager
async def of_the_database(dsn: str) -> AsyncIterator[AsyncConnection]:
    await set_read_only(dsn, "on")
    async with begun(dsn) as connection:
        yield connection


@asynccontextmanager
async def of_our_own(dsn: str) -> AsyncIterator[AsyncConnection]:
    async with PostgresStore(dsn) as store, store.transaction() as connection:
        await connection.execute(text("SET TRANSACTION READ ONLY"))
        yield connection


async def set_read_only(dsn: str, value: str) -> None:
    admin = await asyncpg.connect(dsn)
    name = await admin.fetchval("SELECT quote_ident(current_database())")
    await admin.execute("SET default_transaction_read_only = off")
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
    await admin.close()


@pytest.mark.parametrize(
    "begin", [of_set_transaction, of_sqlalchemys_option, of_server_settings, of_the_database, of_our_own]
)
async def test_a_call_that_writes_is_refused_wherever_read_only_comes_from(
    postgres_dsn: str, begin: Callable[[str], AbstractAsyncContextManager[AsyncConnection]]
) -> None:
    async with PostgresStore(postgres_dsn) as store:
        session = await sign_in(store)
        async with begin(postgres_dsn) as transaction:  # and committed
            assert len(await store.list_sessions(SessionFilter(), transaction=transaction)) == 1  # reading is allowed
            await store.read_position(transaction=transaction)
            with pytest.raises(InvalidArgumentError, match=r"read-only.*default_transaction_read_only"):
                await store.end_user_sessions(ADA, transaction=transaction)
        assert await read_present(store, session.id) == session


async def test_a_transaction_that_becomes_read_only_after_a_call_of_ours_is_refused_from_then_on(
    postgres_dsn: str,
) -> None:
    async with PostgresStore(postgres_dsn) as store:
        session = await sign_in(store)
        async with store.transaction() as transaction:
            await store.set_user_scopes(ADA, frozenset(), transaction=transaction)
            await transaction.execute(text("SET TRANSACTION READ ONLY"))
            with pytest.raises(InvalidArgumentError, match="read-only"):
                await store.end_user_sessions(ADA, transaction=transaction)
        assert (await read_present(store, session.id)).id == session.id


async def test_a_database_that_was_made_read_only_is_an_outage_for_writes_and_is_read_all_the_same(
    postgres_dsn: str,
) -> None:
    """An operator moves it elsewhere: nobody is signed out by that."""
    async with PostgresStore(postgres_dsn) as store:
        session = await sign_in(store)
    await set_read_only(postgres_dsn, "on")
    async with PostgresStore(postgres_dsn) as store:
        assert await read_present(store, session.id) == session
        with pytest.raises(StoreUnavailable):
            await store.end_user_sessions(ADA)
        with pytest.raises(StoreUnavailable):
            await sign_in(store)
    await set_read_only(postgres_dsn, "off")
    async with PostgresStore(postgres_dsn) as store:
        assert [one.session_id for one in (await store.end_user_sessions(ADA)).ended] == [session.id]


async def test_tables_that_cannot_be_made_because_of_it_are_a_mistake_in_the_set_up(postgres_dsn: str) -> None:
    await set_read_only(postgres_dsn, "on")
    with pytest.raises(ConfigurationError, match=r"cannot be opened: .*default_transaction_read_only = off"):
        await PostgresStore(postgres_dsn).open()
