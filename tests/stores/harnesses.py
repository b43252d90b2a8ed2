"""Our stores, as the conformance suite wants to have them: a clock that stands still, and outages that are real."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
from redis import Redis

from coatcheck.clock import from_us, to_us
from coatcheck.stores.redis.packing import scopes_of
from coatcheck.stores.redis.store import RedisStore
from coatcheck.stores.redis.url import Address, parse_url
from coatcheck.stores.sql.postgresql.connection_shares import LEAST_CONNECTIONS
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.stores.sql.sqlite.store import SqliteStore
from coatcheck.testing import ManualClock, MemoryDatabase, MemoryStore, StoreHarness
from tests.servers.proxy import Proxy
from tests.stores.transaction_kinds import Engines, postgresql_kinds, sqlite_kinds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from coatcheck.identifiers import SessionId
    from coatcheck.stores.store import Store
    from coatcheck.testing import TransactionKind
    from tests.servers.pgbouncer import PgBouncer

TABLES = ("coatcheck_sessions", "coatcheck_users", "coatcheck_leases", "coatcheck_peppers")
SQLITE_TABLES = (*TABLES, "coatcheck_announcements", "coatcheck_endings")
_HOW_MANY_WAIT = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
_LEVELS = "SELECT enumvals FROM pg_settings WHERE name = 'default_transaction_isolation'"
SEARCH_PATH = "public,fake,pg_catalog"
_numbers = itertools.count()
_FENCE = "the end of a test"
_TIMEOUT_SECONDS = 20.0

NEW_YEAR_US = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC


class StandingClock:
    """A clock that shows what it was set to."""

    def __init__(self, now_us: int = NEW_YEAR_US) -> None:
        self.time_us = now_us

    def now_us(self) -> int:
        return self.time_us


class MemoryHarness(StoreHarness):
    """A database in memory. Outage: it simulates one."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(from_us(NEW_YEAR_US))
        self.database = MemoryDatabase(self.clock)
        self._under_way: list[asyncio.Task[object]] = []

    def make_store(self) -> Store:
        return MemoryStore(database=self.database)

    async def now_us(self) -> int:
        return self.clock.now_us()

    async def set_clock_us(self, now_us: int) -> None:
        self.clock.advance(from_us(now_us) - self.clock.now())

    async def reset(self) -> None:
        self.database.clear()

    def outage(self) -> AbstractAsyncContextManager[None]:
        return _as_async(self.database.outage())

    async def corrupt_scopes(self, session_id: SessionId) -> None:
        tables = self.database.tables
        tables.update(replace(tables.sessions[session_id].session, scopes=None))

    async def until_blocked(self, call: asyncio.Task[object]) -> None:
        """The database says how many wait for their turn, so that the call has really come as far as it can."""
        self._under_way = [call, *(earlier for earlier in self._under_way if not earlier.done())]
        while not call.done() and self.database.writer.waiting < len(self._under_way):  # noqa: ASYNC110 (as it is a number)
            await asyncio.sleep(0)


@asynccontextmanager
async def _as_async(block: AbstractContextManager[None]) -> AsyncIterator[None]:
    with block:
        yield


