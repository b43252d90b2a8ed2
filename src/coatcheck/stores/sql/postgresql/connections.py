"""The connections of one store, each for a purpose: to the server itself, or through a pooler where one was found.

Settings that a connection keeps (durability, the types of times, prepared statements) are made on it where there is no
pooler, and in each transaction where there is one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from sqlalchemy import text
from sqlalchemy.event import listens_for
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from coatcheck.errors import ConfigurationError
from coatcheck.stores.failures import kind_of
from coatcheck.stores.sql.postgresql.callers_transaction import MAKE_DURABLE, SETTINGS_OF_A_TRANSACTION
from coatcheck.stores.sql.postgresql.commits import AbandonedCommits
from coatcheck.stores.sql.postgresql.connecting import connect_through_pooler, connect_to_primary, is_pooled
from coatcheck.stores.sql.postgresql.dsn_options import server_settings
from coatcheck.stores.sql.postgresql.listener import hears, nothing_heard, notifications
from coatcheck.stores.sql.postgresql.pooled_statements import make_reads_ready, make_writes_ready
from coatcheck.stores.sql.postgresql.prepared_connections import DRIVER_ERRORS, PreparedConnection, make_ready
from coatcheck.stores.sql.postgresql.setup_mistakes import setup_mistake

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    import asyncpg
    from sqlalchemy.engine.interfaces import AdaptedConnection, DBAPIConnection

    from coatcheck.stores.sql.postgresql.connection_shares import ConnectionShares
    from coatcheck.stores.sql.postgresql.dsn import Dsn
    from coatcheck.stores.sql.postgresql.prepared_connections import Statement

_log = logging.getLogger(__name__)

_KEPT_TRANSACTIONS = 5
"""How many connections for transactions stay open when they are idle."""

_ROOM = text(
    "SELECT least("
    "CAST(current_setting('max_connections') AS int) - CAST(current_setting('superuser_reserved_connections') AS int) "
    "- CAST(coalesce(current_setting('reserved_connections', true), '0') AS int), "  # PostgreSQL 16 or newer
    "(SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user), "
    "(SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()))"
)

# PostgreSQL counts from 2000-01-01.
_POSTGRES_EPOCH_US = 946_684_800_000_000


class Connections:
    """Makes the connections of one store. `is_pooled` is known once `look_for_pooler` has looked."""

    def __init__(self, target: Dsn, shares: ConnectionShares, *, timeout_seconds: float) -> None:
        """To the primary among the hosts of `target`, each within `timeout_seconds`, as many as `shares` has."""
        self._target = target
        self._shares = shares
        self._timeout_seconds = timeout_seconds
        self.is_pooled: bool = False
        self.commits: AbandonedCommits = AbandonedCommits()

    async def look_for_pooler(self) -> None:
        """Find out whether there is a pooler before the server.

        Raises:
            ConfigurationError: there is one, and the store URL has settings of the server.
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError: no primary accepts a connection.
        """
        self.is_pooled = self.commits.is_pooled = await is_pooled(self._target, timeout_seconds=self._timeout_seconds)
        if not self.is_pooled:
            return
        if names := server_settings(self._target.option_names):
            raise ConfigurationError(
                f"the store URL has the option {', '.join(names)}, which is a setting of the server, and a pooler does "
                "not keep it: use ALTER ROLE ... SET on the server instead"
            )
        _log.info(
            "PostgresStore(%s) is reached through a pooler: its statements share their names with all clients of the "
            "pooler, and settings are made in each transaction",
            self._target,
        )

    async def tell(self, connection: AsyncConnection) -> None:
        """Log how many connections this process takes, and how many there are; a warning if those are fewer."""
        ours, server, in_words = self._shares.total, (await connection.execute(_ROOM)).scalar_one(), ""
        if self.is_pooled:
            ours -= self._shares.announcements
            in_words = " of the pooler" + (f", and {self._shares.announcements} past it" if self._target.listen else "")
        is_enough = self.is_pooled or ours <= server
        _log.log(
            logging.INFO if is_enough else logging.WARNING,
            "PostgresStore(%s) takes %d connections%s at most, and the server has %d for this role%s",
            self._target,
            ours,
            in_words,
            server,
            "" if is_enough else ": it may refuse some; give this process fewer (`connections` in the store URL)",
        )

    # --- by purpose ---

    def reader(self, statements: Sequence[str]) -> PreparedConnection:
        """For statements that only read and end with a WHERE clause."""
        return PreparedConnection(self._connect_reader, statements, make_ready=self._make_reads_ready)

    def toucher(self, statements: Sequence[str]) -> PreparedConnection:
        """For statements whose loss in a crash does no harm."""
        return PreparedConnection(self._connect_reader, statements, make_ready=self._make_writes_ready)

    def writer(self, statements: Sequence[str]) -> PreparedConnection:
        """For statements that write durably, each in a transaction of its own."""
        return PreparedConnection(self._connect_grouped_writer, statements, self.commits, self._make_writes_ready)

    def engine(self) -> AsyncEngine:
        """For everything else: durable transactions, in which each statement sees what is committed when it starts."""
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect_writer,
            isolation_level="READ COMMITTED",
            # A restarted server costs the next sign-in a reconnect, not an error. Through a pooler a ping would queue
            # for a server connection before the transaction does.
            pool_pre_ping=not self.is_pooled,
            pool_size=min(self._shares.transactions, _KEPT_TRANSACTIONS),
            max_overflow=max(0, self._shares.transactions - _KEPT_TRANSACTIONS),
            pool_timeout=self._timeout_seconds,
            hide_parameters=True,  # errors and logs would show stored hashes
        )
        if self.is_pooled:
            listens_for(engine.sync_engine, "checkout")(_replace_if_closed)
        return engine

    async def make_settings(self, connection: AsyncConnection) -> None:
        """Make the settings of a transaction that has just begun on the engine, where connections do not keep them."""
        if self.is_pooled:
            await connection.exec_driver_sql(SETTINGS_OF_A_TRANSACTION)

    # --- listening ---

    @property
    def listens_to(self) -> Dsn | None:
        """Where announcements are heard, if anywhere."""
        return self._target.listen or (None if self.is_pooled else self._target)

    def announced(self) -> AsyncGenerator[str | None, None]:
        """The texts of all announcements from now on; None where some may have been missed."""
        target = self.listens_to
        if target is None:
            return nothing_heard()
        return notifications(lambda: self._connect_to_listen(target), timeout_seconds=self._timeout_seconds)

    async def check_listening(self, announce: Callable[[str], Awaitable[None]]) -> None:
        """Where the store URL has `listen`: announce something to a channel, and hear it.

        Where it cannot be reached yet, `announced` goes on trying.

        Raises:
            ConfigurationError: it was not heard, or will never be reached.
        """
        target = self._target.listen
        if target is None:
            return
        try:
            is_heard = await hears(
                lambda: self._connect_to_listen(target), announce, timeout_seconds=self._timeout_seconds
            )
        except (*DRIVER_ERRORS, TimeoutError) as error:
            if mistake := setup_mistake(error):
                raise ConfigurationError(f"listen in the store URL cannot be used ({target}): {mistake}") from error
            _log.warning("PostgresStore(%s) cannot listen to %s yet (%s)", self._target, target, kind_of(error))
            return
        if not is_heard:
            raise ConfigurationError(
                "listen in the store URL names another database, or a pooler in transaction mode: what is announced "
                "is not heard there. It must name the server itself"
            )

    # --- connecting ---

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        connect = connect_through_pooler if self.is_pooled else connect_to_primary
        return await connect(self._target, timeout_seconds=self._timeout_seconds)

    async def _connect_to_listen(self, target: Dsn) -> asyncpg.Connection[asyncpg.Record]:
        if target is self._target:
            return await self._connect()
        # Without settings, so that a pooler in session mode may be there as well.
        return await connect_through_pooler(target, timeout_seconds=self._timeout_seconds)

    async def _connect_writer(self) -> asyncpg.Connection[asyncpg.Record]:
        connection = await self._connect()
        if self.is_pooled:
            return connection
        try:
            await connection.execute(MAKE_DURABLE)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _connect_reader(self) -> asyncpg.Connection[asyncpg.Record]:
        return await with_integer_times(await self._connect())

    async def _connect_grouped_writer(self) -> asyncpg.Connection[asyncpg.Record]:
        return await with_integer_times(await self._connect_writer())

    async def _make_reads_ready(
        self, connection: asyncpg.Connection[asyncpg.Record], texts: Sequence[str]
    ) -> dict[str, Statement]:
        return await (make_reads_ready if self.is_pooled else make_ready)(connection, texts)

    async def _make_writes_ready(
        self, connection: asyncpg.Connection[asyncpg.Record], texts: Sequence[str]
    ) -> dict[str, Statement]:
        return await (make_writes_ready if self.is_pooled else make_ready)(connection, texts)


def _replace_if_closed(connection: DBAPIConnection, _record: object, _proxy: object) -> None:
    """Have SQLAlchemy's pool make another connection for one that the pooler has closed, as when it was restarted."""
    if cast("AdaptedConnection", connection).driver_connection.is_closed():
        raise DisconnectionError


async def with_integer_times(
    connection: asyncpg.Connection[asyncpg.Record],
) -> asyncpg.Connection[asyncpg.Record]:
    """Hand times over as whole microseconds: building a `datetime` for each costs more than the rest of the row."""
    try:
        await connection.set_type_codec(
            "timestamptz",
            schema="pg_catalog",
            format="tuple",
            encoder=lambda moment_us: (moment_us - _POSTGRES_EPOCH_US,),
            decoder=lambda value: value[0] + _POSTGRES_EPOCH_US,
        )
    except BaseException:
        connection.terminate()
        raise
    return connection
