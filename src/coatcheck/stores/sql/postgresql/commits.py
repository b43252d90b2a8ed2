"""Commits on PostgreSQL, which count as done only if the server confirms them without a warning.

With synchronous standbys a COMMIT waits until one of them has it. A wait that is cancelled, by us or by an operator,
is answered with success and a warning: the transaction is committed on the primary, where everybody sees it, and a
failover undoes it. Hence the three rules here (measured: docs/how-to/postgresql-standbys.md):

* A COMMIT is never cancelled. A caller that stops waiting drops the connection without a word; the server goes on
  waiting, and until it is done no other transaction sees the changes.
* A COMMIT that is answered with a warning is not confirmed.
* A change that is found already done may be committed on the primary alone. Its answer waits too, by its own commit.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from coatcheck.errors import StoreUnavailable
from coatcheck.stores.sql.transactions import NotConfirmedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncConnection

WAIT_FOR_WHAT_WAS_SEEN = "SELECT pg_logical_emit_message(true, 'coatcheck', '')"
"""Makes the COMMIT wait although nothing was written: a record of a few bytes in the log, and no row.

A transaction id alone (`pg_current_xact_id()`) does not: PostgreSQL waits only for transactions that have written to
the log.
"""

_STILL_WAITING = "SELECT pid FROM pg_stat_activity WHERE pid = ANY($1::int[]) AND wait_event = 'SyncRep'"

# A pooler gives its clients process ids of its own making. So commits of this role that wait are counted instead.
_ANY_STILL_WAITING = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE usename = current_user AND datname = current_database() AND wait_event = 'SyncRep'"
)

_warned: WeakSet[asyncpg.Connection[asyncpg.Record]] = WeakSet()


def listen(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Note from now on whether the server sends a warning on `connection`."""
    connection.add_log_listener(_note)


def forget_warnings(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Forget the warnings so far: they are not about the next statement."""
    _warned.discard(connection)


def has_warned(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    """Whether the server has sent a warning since. asyncpg reports it before it hands over the answer."""
    return connection in _warned


def _note(connection: object, message: asyncpg.PostgresLogMessage) -> None:
    # The text is in the server's language, and the code is the same for every warning.
    if getattr(message, "severity_en", None) == "WARNING":
        _warned.add(connection)  # type: ignore[arg-type]  # a connection, or a proxy where there is a pool of asyncpg's


class AbandonedCommits:
    """The commits of one store that wait for a standby, and that no caller waits for any longer.

    Each holds a process of the server. Without a limit, retries while a standby is away would use up all of them.
    """

    LIMIT = 4

    def __init__(self) -> None:
        """There are none at first."""
        self._pids: set[int] = set()
        self.is_pooled: bool = False

    def abandon(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Drop a connection in the middle of a COMMIT, without cancelling that."""
        if not connection.is_closed():
            self._pids.add(connection.get_server_pid())
            connection.terminate()

    async def check(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """If there are too many, ask which are still waiting, over a connection that is idle.

        Raises:
            StoreUnavailable: too many are still waiting; one more would wait too.
        """
        if len(self._pids) < self.LIMIT:
            return
        rows: Sequence[asyncpg.Record]
        if self.is_pooled:
            rows = await connection.fetch(_ANY_STILL_WAITING)
            self._pids = set(list(self._pids)[: len(rows)])
        else:
            rows = await connection.fetch(_STILL_WAITING, list(self._pids))
            self._pids &= {row[0] for row in rows}
        if len(self._pids) >= self.LIMIT:
            raise StoreUnavailable("the store cannot write (its commits wait for a standby that does not answer)")

    async def before_writing(self, connection: AsyncConnection) -> None:
        """Check, for a connection of SQLAlchemy's. See `check`."""
        if len(self._pids) >= self.LIMIT:
            await self.check(await _driver_connection(connection))

    async def commit(self, connection: AsyncConnection, timeout_seconds: float | None) -> None:
        """Commit. After `timeout_seconds`, or when it is cancelled, stop waiting and leave the COMMIT to the server.

        Raises:
            NotConfirmedError: the COMMIT was answered with a warning.
            TimeoutError: the COMMIT was not answered in time.
        """
        driver = await _driver_connection(connection)
        forget_warnings(driver)
        committing = asyncio.ensure_future(connection.commit())
        try:
            async with asyncio.timeout(timeout_seconds):
                await asyncio.shield(committing)
        finally:
            if not committing.done():
                self.abandon(driver)
                committing.add_done_callback(drop_outcome)
                await asyncio.wait({committing})  # it fails at once
        if has_warned(driver):
            raise NotConfirmedError("COMMIT was answered with a warning")


def drop_outcome(task: asyncio.Future[Any]) -> None:
    """Retrieve the outcome that no caller waits for, so that asyncio does not report it as never retrieved."""
    if not task.cancelled():
        task.exception()


async def _driver_connection(connection: AsyncConnection) -> asyncpg.Connection[asyncpg.Record]:
    return cast("asyncpg.Connection[asyncpg.Record]", (await connection.get_raw_connection()).driver_connection)
