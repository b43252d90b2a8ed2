"""The kinds of transactions that an application can begin on SQLite and on PostgreSQL, refused ones included."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck.testing import TransactionKind, in_savepoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from coatcheck.stores.store import Store

ACCEPTED_LEVELS = {"read uncommitted", "read committed"}
NO_BEGIN = {"isolation_level": None}


class Engines:
    """The application's engines on one database."""

    def __init__(self, url: str, **connect_args: object) -> None:
        self._url = url
        self._connect_args = connect_args
        self._made: list[AsyncEngine] = []

    def make(
        self,
        *,
        begin: str | None = None,
        connect_args: Mapping[str, object] | None = None,
        uri: str | None = None,
        **options: Any,
    ) -> AsyncEngine:
        """An engine. `begin` is sent by a listener when a transaction begins, on a driver that sends nothing itself.

        `uri` is what is asked for in SQLite's URI.
        """
        url = self._url if uri is None else f"{self._url.replace('///', '///file:')}?uri=true&{uri}"
        engine = create_async_engine(url, connect_args={**self._connect_args, **(connect_args or {})}, **options)
        if begin is not None:
            event.listen(engine.sync_engine, "connect", _leave_begin_to_listeners)
            event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        self._made.append(engine)
        return engine

    async def dispose(self) -> None:
        while self._made:
            await self._made.pop().dispose()


def sqlite_kinds(store: Store, engines: Engines) -> list[TransactionKind]:
    """Each BEGIN there is, the driver's own too; and none."""
    kinds = [TransactionKind("its own", store.transaction, lets_others_write=False)]
    for statement in ("BEGIN DEFERRED", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"):
        is_deferred = statement == "BEGIN DEFERRED"
        begin = engines.make(begin=statement).begin
        kinds.append(TransactionKind(statement, begin, lets_others_write=is_deferred, may_come_too_late=is_deferred))
    drivers_own = TransactionKind("the driver's BEGIN before the first write", engines.make().begin)
    none = TransactionKind("no BEGIN", engines.make(connect_args=NO_BEGIN).begin, is_accepted=False)
    query_only = engines.make(begin="BEGIN DEFERRED")
    event.listen(query_only.sync_engine, "connect", _only_query)
    read_only = [
        TransactionKind("PRAGMA query_only", query_only.begin, is_accepted=False),
        TransactionKind("mode=ro", engines.make(uri="mode=ro").begin, is_accepted=False),
    ]
    return [
        *kinds,
        *map(in_savepoint, kinds),
        *read_only,
        *map(in_savepoint, read_only),
        drivers_own,
        in_savepoint(drivers_own, is_accepted=False),
        none,
        in_savepoint(none),
    ]


def postgresql_kinds(store: Store, engines: Engines, levels: Iterable[str]) -> list[TransactionKind]:
    """Each of the server's levels; and no transaction."""
    kinds = [TransactionKind("its own", store.transaction)]
    plain = engines.make()
    for level in levels:
        statement = f"SET TRANSACTION ISOLATION LEVEL {level}"
        kinds.append(
            TransactionKind(level, partial(after, statement, plain.begin), is_accepted=level in ACCEPTED_LEVELS)
        )
    read_only_settings = {"server_settings": {"default_transaction_read_only": "on"}}
    kinds += [
        TransactionKind("READ ONLY", partial(after, "SET TRANSACTION READ ONLY", plain.begin), is_accepted=False),
        TransactionKind(
            "default_transaction_read_only", engines.make(connect_args=read_only_settings).begin, is_accepted=False
        ),
    ]
    autocommits = engines.make()
    event.listen(autocommits.sync_engine, "connect", set_autocommit)
    none = TransactionKind("no BEGIN", autocommits.begin, is_accepted=False)
    return [*kinds, *map(in_savepoint, kinds), none]


@asynccontextmanager
async def after(
    statement: str, begin: Callable[[], AbstractAsyncContextManager[AsyncConnection]]
) -> AsyncIterator[AsyncConnection]:
    async with begin() as connection:
        await connection.exec_driver_sql(statement)
        yield connection


def _leave_begin_to_listeners(connection: DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None


def _only_query(connection: DBAPIConnection, _record: object) -> None:
    connection.cursor().execute("PRAGMA query_only = ON")


def set_autocommit(connection: DBAPIConnection, _record: object) -> None:
    connection.autocommit = True
