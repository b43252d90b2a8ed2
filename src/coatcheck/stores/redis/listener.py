"""Hears the announcements of other processes through Redis, over a connection that only listens (SUBSCRIBE).

In a Cluster a message travels from the server that publishes it to all others. The listener probes whether it does:
every few seconds each primary publishes a message that only this listener hears. If one of these does not come,
announcements may have been missed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from coatcheck.errors import NotOpenError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from redis.asyncio.connection import AbstractConnection

    from coatcheck.stores.redis.transport.topology import Servers
    from coatcheck.stores.redis.url import Address

HEARTBEAT_SECONDS = 5.0
"""A listener notices after this time, and at most twice this time, that it misses announcements."""

_LOOK_SECONDS = 0.5  # so soon a listener leaves a server that was replaced
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Listener:
    """Listens to one channel: on one server, and on another where that one does not accept it."""

    def __init__(
        self,
        servers: Servers,
        connect: Callable[[Address], AbstractConnection],
        publish: Callable[[str, str, str], Awaitable[object]],
        *,
        channel: str,
        own_channel: str,
        answer_seconds: float,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        """`publish(shard, channel, text)` publishes on the server that has the shard; only we hear `own_channel`.

        A server that takes longer than `answer_seconds` to accept a subscription is given up for another.
        """
        self._servers = servers
        self._connect = connect
        self._publish = publish
        self._channel = channel
        self._own_channel = own_channel
        self._answer_seconds = answer_seconds
        self._heartbeat_seconds = heartbeat_seconds

    async def texts(self) -> AsyncGenerator[str | None, None]:
        """The texts of the channel from now on; None where some may have been missed, and first when listening begins.

        A connection that is lost is made again, however long that takes.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            subscribed = await self._subscribed()
            if subscribed is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                await self._servers.refresh()
                continue
            address, connection = subscribed
            pause = _FIRST_PAUSE_SECONDS
            try:
                yield None
                async for text in self._heard(connection, address):
                    yield text
            except (RedisError, OSError, StoreUnavailable, NotOpenError) as error:
                _log.debug("listening ended: %s", type(error).__name__)
            finally:
                await connection.disconnect(nowait=True)
            yield None

    async def _subscribed(self) -> tuple[Address, AbstractConnection] | None:
        addresses = list(self._servers.all())
        if not addresses:
            return None
        address = random.choice(addresses)  # noqa: S311 (spreads load, guards nothing)
        connection = None
        try:
            connection = self._connect(address)
            async with asyncio.timeout(self._answer_seconds):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py does not say
                await connection.send_command("SUBSCRIBE", self._channel, self._own_channel, check_health=False)
                for _ in range(2):
                    await connection.read_response(disable_decoding=True)
        except (RedisError, OSError) as error:  # TimeoutError is one of the latter
            _log.debug("not listening yet: %s", type(error).__name__)
            if connection is not None:
                await connection.disconnect(nowait=True)
            return None
        except BaseException:
            if connection is not None:
                await connection.disconnect(nowait=True)
            raise
        return address, connection

    async def _heard(self, connection: AbstractConnection, address: Address) -> AsyncGenerator[str | None, None]:
        loop = asyncio.get_running_loop()
        missing: set[str] = set()
        next_probe = loop.time() + self._heartbeat_seconds
        while True:
            if not missing and loop.time() >= next_probe:
                missing = set(self._servers.all().values())
                next_probe = loop.time() + self._heartbeat_seconds
                await asyncio.gather(*(self._publish(shard, self._own_channel, shard) for shard in missing))
            message = await _read(connection, min(next_probe - loop.time(), _LOOK_SECONDS))
            if not self._servers.is_cluster and address not in self._servers.all():
                raise StoreUnavailable("another server has taken the place of the one that is listened to")
            if message is not None:
                _, channel, payload = message
                if channel.decode() == self._own_channel:
                    missing.discard(payload.decode())
                else:
                    yield _text(payload)
            elif (
                missing and loop.time() >= next_probe
            ):  # and every message that has come was read, so the probes have not come
                raise StoreUnavailable("announcements do not come through")


async def _read(connection: AbstractConnection, seconds: float) -> Sequence[bytes] | None:
    """The next message, or None if none comes within `seconds`."""
    # Twice: redis-py gives up before it looks, and a message that came while this process stood still came in time.
    for limit in (max(0.0, seconds), 0.0):
        message: Sequence[bytes] | None = await connection.read_response(
            disable_decoding=True, timeout=limit, disconnect_on_error=False
        )
        if message is not None:
            return message
    return None


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None
