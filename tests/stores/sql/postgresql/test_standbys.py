"""PostgreSQL with a synchronous standby: a confirmed change is on both, and any other is reported as unconfirmed.

The standby is a real one; while it is "away" its processes are stopped (SIGSTOP). `wait_event = 'SyncRep'` is how the
server shows a COMMIT that waits for it; nobody else sees what that COMMIT did.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import UserId
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.sql.postgresql.commits import AbandonedCommits
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.testing.samples import ADA, BOB, insert, new_session, register, stored_ids, unknown_id
from tests.servers import postgres
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import STANDBY, PostgresServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from coatcheck import SessionId
    from coatcheck.stores.store import Store

pytestmark = pytest.mark.postgres

WEAK = ("synchronous_commit = local", "client_min_messages = error")

_numbers = itertools.count()
_WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' ORDER BY backend_start"

Call = Any  # Callable[[Store, SessionId], Coroutine[Any, Any, object]], which parametrize does not keep


class Pair:
    """A primary and its synchronous standby."""

    def __init__(self, version: str | None) -> None:
        self.primary = PostgresServer(settings={"synchronous_standby_names": STANDBY}, version=version)
        self.standby = PostgresServer(primary=self.primary)
        self._has_template = False

    async def new_database(self, admin: asyncpg.Connection[asyncpg.Record]) -> str:
        """The name of a database with our tables, copied from one that was made once."""
        if not self._has_template:
            await admin.execute("CREATE DATABASE with_tables TEMPLATE template0")
            async with PostgresStore(self.dsn("with_tables")):
                self._has_template = True
        name = f"standbys_{next(_numbers)}"
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE with_tables")
        return name

    def dsn(self, database: str = "postgres") -> str:
        """Names both, the standby first."""
        return f"postgresql://postgres@127.0.0.1:{self.standby.port},127.0.0.1:{self.primary.port}/{database}"

    def remove(self) -> None:
        self.standby.remove()
        self.primary.remove()


@pytest.fixture(scope="module")
def pair(postgres_version: str | None) -> Iterator[Pair]:
    if reason := postgres.missing(postgres_version):
        pytest.skip(reason)
    pair = Pair(postgres_version)
    yield pair
    pair.remove()


@pytest.fixture
async def admin(pair: Pair) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(pair.primary.dsn())
    yield connection
    await connection.close()


async def replayed(pair: Pair, admin: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until the standby shows all that the primary has: it confirms a commit before that."""
    now = await admin.fetchval("SELECT pg_current_wal_lsn()")
    standby = await asyncpg.connect(pair.standby.dsn())
    try:
        async with asyncio.timeout(30):
            while not await standby.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", now):  # noqa: ASYNC110 (there is no event to wait for)
                await asyncio.sleep(0.02)
    finally:
        await standby.close()


@pytest.fixture(scope="module")
def pooler(pair: Pair) -> Iterator[PgBouncer]:
    """PgBouncer before the primary."""
    with PgBouncer(pair.primary.dsn()) as started:
        yield started


@pytest.fixture(
    params=["pair", pytest.param("pooler", marks=[pytest.mark.extended, pytest.mark.pgbouncer])],
    ids=["directly", "through PgBouncer"],
)
async def dsn(
    request: pytest.FixtureRequest, pair: Pair, admin: asyncpg.Connection[asyncpg.Record]
) -> AsyncIterator[str]:
    """A new database on both servers. Behind PgBouncer, which keeps no settings for us, its defaults are weak."""
    name = await pair.new_database(admin)
    if request.param == "pooler":
        for setting in WEAK:
            await admin.execute(f"ALTER DATABASE {name} SET {setting}")
    await replayed(pair, admin)
    yield request.getfixturevalue(request.param).dsn(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Store]:
    async with PostgresStore(dsn, timeout_seconds=30, migrates=False) as store:  # longer than any of these tests takes
        yield store


@pytest.fixture
async def session(store: Store) -> SessionId:
    await register(store)
    made: SessionId = (await insert(store, new_session())).id
    assert (await store.delete_sessions(SessionFilter(session_id=unknown_id()))).ended == ()  # the runner is connected
    return made


@asynccontextmanager
async def away(pair: Pair) -> AsyncIterator[None]:
    """The standby does not answer for that long."""
    pair.standby.pause()
    try:
        yield
    finally:
        pair.standby.resume()


async def waiting(admin: asyncpg.Connection[asyncpg.Record], number: int = 1) -> list[int]:
    """The processes of so many COMMITs that wait for the standby, once there are so many."""
    async with asyncio.timeout(30):
        while len(rows := await admin.fetch(_WAITING)) != number:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.02)
    return [row["pid"] for row in rows]


def revoke(store: Store, session: SessionId) -> Coroutine[Any, Any, object]:
    return store.delete_sessions(SessionFilter(session_id=session))


