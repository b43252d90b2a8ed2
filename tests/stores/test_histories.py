"""The history of a store goes back while a sign-in is under way: an ending in the new history refuses it all the same.

A database is restored from a copy, another server takes over without the last writes, or a server comes back empty. The
sign-in has noted what the store does not know any more, and its numbers are given a second time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import asyncpg
import pytest

from coatcheck.stores.records import Insertion, InsertRefusal
from coatcheck.stores.redis.store import RedisStore
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.stores.sql.sqlite.store import SqliteStore
from coatcheck.testing.samples import ADA, epochs_of, new_session, register
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coatcheck.stores.records import Position, UserEpochs

    AnyStore = SqliteStore | PostgresStore | RedisStore


class Past(ABC):
    """A store, and a way in which its history goes back. It is closed while this happens."""

    @abstractmethod
    def store(self) -> AnyStore:
        """The store as it is now, not opened."""

    def keep(self) -> None:  # noqa: B027 (a server that comes back empty keeps nothing)
        """The present comes back at `go_back`. Without, that is an empty store."""

    @abstractmethod
    async def go_back(self) -> None:
        """Undo everything since `keep`."""


class SqliteCopy(Past):
    """The file is overwritten with a copy of itself."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "sessions.db"
        self._copy = folder / "copy.db"

    def store(self) -> AnyStore:
        return SqliteStore(self._file)

    def keep(self) -> None:
        _back_up(self._file, self._copy)

    async def go_back(self) -> None:
        _back_up(self._copy, self._file)


class PostgresFiles(Past):
    """The files of a server are replaced by a copy, as from a snapshot of its disk: it calls itself as before."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def store(self) -> AnyStore:
        return PostgresStore(self._server.dsn())

    def keep(self) -> None:
        self._server.keep_files()

    async def go_back(self) -> None:
        self._server.put_files_back()


class PostgresStandby(Past):
    """A standby takes over that lacks the last commits."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self._primary = primary
        self._standby = standby

    def store(self) -> AnyStore:
        return PostgresStore(f"postgresql://postgres@127.0.0.1:{self._primary.port},127.0.0.1:{self._standby.port}/")

    def keep(self) -> None:
        self._primary.stop()  # has sent everything to the standby when it ends
        self._standby.stop()
        self._primary.start()

    async def go_back(self) -> None:
        self._primary.kill()
        self._standby.start()
        self._standby.promote()


class YoungerPostgres(Past):
    """Another server is in the place of the first, and has given fewer transaction ids."""

    def __init__(self, older: str, younger: str) -> None:
        self._older = older
        self._younger = younger
        self._dsn = older

    def store(self) -> AnyStore:
        return PostgresStore(self._dsn)

    async def go_back(self) -> None:
        far_on, behind = await asyncpg.connect(self._older), await asyncpg.connect(self._younger)
        xid = "SELECT pg_current_xact_id()::text::bigint"
        goal = await behind.fetchval(xid) + 1000
        while await far_on.fetchval(xid) < goal:
            pass
        await far_on.close()
        await behind.close()
        self._dsn = self._younger


class RedisAgainEmpty(Past):
    """A server that keeps nothing on disk is killed and started."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def store(self) -> AnyStore:
        return RedisStore(self._server.url)

    async def go_back(self) -> None:
        self._server.kill()
        self._server.start()


class RedisReplica(Past):
    """A replica takes over that lacks the last writes."""

    def __init__(self, primary: RedisServer, replica: RedisServer) -> None:
        self._primary = primary
        self._replica = replica
        self._url = primary.url

    def store(self) -> AnyStore:
        return RedisStore(self._url)

    def keep(self) -> None:
        self._replica.ask("REPLICAOF", "127.0.0.1", self._primary.port)
        while self._primary.ask("WAIT", 1, 100) < 1:
            self._primary.ask("SET", "a write", "to wait for")
        self._replica.ask("REPLICAOF", "NO", "ONE")

    async def go_back(self) -> None:
        self._primary.kill()
        self._url = self._replica.url


@pytest.fixture(
    params=[
        SqliteCopy,
        *(pytest.param(kind, marks=pytest.mark.postgres) for kind in (PostgresFiles, PostgresStandby, YoungerPostgres)),
        *(pytest.param(kind, marks=pytest.mark.redis) for kind in (RedisAgainEmpty, RedisReplica)),
    ],
    ids=lambda kind: kind.__name__,
)
def past(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Past]:
    kind = request.param
    with ExitStack() as servers:
        if kind is SqliteCopy:
            yield SqliteCopy(tmp_path)
        elif issubclass(kind, RedisAgainEmpty):
            yield RedisAgainEmpty(servers.enter_context(RedisServer()))
        elif issubclass(kind, RedisReplica):
            primary = servers.enter_context(RedisServer(repl_diskless_sync_delay="0"))
            yield RedisReplica(primary, servers.enter_context(RedisServer()))
        else:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            if kind is PostgresFiles:
                yield PostgresFiles(server)
                return
            second = PostgresServer(primary=server if kind is PostgresStandby else None)
            servers.callback(second.remove)
            yield (
                PostgresStandby(server, second)
                if kind is PostgresStandby
                else YoungerPostgres(server.dsn(), second.dsn())
            )


async def _sign_in(store: AnyStore, epochs: UserEpochs, began_at: Position | None = None) -> Insertion | InsertRefusal:
    return await store.insert_session(
        new_session(), expected_revocations=epochs.revocations, expected_rescopes=None, began_at=began_at
    )


async def test_a_sign_in_that_began_in_a_history_that_is_gone_is_refused_by_an_ending_in_the_present_one(
    past: Past,
) -> None:
    async with past.store() as store:
        await register(store)
        await store.end_user_sessions(ADA)
    past.keep()
    async with past.store() as store:
        await store.end_user_sessions(ADA)  # this one will be gone
        epochs, began_at = await epochs_of(store, ADA), await store.read_position()
    await past.go_back()
    async with past.store() as store:
        if await store.read_user(ADA) is None:
            await register(store)
        await store.end_user_sessions(ADA)
        now = await epochs_of(store, ADA)
        assert await _sign_in(store, epochs) is InsertRefusal.USER_REVOKED, "the user was known"
        begin_now = await store.read_position()
        outcomes = await asyncio.gather(*(_sign_in(store, now, one) for one in (began_at, *[begin_now] * 3)))
        assert outcomes[0] is InsertRefusal.USER_REVOKED, "the user was not known"
        assert all(isinstance(outcome, Insertion) for outcome in outcomes[1:])


def _back_up(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)
