"""Hears the announcements of other processes through PostgreSQL, over a connection that only listens (LISTEN)."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from typing import TYPE_CHECKING

from coatcheck.stores.sql.postgresql.prepared_connections import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    import asyncpg

CHANNEL = "coatcheck_announcements"

_MAX_UNREAD = 10_000
_HEARTBEAT_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0

UNHEARD_SECONDS = 15.0
"""How often announcements count as missed where none can be heard. Live connections are looked at as often."""

_log = logging.getLogger(__name__)


async def notifications(
    connect: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]], *, timeout_seconds: float
) -> AsyncGenerator[str | None, None]:
    """The texts of the channel from now on; None where some may have been missed, and first when listening begins.

    A connection that is lost is made again, however long that takes.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        inbox = _Inbox()
        try:
            connection = await _listening(connect, inbox, timeout_seconds)
        except (*DRIVER_ERRORS, TimeoutError) as error:
            _log.debug("not listening yet: %s", type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            continue
        try:
            pause = _FIRST_PAUSE_SECONDS
            yield None
            while not inbox.has_ended:
                for text in await inbox.take(_HEARTBEAT_SECONDS):
                    yield text
                if inbox.is_quiet:  # a network that is cut reports nothing
                    await connection.execute("SELECT 1", timeout=timeout_seconds)
        except (*DRIVER_ERRORS, TimeoutError) as error:
            _log.debug("listening ended: %s", type(error).__name__)
        finally:
            connection.terminate()
        yield None


async def nothing_heard() -> AsyncGenerator[str | None, None]:
    """The same where there is nothing to listen to: None, again and again."""
    while True:
        yield None
        await asyncio.sleep(UNHEARD_SECONDS)


async def hears(
    connect: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]],
    announce: Callable[[str], Awaitable[None]],
    *,
    timeout_seconds: float,
) -> bool:
    """Whether a connection hears what `announce` sends to a channel.

    Raises:
        asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError: it cannot be connected.
    """
    channel = f"coatcheck_probe_{secrets.token_hex(8)}"
    inbox = _Inbox()
    connection = await _listening(connect, inbox, timeout_seconds, channel=channel)
    try:
        await announce(channel)
        return bool(await inbox.take(timeout_seconds)) and not inbox.has_ended
    finally:
        connection.terminate()


async def _listening(
    connect: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]],
    inbox: _Inbox,
    timeout_seconds: float,
    *,
    channel: str = CHANNEL,
) -> asyncpg.Connection[asyncpg.Record]:
    connection = await connect()
    try:
        connection.add_termination_listener(inbox.end)
        async with asyncio.timeout(timeout_seconds):
            await connection.add_listener(channel, inbox.put)
    except BaseException:
        connection.terminate()
        raise
    return connection


class _Inbox:
    """Notifications that were not read yet. Where too many wait they are dropped, and count as missed."""

    def __init__(self) -> None:
        self._texts: deque[str | None] = deque()
        self._something = asyncio.Event()
        self.has_ended = False
        self.is_quiet = False

    def put(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        """Keep a notification: asyncpg calls this for each."""
        if len(self._texts) >= _MAX_UNREAD:
            self._texts.clear()
            self._texts.append(None)
        self._texts.append(str(payload))
        self._something.set()

    def end(self, _connection: object) -> None:
        """End: asyncpg calls this when the connection is gone."""
        self.has_ended = True
        self._something.set()

    async def take(self, seconds: float) -> list[str | None]:
        """All notifications there are; waits up to `seconds` for the first."""
        try:
            async with asyncio.timeout(seconds):
                await self._something.wait()
        except TimeoutError:
            self.is_quiet = True
            return []
        self.is_quiet = False
        self._something.clear()
        texts = list(self._texts)
        self._texts.clear()
        return texts
