"""Connections that serve one purpose each and keep its statements prepared.

Taking a connection from SQLAlchemy's pool for each read costs three times as much.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeAlias

import asyncpg

from coatcheck.errors import RevocationIndeterminate, StoreUnavailable
from coatcheck.stores.failures import cannot_answer
from coatcheck.stores.sql.postgresql.commits import drop_outcome, forget_warnings, has_warned
from coatcheck.stores.sql.transactions import INDETERMINATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from coatcheck.stores.sql.postgresql.commits import AbandonedCommits

_LOST = {
    StoreUnavailable: "the store has not confirmed a write",
    RevocationIndeterminate: INDETERMINATE,
}

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""The errors that asyncpg raises where the database does not answer."""


class NotWrittenError(Exception):
    """A statement that writes was refused, and has written nothing. The driver's error is the cause."""


class Statement(Protocol):
    """A statement that a connection has ready."""

    def fetch(self, *arguments: object) -> Awaitable[list[asyncpg.Record]]:
        """Run it, and return its rows."""
        ...


MakeReady: TypeAlias = "Callable[[asyncpg.Connection[asyncpg.Record], Sequence[str]], Awaitable[dict[str, Statement]]]"


async def make_ready(connection: asyncpg.Connection[asyncpg.Record], texts: Sequence[str]) -> dict[str, Statement]:
    """Prepare statements for this connection alone. Without a cache of statements, asyncpg gives them no names."""
    return {text: await connection.prepare(text) for text in texts}


class Fetching(Protocol):
    """A connection, or several, over which batches read."""

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """See `PreparedConnection.fetch`."""
        ...


class PreparedConnection:
    """A connection for one caller at a time, made when it is first used and replaced when it breaks."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]],
        statements: Sequence[str],
        commits: AbandonedCommits | None = None,
        make_ready: MakeReady = make_ready,
    ) -> None:
        """Set up without connecting. `commits` is for connections that `write`."""
        self._connect = connect
        self._make_ready = make_ready
        self._statements = statements
        self._commits = commits
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._prepared: dict[str, Statement] = {}
        self._is_closed = False

    async def open(self) -> None:
        """Connect, so that a database that cannot be reached is found at the start."""
        self._is_closed = False
        await self._prepare()

    def reopen(self) -> None:
        """Allow connecting again; the first use does."""
        self._is_closed = False

    async def close(self, *, timeout_seconds: float) -> None:
        """Close the connection. Calls that are under way make no new one."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=timeout_seconds)
            except (*DRIVER_ERRORS, TimeoutError):
                connection.terminate()

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a prepared statement; once more on a new connection if the first attempt fails.

        Only for statements that may run twice. The caller limits the time.

        Raises:
            StoreUnavailable: both attempts failed.
        """
        try:
            try:
                return await (await self._prepare())[statement].fetch(*arguments)
            except DRIVER_ERRORS:
                # The connection may have been dead for hours: nothing was sent over it meanwhile.
                self._discard()
                return await (await self._prepare())[statement].fetch(*arguments)
        except DRIVER_ERRORS as error:
            self._discard()
            raise StoreUnavailable(cannot_answer(error)) from error
        except asyncio.CancelledError:
            self._discard()  # the rest of an answer may still come over it, and no other caller must get that
            raise

    async def write(
        self, statement: str, *arguments: object, when_lost: type[StoreUnavailable]
    ) -> list[asyncpg.Record]:
        """Run a prepared statement that writes, in a transaction of its own, and never twice.

        A caller that is cancelled leaves the statement to the server: a COMMIT that waits for a standby and is then
        cancelled has happened all the same.

        Raises:
            NotWrittenError: the server refused it, or its values cannot be sent; nothing was written.
            StoreUnavailable: there is no connection, or too many commits wait already; nothing was written.
            when_lost: the connection broke before the answer came, or the server answered with a warning; the outcome
                is not known.
        """
        try:
            prepared = (await self._prepare())[statement]
            connection = self._connected()
            if self._commits is not None:
                await self._commits.check(connection)
        except DRIVER_ERRORS as error:
            self._discard()
            raise StoreUnavailable(cannot_answer(error)) from error
        except asyncio.CancelledError:
            self._discard()
            raise
        forget_warnings(connection)
        running = asyncio.ensure_future(prepared.fetch(*arguments))
        try:
            rows = await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(drop_outcome)
            if self._commits is not None:
                self._commits.abandon(connection)
            self._discard()
            raise
        except ValueError as error:  # asyncpg cannot encode a value
            raise NotWrittenError from error
        except DRIVER_ERRORS as error:
            self._discard()  # also where the server refused: a changed table needs the statement prepared again
            if isinstance(error, asyncpg.PostgresError) and not _ends_the_connection(error):
                raise NotWrittenError from error
            raise when_lost(_LOST[when_lost]) from error
        if has_warned(connection):
            raise when_lost(_LOST[when_lost])
        return rows

    async def _prepare(self) -> dict[str, Statement]:
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        if self._connection is None or self._connection.is_closed():
            connection = await self._connect()
            try:
                self._prepared = await self._make_ready(connection, self._statements)
                if self._is_closed:  # meanwhile
                    raise StoreUnavailable("the store is closed")
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._prepared

    def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None:
            raise StoreUnavailable("the store is closed")
        return self._connection

    def _discard(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None


def _ends_the_connection(error: asyncpg.PostgresError) -> bool:
    """Whether the server broke off. It may have committed before: the wait for a standby can end in this way."""
    return getattr(error, "severity_en", None) in {"FATAL", "PANIC"} or str(error.sqlstate).startswith(("57", "08"))


class PreparedConnectionPool:
    """A few prepared connections, each for one caller at a time."""

    def __init__(self, make: Callable[[], PreparedConnection], *, size: int, timeout_seconds: float) -> None:
        """A call takes at most `timeout_seconds`, including the wait for a connection."""
        self._all = [make() for _ in range(size)]
        self._timeout_seconds = timeout_seconds
        self._idle: asyncio.LifoQueue[PreparedConnection] = asyncio.LifoQueue()

    async def open(self) -> None:
        """Connect once, so that a database that cannot be reached is found at the start."""
        self.reopen()
        await self._all[0].open()

    def reopen(self) -> None:
        """Allow connecting, in the running event loop; the first use of each connection does."""
        self._idle = asyncio.LifoQueue()  # a queue belongs to the event loop in which it was first waited for
        for connection in self._all:
            connection.reopen()
            self._idle.put_nowait(connection)

    async def close(self, *, timeout_seconds: float) -> None:
        """Close every connection."""
        for connection in self._all:
            await connection.close(timeout_seconds=timeout_seconds)

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a prepared statement as `PreparedConnection.fetch` does.

        Raises:
            StoreUnavailable: both attempts failed, or no answer came in time.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                idle = self._idle
                connection = await idle.get()
                try:
                    return await connection.fetch(statement, *arguments)
                finally:
                    idle.put_nowait(connection)
        except TimeoutError as error:
            raise StoreUnavailable(cannot_answer(error)) from error
