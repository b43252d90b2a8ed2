"""Connections held for one purpose, with its statements prepared.

Taking a pooled connection for each read costs three times as much (PERF.md).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from coatcheck.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from asyncpg.prepared_stmt import PreparedStatement

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What asyncpg raises where the database does not answer."""


class HeldConnections:
    """A few connections, each used by one caller at a time and replaced when it breaks."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]],
        statements: Sequence[str],
        *,
        size: int,
        timeout_seconds: float,
    ) -> None:
        """Set up without connecting; the first use of each connection makes it."""
        self._connect = connect
        self._statements = statements
        self._timeout_seconds = timeout_seconds
        self._idle: asyncio.LifoQueue[_Held] = asyncio.LifoQueue()
        self._all = [_Held() for _ in range(size)]
        self._is_closed = False
        for held in self._all:
            self._idle.put_nowait(held)

    async def open(self) -> None:
        """Connect once, so that a database that cannot be reached is found at the start."""
        self.reopen()
        held = await self._idle.get()
        try:
            await self._prepare(held)
        finally:
            self._idle.put_nowait(held)

    def reopen(self) -> None:
        """Allow connecting again; the first use does."""
        self._is_closed = False

    async def close(self) -> None:
        """Close every connection. What is still under way makes no new ones."""
        self._is_closed = True
        for held in self._all:
            await held.close(timeout_seconds=self._timeout_seconds)

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a prepared statement; once more on a new connection if the first attempt fails.

        Only for statements that may run twice.

        Raises:
            StoreUnavailable: both attempts failed, or no answer came in time.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                held = await self._idle.get()
                try:
                    try:
                        return await (await self._prepare(held))[statement].fetch(*arguments)
                    except DRIVER_ERRORS:
                        # A held connection may have been dead for hours without anybody noticing.
                        held.discard()
                        return await (await self._prepare(held))[statement].fetch(*arguments)
                except BaseException as error:
                    # Cancelled or timed out, the connection may be in the middle of an answer: nobody else gets it.
                    if not isinstance(error, Exception) or isinstance(error, DRIVER_ERRORS):
                        held.discard()
                    raise
                finally:
                    self._idle.put_nowait(held)
        except (*DRIVER_ERRORS, TimeoutError) as error:
            raise StoreUnavailable(f"the store cannot answer ({type(error).__name__})") from error

    async def _prepare(self, held: _Held) -> dict[str, PreparedStatement[asyncpg.Record]]:
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        if held.connection is None or held.connection.is_closed():
            held.connection = await self._connect()
            held.prepared = {text: await held.connection.prepare(text) for text in self._statements}
        return held.prepared


class _Held:
    """One connection and its prepared statements."""

    def __init__(self) -> None:
        self.connection: asyncpg.Connection[asyncpg.Record] | None = None
        self.prepared: dict[str, PreparedStatement[asyncpg.Record]] = {}

    def discard(self) -> None:
        if self.connection is not None:
            self.connection.terminate()
        self.connection = None

    async def close(self, *, timeout_seconds: float) -> None:
        connection, self.connection = self.connection, None
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=timeout_seconds)
            except (*DRIVER_ERRORS, TimeoutError):
                connection.terminate()
