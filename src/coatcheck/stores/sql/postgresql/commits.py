"""Commits on PostgreSQL, which are done only if the server says so and says nothing else.

With synchronous standbys a COMMIT waits until one of them has it. A wait that is cancelled, by us or by an operator,
is answered with success and a warning: the transaction is committed on the primary, where everybody sees it, and a
failover undoes it. Hence the three rules here (measured: docs/how-to/postgresql-standbys.md):

* A COMMIT is never cancelled. Who does not wait any longer drops the connection without a word; the server goes on
  waiting, and until it is done nobody sees what was committed.
* A COMMIT that is answered with a warning is not confirmed.
* What is found already done may be committed on the primary alone. Its answer waits too, by a commit of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast
from weakref import WeakSet

from coatcheck.errors import StoreUnavailable
from coatcheck.stores.sql.transactions import NotConfirmedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncConnection

WAIT_FOR_WHAT_WAS_SEEN = "SELECT pg_logical_emit_message(true, 'coatcheck', '')"
"""Makes the COMMIT wait although nothing was written: a record of a few bytes in the log, and no row anywhere.

An id alone (`pg_current_xact_id()`) does not: PostgreSQL waits only for transactions that have written to the log.
"""

_STILL_WAITING = "SELECT pid FROM pg_stat_activity WHERE pid = ANY($1::int[]) AND wait_event = 'SyncRep'"

_warned: WeakSet[asyncpg.Connection[asyncpg.Record]] = WeakSet()


def listen(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Note from now on whether the server warns of something on `connection`."""
    connection.add_log_listener(_note)


def forget_warnings(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """What the server has warned of so far is not about what comes next."""
    _warned.discard(connection)


def has_warned(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    """Whether the server has warned of something since. asyncpg tells of it before it hands over the answer."""
    return connection in _warned


def _note(connection: object, message: asyncpg.PostgresLogMessage) -> None:
    # The text is in the server's language, and the code is that of any warning.
    if getattr(message, "severity_en", None) == "WARNING":
        _warned.add(connection)  # type: ignore[arg-type]  # a connection, or a proxy where there is a pool of asyncpg's


class AbandonedCommits:
    """The commits of one store whose wait for a standby nobody here waits for any longer; the server still does.

    Each holds a process of the server's. Without a limit, retrying while a standby is away would use them all up.
    """

    LIMIT = 4

    def __init__(self) -> None:
        """None so far."""
        self._pids: set[int] = set()

    def abandon(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Drop a connection in the middle of a COMMIT, without cancelling that."""
        if not connection.is_closed():
            self._pids.add(connection.get_server_pid())
            connection.terminate()

    async def check(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Where there are too many, look which are still waiting, over a connection that has nothing else to do.

        Raises:
            StoreUnavailable: too many are; one more would fare no better.
        """
        if len(self._pids) < self.LIMIT:
            return
        rows: Sequence[asyncpg.Record] = await connection.fetch(_STILL_WAITING, list(self._pids))
        self._pids &= {row[0] for row in rows}
        if len(self._pids) >= self.LIMIT:
            raise StoreUnavailable("the store cannot write (its commits wait for a standby that does not answer)")

    async def before_writing(self, connection: AsyncConnection) -> None:
        """See `check`."""
        if len(self._pids) >= self.LIMIT:
            await self.check(await _driver_connection(connection))

    async def commit(self, connection: AsyncConnection, timeout_seconds: float | None) -> None:
        """Commit; give up waiting after so many seconds, or when cancelled, and leave the COMMIT to the server.

        Raises:
            NotConfirmedError: it was answered with a warning.
            TimeoutError: it was not answered in time.
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
                committing.add_done_callback(_look_at)
                await asyncio.wait({committing})  # it fails at once
        if has_warned(driver):
            raise NotConfirmedError("COMMIT was answered with a warning")


async def _driver_connection(connection: AsyncConnection) -> asyncpg.Connection[asyncpg.Record]:
    return cast("asyncpg.Connection[asyncpg.Record]", (await connection.get_raw_connection()).driver_connection)


def _look_at(task: asyncio.Future[None]) -> None:
    """Take the outcome that nobody waits for, so that it is not reported as forgotten."""
    if not task.cancelled():
        task.exception()