def delete_by_user(store: Store, _session: SessionId) -> Coroutine[Any, Any, object]:
    return store.delete_sessions(SessionFilter(user_id=ADA))


def sign_out_everywhere(store: Store, _session: SessionId) -> Coroutine[Any, Any, object]:
    return store.end_user_sessions(ADA)


def block(store: Store, _session: SessionId) -> Coroutine[Any, Any, object]:
    return store.update_user(ADA, blocked=True)


def delete_user(store: Store, _session: SessionId) -> Coroutine[Any, Any, object]:
    return store.delete_user(ADA)


def rescope(store: Store, session: SessionId) -> Coroutine[Any, Any, object]:
    return store.set_session_scopes(session, frozenset())


def rescope_user(store: Store, _session: SessionId) -> Coroutine[Any, Any, object]:
    return store.set_user_scopes(ADA, frozenset())


def sign_in(store: Store, _session: SessionId) -> Coroutine[Any, Any, object]:
    return insert(store, new_session())


async def own_transaction(store: Store, session: SessionId) -> None:
    async with store.transaction() as transaction:
        await store.delete_sessions(SessionFilter(session_id=session), transaction=transaction)


ENDING = [revoke, delete_by_user, sign_out_everywhere, block, delete_user]


@pytest.mark.parametrize("end", ENDING)
async def test_a_caller_that_stops_waiting_for_the_standby_leaves_the_commit_to_the_server(
    pair: Pair, admin: asyncpg.Connection[asyncpg.Record], store: Store, session: SessionId, end: Call
) -> None:
    """Cancelled, it would be done on the primary for all to see, and undone by a failover."""
    async with away(pair):
        ending = asyncio.create_task(end(store, session))
        (pid,) = await waiting(admin)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert await waiting(admin) == [pid]
        assert await store.read_session(session) is not None
    await waiting(admin, 0)
    assert await store.read_session(session) is None


@pytest.mark.parametrize("call", [revoke, rescope, own_transaction])
async def test_a_write_that_waits_longer_than_the_limit_is_left_to_the_server(
    pair: Pair, admin: asyncpg.Connection[asyncpg.Record], dsn: str, session: SessionId, call: Call
) -> None:
    async with PostgresStore(dsn, timeout_seconds=2, migrates=False) as store:
        await call(store, unknown_id())  # what is to wait is connected
        async with away(pair):
            with pytest.raises(RevocationIndeterminate if call is revoke else StoreUnavailable):
                await call(store, session)
            await waiting(admin)
            assert await store.read_session(session) is not None
    await waiting(admin, 0)


@pytest.mark.parametrize("silenced", [False, True], ids=["told", "warnings silenced by the database"])
@pytest.mark.parametrize("end", ENDING)
async def test_a_revocation_whose_wait_for_the_standby_was_cancelled_is_indeterminate(
    pair: Pair, admin: asyncpg.Connection[asyncpg.Record], dsn: str, end: Call, *, silenced: bool
) -> None:
    """The server answers success and a warning (DELETE 1)."""
    if silenced:
        name = dsn.rpartition("/")[2]
        await admin.execute(f"ALTER DATABASE {name} SET client_min_messages = error")
    async with PostgresStore(dsn, timeout_seconds=30, migrates=False) as store:
        await register(store)
        session = await insert(store, new_session())
        async with away(pair):
            ending = asyncio.create_task(end(store, session.id))
            (pid,) = await waiting(admin)
            await admin.execute("SELECT pg_cancel_backend($1)", pid)
            with pytest.raises(RevocationIndeterminate):
                await ending
            assert await store.read_session(session.id) is None  # on the primary


@pytest.mark.parametrize("call", [rescope, rescope_user, sign_in, own_transaction])
async def test_a_write_whose_wait_for_the_standby_was_cancelled_is_not_confirmed(
    pair: Pair, admin: asyncpg.Connection[asyncpg.Record], store: Store, session: SessionId, call: Call
) -> None:
    async with away(pair):
        writing = asyncio.create_task(call(store, session))
        (pid,) = await waiting(admin)
        await admin.execute("SELECT pg_cancel_backend($1)", pid)
        with pytest.raises(StoreUnavailable):
            await writing


@pytest.mark.parametrize("end", [revoke, sign_out_everywhere])
async def test_a_revocation_whose_connection_an_operator_ends_is_indeterminate(
    pair: Pair, admin: asyncpg.Connection[asyncpg.Record], store: Store, session: SessionId, end: Call
) -> None:
    async with away(pair):
        ending = asyncio.create_task(end(store, session))
        (pid,) = await waiting(admin)
        await admin.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(RevocationIndeterminate):
            await ending


