"""Wherever a level above READ COMMITTED or an autocommit comes from, we write in no such transaction.

What each call does in each level is in the conformance suite (`isolation.py`).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from coatcheck import InvalidArgumentError
from coatcheck.auth.users import AuthUsers, NewAuthUser
from coatcheck.events.bus import EventBus
from coatcheck.stores.records import SessionFilter, SessionUse
from coatcheck.stores.sql.postgresql.connecting import connect_to_primary
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.testing.conformance.announcing import Listening
from coatcheck.testing.samples import ADA, insert, new_session, read, read_present, sign_in, stored_ids
from tests.stores.transaction_kinds import set_autocommit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncEngine

    from coatcheck.stores.store import Transaction

pytestmark = pytest.mark.postgres


@asynccontextmanager
async def engine_on(dsn: str, **options: Any) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(dsn.replace("://", "+asyncpg://"), **options)
    try:
        yield engine
    finally:
        await engine.dispose()


async def set_default(dsn: str, level: str, *, of_the_role: bool = False) -> None:
    admin = await asyncpg.connect(dsn)
    database = await admin.fetchval("SELECT quote_ident(current_database())")
    whose = f"ROLE CURRENT_USER IN DATABASE {database}" if of_the_role else f"DATABASE {database}"
    await admin.execute(f"ALTER {whose} SET default_transaction_isolation = '{level}'")
    await admin.close()


# --- places where a level comes from: each begins a transaction in that level ---


@asynccontextmanager
async def of_the_engine(dsn: str, level: str) -> AsyncIterator[Transaction]:
    async with engine_on(dsn, isolation_level=level) as engine, engine.begin() as connection:
        yield connection


@asynccontextmanager
async def of_the_engines_options(dsn: str, level: str) -> AsyncIterator[Transaction]:
    async with engine_on(dsn, execution_options={"isolation_level": level}) as engine, engine.begin() as connection:
        yield connection


@asynccontextmanager
async def of_a_copy_of_the_engine(dsn: str, level: str) -> AsyncIterator[Transaction]:
    async with engine_on(dsn) as engine, engine.execution_options(isolation_level=level).begin() as connection:
        yield connection


@asynccontextmanager
async def of_the_connection(dsn: str, level: str) -> AsyncIterator[Transaction]:
    async with engine_on(dsn) as engine, engine.connect() as connection:
        await connection.execution_options(isolation_level=level)
        async with connection.begin():
            yield connection


@asynccontextmanager
async def of_an_orms_session(dsn: str, level: str) -> AsyncIterator[Transaction]:
    async with engine_on(dsn) as engine, AsyncSession(engine) as session, session.begin():
        await session.connection(execution_options={"isolation_level": level})
        yield session


@asynccontextmanager
async def of_set_transaction(dsn: str, level: str) -> AsyncIterator[Transaction]:
    async with engine_on(dsn) as engine, engine.begin() as connection:
        await connection.execute(text(f"SET TRANSACTION ISOLATION LEVEL {level}"))
        yield connection


@asynccontextmanager
async def of_the_characteristics(dsn: str, level: str) -> AsyncIterator[Transaction]:
    async with engine_on(dsn) as engine, engine.connect() as connection:
        await connection.execute(text(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}"))
        await connection.commit()
        async with connection.begin():
            yield connection


@asynccontextmanager
async def of_server_settings(dsn: str, level: str) -> AsyncIterator[Transaction]:
    settings = {"server_settings": {"default_transaction_isolation": level}}
    async with engine_on(dsn, connect_args=settings) as engine, engine.begin() as connection:
        yield connection


@asynccontextmanager
async def of_a_creator_of_connections(dsn: str, level: str) -> AsyncIterator[Transaction]:
    async def create() -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(f"{dsn}?options=-cdefault_transaction_isolation%3D{level.replace(' ', '%5C%20')}")

    async with engine_on(dsn, async_creator=create) as engine, engine.begin() as connection:
        yield connection


@asynccontextmanager
async def of_the_database(dsn: str, level: str) -> AsyncIterator[Transaction]:
    await set_default(dsn, level)
    async with engine_on(dsn) as engine, engine.begin() as connection:
        yield connection


@asynccontextmanager
async def of_the_role(dsn: str, level: str) -> AsyncIterator[Transaction]:
    await set_default(dsn, level, of_the_role=True)
    async with engine_on(dsn) as engine, engine.begin() as connection:
        yield connection


@asynccontextmanager
async def of_our_own(dsn: str, level: str) -> AsyncIterator[Transaction]:
    async with PostgresStore(dsn) as store, store.transaction() as connection:
        await connection.execute(text(f"SET TRANSACTION ISOLATION LEVEL {level}"))
        yield connection


ASKED_FOR = [
    of_the_engine,
    of_the_engines_options,
    of_a_copy_of_the_engine,
    of_the_connection,
    of_an_orms_session,
    of_set_transaction,
    of_our_own,
]
DEFAULTS = [of_the_characteristics, of_server_settings, of_a_creator_of_connections, of_the_database, of_the_role]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("begin", [*ASKED_FOR, *DEFAULTS])
async def test_a_level_above_read_committed_is_refused_wherever_it_comes_from(
    postgres_dsn: str, begin: Callable[[str, str], AbstractAsyncContextManager[Transaction]], level: str
) -> None:
    async with PostgresStore(postgres_dsn) as store:
        session = await sign_in(store)
        async with begin(postgres_dsn, level) as transaction:  # and committed
            assert len(await store.list_sessions(SessionFilter(), transaction=transaction)) == 1  # reading is allowed
            with pytest.raises(InvalidArgumentError, match=f"must be in READ COMMITTED, not in {level}") as refused:
                await store.end_user_sessions(ADA, transaction=transaction)
        assert ("default_transaction_isolation" in str(refused.value)) is (begin in DEFAULTS)
        assert await read_present(store, session.id) == session


async def test_read_committed_may_be_asked_for_where_another_level_is_the_default(postgres_dsn: str) -> None:
    await set_default(postgres_dsn, "serializable")
    async with PostgresStore(postgres_dsn) as store:
        session = await sign_in(store)
        async with of_the_engine(postgres_dsn, "READ COMMITTED") as transaction:
            await store.end_user_sessions(ADA, transaction=transaction)
        assert await read(store, session.id) is None


async def test_the_level_cannot_be_raised_after_a_call_of_ours(postgres_dsn: str) -> None:
    async with PostgresStore(postgres_dsn) as store:
        session = await sign_in(store)
        with pytest.raises(DBAPIError, match="must be called before any query"):
            async with store.transaction() as transaction:
                await store.end_user_sessions(ADA, transaction=transaction)
                await transaction.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        assert await read_present(store, session.id) == session


async def test_no_hook_runs_in_a_transaction_that_is_refused(postgres_dsn: str) -> None:
    ran: list[NewAuthUser] = []

    async def before(user: NewAuthUser, _connection: object) -> NewAuthUser:
        ran.append(user)
        return user

    async with PostgresStore(postgres_dsn) as store:
        users = AuthUsers(store, bus=EventBus(), before_user_created=before)
        async with of_the_engine(postgres_dsn, "SERIALIZABLE") as transaction:
            with pytest.raises(InvalidArgumentError, match="READ COMMITTED"):
                await users.create(transaction=transaction)
        assert ran == []
        async with of_the_engine(postgres_dsn, "READ COMMITTED") as transaction:
            await users.create(transaction=transaction)
        assert len(ran) == 1


@pytest.mark.parametrize("has_begun", [False, True], ids=["no BEGIN", "BEGIN by hand"])
async def test_autocommit_that_hides_in_the_driver_is_refused(postgres_dsn: str, *, has_begun: bool) -> None:
    """Even where a BEGIN was sent: SQLAlchemy's `commit()` would send no COMMIT."""
    async with PostgresStore(postgres_dsn) as store, engine_on(postgres_dsn) as engine:
        event.listen(engine.sync_engine, "connect", set_autocommit)
        session = await sign_in(store)
        async with engine.begin() as mine:
            if has_begun:
                await mine.execute(text("BEGIN"))
            with pytest.raises(InvalidArgumentError, match="commits each statement"):
                await insert(store, new_session(), transaction=mine)
            with pytest.raises(InvalidArgumentError, match="commits each statement"):
                await store.end_user_sessions(ADA, transaction=mine)
            if has_begun:
                await mine.execute(text("COMMIT"))
        assert await stored_ids(store) == {session.id}


