"""Every call to the servers: which batches it goes into, and which arguments every script gets."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from coatcheck.errors import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import SHARDS
from coatcheck.opening import Opening
from coatcheck.stores.batching import Batcher
from coatcheck.stores.redis.keys import Keys
from coatcheck.stores.redis.scripts import script
from coatcheck.stores.redis.transport.batches import CallRunner, EndingRunner, SessionReader, time_of
from coatcheck.stores.redis.transport.cluster_topology import ClusterServers
from coatcheck.stores.redis.transport.connection import PipelinedConnection
from coatcheck.stores.redis.transport.router import Call, Router, call_script
from coatcheck.stores.redis.transport.sentinel_topology import SentinelServers
from coatcheck.stores.redis.transport.topology import SingleServer
from coatcheck.to_its_end import to_its_end

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from redis.asyncio.connection import AbstractConnection

    from coatcheck.clock import Clock
    from coatcheck.identifiers import SessionId
    from coatcheck.stores.records import SessionReading
    from coatcheck.stores.redis.transport.connection import Reply
    from coatcheck.stores.redis.transport.topology import Servers
    from coatcheck.stores.redis.url import Address, RedisUrl

# A replica that takes longer is in trouble, and the rest of the batch waits for it.
_WAIT_MS = 500


class ServerCalls:
    """Three batchers, each with its own connections: for reads of sessions, calls that end sessions, and the rest."""

    def __init__(
        self,
        url: RedisUrl,
        *,
        clock: Clock | None,
        remap: Callable[[Address], Address],
        timeout_seconds: float,
    ) -> None:
        """Set up without connecting. `clock` None: the servers' own."""
        self._url = url
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        # A caller that comes while a round trip is under way waits for its end and then for another: both must fit.
        self._round_trip_seconds = timeout_seconds / 2
        self._probe_seconds = timeout_seconds / 5
        self.keys: Keys = Keys(url.prefix, url.database)
        self.replicas: int = url.waits_for
        has_one_server = not url.is_cluster and url.sentinels is None
        self.seeds: Sequence[Address] = url.addresses if has_one_server else tuple(map(remap, url.addresses))
        self.servers: Servers = self._servers_of(url, remap)
        time_of_reply = time_of if clock is None else lambda _: clock.now_us()
        self._time_of: Callable[[Reply], int] = time_of_reply
        # Two of each kind, so that one batch is prepared while the other is under way.
        self._routers = [Router(self.servers, self._pipelined) for _ in range(6)]
        read, other_read, call, other_call, end, other_end = self._routers
        self._reads = Batcher(
            [SessionReader(router, self.servers, self.keys.session, self._time_of) for router in (read, other_read)],
            timeout_seconds=timeout_seconds,
        )
        self._calls = Batcher([CallRunner(router) for router in (call, other_call)], timeout_seconds=timeout_seconds)
        self._endings = Batcher(
            [
                EndingRunner(
                    router, replicas=self.replicas_now, timeout_ms=min(_WAIT_MS, int(self._round_trip_seconds * 800))
                )
                for router in (end, other_end)
            ],
            timeout_seconds=timeout_seconds,
            when_cut_off=RevocationIndeterminate,
        )
        self.opening: Opening = Opening()

    async def open(self) -> None:
        """Find the servers, when `opening` has begun. Where that fails, `close` is for the caller.

        Raises:
            StoreUnavailable: no member of the Cluster, or no sentinel, says where they are.
            ConfigurationError: what answers is something else, or a file with certificates cannot be used.
        """
        for batcher in (self._reads, self._calls, self._endings):
            batcher.open()
        if self._url.encryption is not None:
            self._url.encryption.check()
        await self.servers.open()

    def replicas_now(self) -> int:
        """How many replicas must have a revocation now before it returns.

        Where the URL does not say, and sentinels do: every replica that they might choose, and at least one.
        """
        return self.replicas if self._url.replicas is not None else max(self.replicas, self.servers.promotable())

    async def close(self) -> None:
        """Disconnect. Callers that still wait get StoreUnavailable."""
        if not self.opening.stop():
            return
        await to_its_end(self._close())

    async def _close(self) -> None:
        async with AsyncExitStack() as parts:  # each is closed, whatever another one raises, in the reverse order
            parts.callback(self.opening.end)
            parts.push_async_callback(self.servers.close)
            for router in reversed(self._routers):
                parts.push_async_callback(router.close)
            for batcher in (self._endings, self._calls, self._reads):
                parts.push_async_callback(batcher.close)

    # --- calls ---

    def read_session(self, session_id: SessionId) -> asyncio.Future[SessionReading | None]:
        """Read a session from the primary that has it. See `Store.read_session`."""
        return self._reads.submit(session_id)

    def read(self, shard: str, *command: str | bytes | int) -> asyncio.Future[Reply]:
        """Read stored data, by a command, from the primary that has `shard`."""
        return self._calls.submit(Call(shard, command, reads=True))

    def ask_server(self, shard: str, *command: str | bytes | int) -> asyncio.Future[Reply]:
        """Run a command that does not touch stored data, on the server that has `shard`."""
        return self._calls.submit(Call(shard, command))

    def run(self, name: str, shard: str, *arguments: str | bytes | int) -> asyncio.Future[Reply]:
        """Run the script `name` on a shard."""
        return self._calls.submit(self._script_call(name, self.keys.root(shard), shard, arguments))

    def run_on(self, name: str, key: str, shard: str, *arguments: str | bytes | int) -> asyncio.Future[Reply]:
        """Run the script `name` on one key of a shard."""
        return self._calls.submit(self._script_call(name, key, shard, arguments))

    def end(self, name: str, shard: str, *arguments: str | bytes | int) -> asyncio.Future[Reply]:
        """Run the script `name`, which ends or shrinks sessions of a shard.

        Raises:
            RevocationIndeterminate: the outcome is not known, or too few replicas have it.
        """
        return self._endings.submit(self._script_call(name, self.keys.root(shard), shard, arguments))

    async def read_every_shard(self, make: Callable[[str], Iterable[str | bytes | int]]) -> Mapping[str, Reply]:
        """Read in every shard, in one round trip to each server."""
        replies = await asyncio.gather(*(self.read(shard, *make(shard)) for shard in SHARDS))
        return dict(zip(SHARDS, replies, strict=True))

    async def read_every_shard_that_answers(
        self, make: Callable[[str], Iterable[str | bytes | int]]
    ) -> Mapping[str, Reply]:
        """Read in every shard, and leave out those whose server does not answer.

        Raises:
            StoreUnavailable: none does.
        """
        replies = await asyncio.gather(*(self.read(shard, *make(shard)) for shard in SHARDS), return_exceptions=True)
        for error in replies:
            if isinstance(error, BaseException) and not isinstance(error, StoreUnavailable):
                raise error
        found = {shard: reply for shard, reply in zip(SHARDS, replies, strict=True) if not isinstance(reply, Exception)}
        if not found and isinstance(replies[0], StoreUnavailable):
            raise replies[0]
        return found

    async def times(self, shards: Collection[str]) -> Mapping[str, int]:
        """For each of these shards the time on the clock of its server. No other server is asked."""
        by_address = {self.servers.of(shard): shard for shard in shards}
        replies = await asyncio.gather(*(self.ask_server(shard, "TIME") for shard in by_address.values()))
        times = dict(zip(by_address, map(self._time_of, replies), strict=True))
        latest = max(times.values())
        return {shard: times.get(self.servers.of(shard), latest) for shard in shards}  # one may have moved meanwhile

    def connection(self, address: Address) -> AbstractConnection:
        """A connection that shares nothing with the batches, not connected.

        Raises:
            OSError: a file with certificates cannot be read.
        """
        return self._url.connection(address, timeout_seconds=self._timeout_seconds)

    def _servers_of(self, url: RedisUrl, remap: Callable[[Address], Address]) -> Servers:
        if url.is_cluster:
            return ClusterServers(self.seeds, self._probe, remap)
        if url.sentinels is None:
            return SingleServer(self.seeds[0])
        sentinels = url.sentinels

        def connect_to_sentinel(address: Address) -> AbstractConnection:
            return url.sentinel_connection(address, sentinels, timeout_seconds=self._probe_seconds)

        return SentinelServers(
            self.seeds,
            sentinels,
            ask=lambda address: PipelinedConnection(
                lambda: connect_to_sentinel(address), limit_seconds=self._probe_seconds
            ),
            subscribe=connect_to_sentinel,
            connect=self._probe,
            remap=remap,
            when_replaced=self._leave,
        )

    def _leave(self, address: Address) -> None:
        for router in self._routers:
            router.leave(address)

    def _pipelined(self, address: Address) -> PipelinedConnection:
        # One of several servers that hangs must not make the others' callers wait until their time is over. With
        # sentinels it is the time after which the primary is looked at.
        has_several = self._url.is_cluster or self._url.sentinels is not None
        limit_seconds = self._round_trip_seconds if has_several else None
        return PipelinedConnection(lambda: self.connection(address), limit_seconds=limit_seconds)

    def _probe(self, address: Address) -> PipelinedConnection:
        return PipelinedConnection(lambda: self.connection(address), limit_seconds=self._probe_seconds)

    def _script_call(self, name: str, key: str, shard: str, arguments: Iterable[str | bytes | int]) -> Call:
        now = "" if self._clock is None else str(self._clock.now_us())
        return call_script(script(name), key, shard, (now, self.opening.name, self.keys.channel, *arguments))