@pytest.mark.parametrize("again", [*ENDING, rescope, own_transaction])
async def test_a_retry_does_not_confirm_a_revocation_that_only_the_primary_has(
    pair: Pair, admin: asyncpg.Connection[asyncpg.Record], store: Store, session: SessionId, again: Call
) -> None:
    """A retry that finds no row would be acknowledged in a millisecond, and a failover would bring the row back."""
    async with away(pair):
        ending = asyncio.create_task(delete_user(store, session))
        (pid,) = await waiting(admin)
        await admin.execute("SELECT pg_cancel_backend($1)", pid)
        with pytest.raises(RevocationIndeterminate):
            await ending
        trying = asyncio.create_task(again(store, session))
        await waiting(admin)
        assert not trying.done()
        trying.cancel()
        with pytest.raises((asyncio.CancelledError, StoreUnavailable)):
            await trying
    await waiting(admin, 0)
    await again(store, session)


async def test_retries_while_a_standby_is_away_do_not_use_up_the_servers_connections(
    pair: Pair, admin: asyncpg.Connection[asyncpg.Record], store: Store, session: SessionId
) -> None:
    await register(store, BOB)
    async with away(pair):
        for number in range(AbandonedCommits.LIMIT):
            abandoned = asyncio.create_task(store.set_user_scopes(UserId(f"user {number}"), frozenset()))
            await waiting(admin, number + 1)
            abandoned.cancel()
            with pytest.raises(asyncio.CancelledError):
                await abandoned
        for call in (revoke, sign_out_everywhere, block, rescope, sign_in):
            with pytest.raises(StoreUnavailable, match="a standby that does not answer") as caught:
                await call(store, session)
            assert type(caught.value) is StoreUnavailable  # nothing was sent
        assert len(await waiting(admin, AbandonedCommits.LIMIT)) == AbandonedCommits.LIMIT
        assert await store.read_session(session) is not None
    await waiting(admin, 0)
    assert await revoke(store, session)


async def test_validations_go_to_the_primary_and_a_lone_standby_is_an_outage(
    pair: Pair, dsn: str, store: Store, session: SessionId
) -> None:
    assert await store.read_session(session) is not None
    name = dsn.rpartition("/")[2]
    with pytest.raises(StoreUnavailable):
        async with PostgresStore(pair.standby.dsn(name), migrates=False):
            pytest.fail("it should not open")


async def test_a_host_that_does_not_answer_does_not_delay_finding_the_primary(
    pair: Pair, dsn: str, session: SessionId
) -> None:
    name = dsn.rpartition("/")[2]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{pair.primary.port}"
        async with PostgresStore(f"postgresql://postgres@{hosts}/{name}", timeout_seconds=60) as store:
            async with asyncio.timeout(30):
                assert await store.read_session(session) is not None
            assert repr(store) == f"PostgresStore(127.0.0.1,127.0.0.1/{name})"


@pytest.mark.parametrize("end", ["killed", "immediate"])
async def test_a_store_goes_on_after_a_failover_and_loses_nothing_that_was_confirmed(
    end: str, postgres_version: str | None
) -> None:
    if reason := postgres.missing(postgres_version):
        pytest.skip(reason)
    pair = Pair(postgres_version)
    try:
        async with PostgresStore(pair.dsn()) as store:
            await register(store)
            live, *ended = [await insert(store, new_session()) for _ in range(20)]
            for one in ended:
                assert await revoke(store, one.id)
            if end == "killed":
                pair.primary.kill()
            else:
                pair.primary.stop(postgres.IMMEDIATE)
            with pytest.raises(StoreUnavailable):
                await store.read_session(live.id)
            pair.standby.promote()
            assert await store.read_session(live.id) is not None
            assert await stored_ids(store) == {live.id}
            assert await revoke(store, live.id)
    finally:
        pair.remove()


async def test_a_commit_of_the_application_waits_for_the_standby_but_its_warning_is_lost(
    pair: Pair, admin: asyncpg.Connection[asyncpg.Record], dsn: str, store: Store, session: SessionId
) -> None:
    """On a connection of the application's we do not see how its COMMIT is answered: the how-to says so."""
    name = dsn.rpartition("/")[2]
    engine = create_async_engine(pair.primary.dsn(name).replace("://", "+asyncpg://"))

    async def revoke_twice() -> None:
        async with engine.begin() as transaction:
            await store.delete_sessions(SessionFilter(session_id=session), transaction=transaction)
        async with engine.begin() as transaction:
            assert (await store.delete_sessions(SessionFilter(session_id=session), transaction=transaction)).ended == ()

    async with away(pair):
        revoking = asyncio.create_task(revoke_twice())
        (pid,) = await waiting(admin)
        await admin.execute("SELECT pg_cancel_backend($1)", pid)
        async with asyncio.timeout(30):
            while await store.read_session(session) is not None:  # noqa: ASYNC110 (there is no event to wait for)
                await asyncio.sleep(0.005)
        await waiting(admin)  # that of the second, which found nothing
    await revoking
    await engine.dispose()
