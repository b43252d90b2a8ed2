"""A connection to one server: commands that are sent together travel in one pipeline, and so in one round trip."""

from __future__ import annotations

import asyncio
import logging
import select
from typing import TYPE_CHECKING, Any, TypeAlias

from hiredis import pack_command
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from coatcheck import third_party_internals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio.connection import AbstractConnection

Command: TypeAlias = "tuple[str | bytes | int, ...]"
Reply: TypeAlias = Any
"""A reply as redis-py gives it: bytes, int, None, a list of these; a RedisError where the server refuses."""

# redis-py raises these where a server refuses one command. A server that is loading its data, or that wants a password,
# refuses each command by itself, and may run the next of those that were sent together.
_REFUSALS = (ResponseError, AuthenticationError, BusyLoadingError)

_log = logging.getLogger(__name__)


class NotSentError(Exception):
    """Nothing was done: there is no connection, or the server is not the right one. The cause, if any, says why."""


class LostError(Exception):
    """The connection broke before the reply came: the commands may have been run or not. The cause says why."""


class PipelinedConnection:
    """A connection for one caller at a time, made when it is first used and replaced when it breaks."""

    def __init__(self, make: Callable[[], AbstractConnection], *, limit_seconds: float | None = None) -> None:
        """`make` gives a connection that is not connected. A round trip that takes longer than the limit fails."""
        self._make = make
        self._limit_seconds = limit_seconds
        self._limit: asyncio.Timeout | None = None
        self._connection: AbstractConnection | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._poll = select.poll()  # not select(), which refuses file descriptors from 1024 on

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all of `commands` and return their replies; a command that the server refused has a RedisError.

        A caller that is cancelled loses the connection: the rest of a reply may still come over it.

        Raises:
            NotSentError: nothing was done.
            LostError: the commands may have been run or not.
        """
        is_sent = False
        try:
            async with asyncio.timeout(self._limit_seconds) as self._limit:
                connection = await self._connected()
                # Packed in C: redis-py's own packing takes a sixth of the time of a round trip.
                packed = b"".join(map(pack_command, commands))  # type: ignore[arg-type]  # its stub takes one argument
                is_sent = True
                await connection.send_packed_command(packed, check_health=False)
                replies: list[Reply] = []
                for _ in commands:
                    try:
                        replies.append(await connection.read_response(disable_decoding=True, disconnect_on_error=False))
                    except _REFUSALS as refusal:
                        replies.append(refusal.with_traceback(None))  # which would hold this list
                return replies
        except Exception as error:  # whatever it is: the other callers of a batch must not suffer from it
            if not isinstance(error, RedisError | OSError):  # TimeoutError is one of the latter
                _log.exception("a round trip to a server failed")
            await self.close()
            raise (LostError if is_sent else NotSentError) from error
        except BaseException:
            await asyncio.shield(self.close())
            raise
        finally:
            self._limit = None

    def give_up(self) -> None:
        """End the round trip that is under way as if its time were over. Does nothing if there is none."""
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Disconnect; the next use connects again."""
        connection, self._connection = self._connection, None
        self._writer = None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _connected(self) -> AbstractConnection:
        if self._connection is not None and await self._is_usable(self._connection):
            return self._connection
        await self.close()
        connection = self._connection = self._make()
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py does not say
        self._writer = third_party_internals.redis_stream_writer(connection)
        self._poll = select.poll()
        self._poll.register(self._writer.get_extra_info("socket"), select.POLLIN)
        return connection

    async def _is_usable(self, connection: AbstractConnection) -> bool:
        """Whether the server still listens, as far as this machine knows.

        A connection that the server has closed meanwhile is found here: before anything is sent, so that there is no
        doubt about what was done. The event loop does not know yet of an end that has just come, but the system does:
        where nothing was asked, nothing but the end can be there to be read.
        """
        if self._writer is None or self._writer.is_closing():  # after a reset (RST) there is nothing to be read
            return False
        try:
            return connection.is_connected and not await connection.can_read() and not self._poll.poll(0)
        except (RedisError, OSError):
            return False
