"""One connection to one server, held for one purpose: what is asked together goes there and back in one trip."""

from __future__ import annotations

import asyncio
import logging
import select
from typing import TYPE_CHECKING, Any, TypeAlias

from hiredis import pack_command
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Connection

Command: TypeAlias = "Sequence[str | bytes | int]"
Reply: TypeAlias = Any
"""What redis-py makes of an answer: bytes, int, None, a list of these; or where the server refuses, a RedisError."""

_log = logging.getLogger(__name__)


class NotSentError(Exception):
    """Nothing was done: there is no connection, or the server is not the one to ask. The cause, if any, says why."""


class LostError(Exception):
    """The connection broke before the answer came: what was sent may have been done or not. The cause says why."""


class PipelinedConnection:
    """A connection for one caller at a time, made when it is first used and replaced when it breaks."""

    def __init__(self, make: Callable[[], Connection], *, limit_seconds: float | None = None) -> None:
        """`make` gives a connection that is not connected. An exchange that takes longer than the limit is given up."""
        self._make = make
        self._limit_seconds = limit_seconds
        self._connection: Connection | None = None

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all of `commands` and return their answers; one that the server refused is a RedisError in its place.

        Who is cancelled loses the connection: it may be in the middle of an answer, and nobody else gets that.

        Raises:
            NotSentError: see there.
            LostError: see there.
        """
        is_sent = False
        try:
            async with asyncio.timeout(self._limit_seconds):
                connection = await self._connected()
                packed = _packed(commands)
                is_sent = True
                await connection.send_packed_command(packed, check_health=False)
                return [await _answer(connection) for _ in commands]
        except Exception as error:  # whatever it is: what was sent with others, or to others, is not to suffer from it
            if not isinstance(error, RedisError | OSError):  # TimeoutError is one of the latter
                _log.exception("an exchange with a server failed")
            await self.close()
            raise (LostError if is_sent else NotSentError) from error
        except BaseException:
            await asyncio.shield(self.close())
            raise

    async def close(self) -> None:
        """Disconnect; the next exchange connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _connected(self) -> Connection:
        if self._connection is not None and await self._is_usable(self._connection):
            return self._connection
        await self.close()
        self._connection = self._make()
        await self._connection.connect()  # type: ignore[no-untyped-call]  # redis-py does not say
        return self._connection

    async def _is_usable(self, connection: Connection) -> bool:
        # What a server has closed while nobody looked is found here: before anything is sent, and so without a doubt
        # about what was done. Of an end that has just come the event loop does not know yet, but the system does.
        try:
            return connection.is_connected and not await connection.can_read() and not _has_news(connection)
        except (RedisError, OSError):
            return False


def _packed(commands: Sequence[Command]) -> bytes:
    # In C: redis-py's own packing takes a sixth of the time of a trip.
    return b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]  # its stub takes one


def _has_news(connection: Connection) -> bool:
    """Whether something has come from the server, or its end. Nothing is to come where nothing was asked."""
    writer = connection._writer  # noqa: SLF001 (redis-py has no way to ask)
    if writer is None or writer.is_closing():  # after a reset (RST) nothing is to be read, and the socket is closed
        return True
    poll = select.poll()  # not select(), which refuses numbers from 1024 on
    poll.register(writer.get_extra_info("socket"), select.POLLIN)
    return bool(poll.poll(0))


async def _answer(connection: Connection) -> Reply:
    # A server that is about to load its data, or to be asked for a password, refuses each command by itself: of those
    # that were sent together it may do the next.
    try:
        return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
    except (ResponseError, AuthenticationError, BusyLoadingError) as refused:
        return refused