class SqliteHarness(StoreHarness):
    """A file in a folder. Outage: the tables are away."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "coatcheck.db"
        self.clock = StandingClock()
        self._engines = Engines(f"sqlite+aiosqlite:///{self.path}")

    def make_store(self) -> Store:
        return SqliteStore(self.path, clock=self.clock)

    async def stop(self) -> None:
        await self._engines.dispose()

    async def transaction_kinds(self) -> Sequence[TransactionKind]:
        return sqlite_kinds(self.store, self._engines)

    async def now_us(self) -> int:
        return self.clock.time_us

    async def set_clock_us(self, now_us: int) -> None:
        self.clock.time_us = now_us

    async def reset(self) -> None:
        with self.connection() as connection:
            for table in SQLITE_TABLES:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 (names from above)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self._rename("{}", "{}_away")
        try:
            yield
        finally:
            self._rename("{}_away", "{}")

    async def corrupt_scopes(self, session_id: SessionId) -> None:
        await self.write_scopes_text(session_id, "not scopes")

    async def write_scopes_text(self, session_id: SessionId, text: str) -> None:
        """Overwrite the text in which the session's scopes are stored."""
        with self.connection() as connection:
            connection.execute("UPDATE coatcheck_sessions SET scopes = ? WHERE id = ?", (text, session_id))

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection past the store. What was done is committed at the end of the block."""
        connection = sqlite3.connect(self.path)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def _rename(self, old: str, new: str) -> None:
        with self.connection() as connection:
            for table in SQLITE_TABLES:
                connection.execute(f"ALTER TABLE {old.format(table)} RENAME TO {new.format(table)}")


class PostgresHarness(StoreHarness):
    """A new database on a server. Its `clock_timestamp()` is ours, found before PostgreSQL's. Outage: a cut line."""

    locks_single_rows = True
    options = ""
    """More options of the store's URL."""

    def __init__(self, server_dsn: str) -> None:
        """`server_dsn` names any database of the server by which a new one can be made."""
        super().__init__()
        self._server_dsn = server_dsn
        self.name = f"coatcheck_harness_{os.getpid()}_{next(_numbers)}"
        self.proxy = Proxy(urlsplit(server_dsn).port or 5432)
        self._admin: asyncpg.Connection[asyncpg.Record] | None = None
        self._under_way: list[asyncio.Task[object]] = []
        self._engines = Engines(self.dsn.replace("://", "+asyncpg://"), server_settings={"search_path": SEARCH_PATH})
        self._kinds: Sequence[TransactionKind] = ()

    @property
    def dsn(self) -> str:
        """The new database, past the proxy."""
        return urlsplit(self._server_dsn)._replace(path=f"/{self.name}").geturl()

    @property
    def admin(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection past the store and the proxy."""
        assert self._admin is not None, "use the harness inside `async with`"
        return self._admin

    async def start(self) -> None:
        await self._on_server(f"CREATE DATABASE {self.name}")
        await self.proxy.__aenter__()
        self._admin = await asyncpg.connect(self.dsn)
        await self.admin.execute(
            """
            CREATE SCHEMA fake;
            CREATE TABLE fake.clock (now timestamptz NOT NULL);
            CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
                AS 'SELECT now FROM fake.clock';
            """
        )
        await self.admin.execute("INSERT INTO fake.clock VALUES ($1)", from_us(NEW_YEAR_US))

    async def stop(self) -> None:
        await self._engines.dispose()
        await self.admin.close()
        await self.proxy.__aexit__(None, None, None)
        await self._on_server(f"DROP DATABASE {self.name} WITH (FORCE)")

    def make_store(self) -> Store:
        parts = urlsplit(self.dsn)
        credentials, at, _ = parts.netloc.rpartition("@")
        through_the_proxy = parts._replace(
            netloc=f"{credentials}{at}127.0.0.1:{self.proxy.port}", query=f"search_path={SEARCH_PATH}{self.options}"
        )
        return PostgresStore(through_the_proxy.geturl())

    async def transaction_kinds(self) -> Sequence[TransactionKind]:
        """In every level that the server knows, and that a later version of it may add."""
        if not self._kinds:
            levels = await self.admin.fetchval(_LEVELS)
            self._kinds = postgresql_kinds(self.store, self._engines, levels)
        return self._kinds

    async def now_us(self) -> int:
        return to_us(await self.admin.fetchval("SELECT now FROM fake.clock"))

    async def set_clock_us(self, now_us: int) -> None:
        await self.admin.execute("UPDATE fake.clock SET now = $1", from_us(now_us))

    async def reset(self) -> None:
        for table in TABLES:  # DELETE, not TRUNCATE: the latter invalidates every prepared statement
            await self.admin.execute(f"DELETE FROM {table}")  # noqa: S608 (names from above)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        await self.proxy.cut()
        try:
            yield
        finally:
            await self.proxy.heal()

    async def corrupt_scopes(self, session_id: SessionId) -> None:
        await self.write_scopes_text(session_id, "not scopes")

    async def write_scopes_text(self, session_id: SessionId, text: str) -> None:
        """Overwrite the text in which the session's scopes are stored."""
        await self.admin.execute("UPDATE coatcheck_sessions SET scopes = $1 WHERE id = $2", text, session_id)

    async def until_blocked(self, call: asyncio.Task[object]) -> None:
        """PostgreSQL says how many wait for a lock, so that the call has really come as far as it can."""
        self._under_way = [call, *(earlier for earlier in self._under_way if not earlier.done())]
        while not call.done() and await self.admin.fetchval(_HOW_MANY_WAIT) < len(self._under_way):  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def _on_server(self, statement: str) -> None:
        connection = await asyncpg.connect(self._server_dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class LeastConnectionsHarness(PostgresHarness):
    """The same with as few connections as a store can have."""

    options = f"&connections={LEAST_CONNECTIONS}"


class PgBouncerHarness(PostgresHarness):
    """The same through PgBouncer in transaction mode, and listening past it. Outage: both lines are cut."""

    def __init__(self, server_dsn: str, pgbouncer: PgBouncer) -> None:
        """`pgbouncer` stands before the server that `server_dsn` names."""
        super().__init__(server_dsn)
        self.pooled_proxy = Proxy(pgbouncer.port)
        self._pgbouncer = pgbouncer

    async def start(self) -> None:
        await super().start()
        await self.pooled_proxy.__aenter__()
        # What a pooler does not keep for a connection, the database says for all.
        await self.admin.execute(f"ALTER DATABASE {self.name} SET search_path = {SEARCH_PATH}")

    async def stop(self) -> None:
        await self.pooled_proxy.__aexit__(None, None, None)
        await super().stop()

    def make_store(self) -> Store:
        parts = urlsplit(self._pgbouncer.dsn(self.name))
        pooled = parts._replace(
            netloc=f"{parts.username}@127.0.0.1:{self.pooled_proxy.port}", query=f"listen=127.0.0.1:{self.proxy.port}"
        )
        return PostgresStore(pooled.geturl())

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        await self.pooled_proxy.cut()
        try:
            async with super().outage():
                yield
        finally:
            await self.pooled_proxy.heal()


class RedisHarness(StoreHarness):
    """A server, or a Cluster, that is emptied. Outage: a cut line to each server."""

    has_transactions = False

    def __init__(self, url: str, *, watched: Sequence[int] = ()) -> None:
        """`url` names a server, or all members of a Cluster, or sentinels, which watch over the ports `watched`."""
        super().__init__()
        self._url = url
        self.clock = StandingClock()
        self._named = parse_url(url).addresses
        servers = [Address("127.0.0.1", port) for port in watched] or self._named
        self._proxies = {address: Proxy(address.port) for address in servers}
        self._connections = [Redis(host=address.host, port=address.port) for address in self._proxies]
        self._fences = [
            connection.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # redis-py does not say
            for connection in self._connections
        ]

    async def start(self) -> None:
        for fence in self._fences:
            fence.subscribe(_FENCE)
        for proxy in self._proxies.values():
            await proxy.__aenter__()
        await self.reset()

    async def stop(self) -> None:
        for one in (*self._fences, *self._connections):
            one.close()
        for proxy in self._proxies.values():
            await proxy.__aexit__(None, None, None)

    def make_store(self) -> Store:
        parts = urlsplit(self._url)
        hosts = ",".join(str(self._through_proxy(address)) for address in self._named)
        store_url = f"{parts.scheme}://{hosts}{parts.path}"
        # Outages cut the line, so that nobody waits for the limit; a replica may be waited for a good while.
        return RedisStore(store_url, clock=self.clock, remap=self._through_proxy, timeout_seconds=_TIMEOUT_SECONDS)

    async def now_us(self) -> int:
        return self.clock.time_us

    async def set_clock_us(self, now_us: int) -> None:
        self.clock.time_us = now_us

    async def reset(self) -> None:
        primaries = self._primaries()
        for connection in primaries:
            connection.flushall()
        self._wait_for_messages_from(primaries)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        for proxy in self._proxies.values():
            await proxy.cut()
        try:
            yield
        finally:
            for proxy in self._proxies.values():
                await proxy.heal()

    async def corrupt_scopes(self, session_id: SessionId) -> None:
        await self.write_scopes_text(session_id, "not scopes")

    async def write_scopes_text(self, session_id: SessionId, text: str) -> None:
        """Overwrite the text in which the session's scopes are stored."""
        for connection in self._primaries():
            for key in connection.scan_iter(f"*:session:{session_id}"):
                value = connection.get(key)
                assert isinstance(value, bytes)
                connection.set(key, value[: len(value) - len(scopes_of(value))] + text.encode(), keepttl=True)

    def _wait_for_messages_from(self, primaries: list[Redis]) -> None:
        """Return when all that was published so far has reached every server, so that the next test does not hear it.

        In a Cluster a message may reach one server after the test that has caused it heard it from another.
        """
        texts = {str(next(_numbers)).encode(): connection for connection in primaries}
        for text, connection in texts.items():
            connection.publish(_FENCE, text)
        for fence in self._fences:
            missing = set(texts)
            while missing:
                missing.remove(next(fence.listen())["data"])

    def _through_proxy(self, address: Address) -> Address:
        proxy = self._proxies.get(address)
        return address if proxy is None else Address("127.0.0.1", proxy.port)

    def _primaries(self) -> list[Redis]:
        return [connection for connection in self._connections if connection.role()[0] == b"master"]