async def test_a_transaction_that_was_committed_by_hand_is_none(postgres_dsn: str) -> None:
    async with PostgresStore(postgres_dsn) as store, engine_on(postgres_dsn) as engine:
        session = await sign_in(store)
        async with engine.begin() as mine:
            await mine.execute(text("COMMIT"))
            with pytest.raises(InvalidArgumentError, match="COMMIT by hand"):
                await store.end_user_sessions(ADA, transaction=mine)
        assert await read_present(store, session.id) == session


# --- our own connections ---

ELSEWHERE = {
    "the database": "",
    "the role": "",
    "the URI": "?default_transaction_isolation=serializable",
    "the options of the URI": "?options=-cdefault_transaction_isolation%3Dserializable",
}


@pytest.mark.parametrize("place", ELSEWHERE)
async def test_each_of_our_own_connections_is_in_read_committed_whatever_the_default(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place in {"the database", "the role"}:
        await set_default(postgres_dsn, "serializable", of_the_role=place == "the role")
    made: list[asyncpg.Connection[asyncpg.Record]] = []

    async def connect(*arguments: Any, **options: Any) -> asyncpg.Connection[asyncpg.Record]:
        made.append(await connect_to_primary(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("coatcheck.stores.sql.postgresql.connections.connect_to_primary", connect)
    async with (
        PostgresStore(postgres_dsn + ELSEWHERE[place]) as store,
        Listening(store),
        store.transaction() as connection,
    ):
        session = await sign_in(store)
        await read_present(store, session.id)
        await store.touch_sessions([SessionUse(session.id, session.last_used_at_us)])
        await store.delete_sessions(SessionFilter(session_id=session.id))
        assert (await connection.execute(text("SHOW transaction_isolation"))).scalar_one() == "read committed"
        levels = [await one.fetchval("SHOW transaction_isolation") for one in made if not one.is_closed()]
    assert len(levels) >= len(["reads", "users", "sign-ins", "revocations", "touches", "listener", "transaction"])
    assert set(levels) == {"read committed"}
