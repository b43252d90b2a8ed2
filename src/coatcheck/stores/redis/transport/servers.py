"""Which server has which shard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from redis.crc import key_slot
from redis.exceptions import RedisError

from coatcheck.identifiers import SHARDS
from coatcheck.stores.redis.transport.connection import LostError, NotSentError, PipelinedConnection
from coatcheck.stores.redis.url import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from coatcheck.stores.redis.transport.connection import Reply

_SLOT_OF = {shard: key_slot(shard.encode()) for shard in SHARDS}
_WATCH_SECONDS = 0.25


class Servers(Protocol):
    """Where the shards are."""

    is_cluster: bool

    def of(self, shard: str) -> Address | None:
        """The server that has a shard, as far as is known; None also where that one does not answer."""
        ...

    def all(self) -> Mapping[Address, str]:
        """Every server that has shards, with one of them."""
        ...

    async def refresh(self) -> None:
        """Ask anew. Where nobody answers everything stays as it was."""
        ...

    def follow(self, shard: str, address: Address) -> None:
        """Take note of where a member says that a shard is, by the address that members know."""
        ...

    def suspect(self, address: Address) -> None:
        """Take note that a server has kept somebody waiting for too long."""
        ...

    async def close(self) -> None:
        """Ask nobody any more."""
        ...


class SingleServer:
    """One server has all shards."""

    is_cluster = False

    def __init__(self, address: Address) -> None:
        """All are at `address`."""
        self._address = address

    def of(self, shard: str) -> Address | None:  # noqa: ARG002 (it has all of them)
        """See `Servers.of`."""
        return self._address

    def all(self) -> Mapping[Address, str]:
        """See `Servers.all`."""
        return {self._address: SHARDS[0]}

    async def refresh(self) -> None:
        """There is nothing to ask."""

    def follow(self, shard: str, address: Address) -> None:
        """There is no other."""

    def suspect(self, address: Address) -> None:
        """There is no other."""

    async def close(self) -> None:
        """There is nothing to end."""


class ClusterServers:
    """The primaries of a Cluster. Of what its members say, the word of the one who has seen most elections counts.

    One that hangs is left alone until it answers a question beside, or another has taken over: who asks for a shard of
    it hears so at once, and does not hold up those who share a trip.
    """

    is_cluster = True

    def __init__(
        self,
        seeds: Iterable[Address],
        connect: Callable[[Address], PipelinedConnection],
        remap: Callable[[Address], Address],
    ) -> None:
        """Begin with `seeds`. `remap` says where a server is that calls itself by an address."""
        self._seeds = tuple(seeds)
        self._connect = connect
        self._remap = remap
        self._by_shard: dict[str, Address] = {}
        self._suspects: set[Address] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    def of(self, shard: str) -> Address | None:
        """See `Servers.of`."""
        address = self._by_shard.get(shard)
        return None if address in self._suspects else address

    def all(self) -> Mapping[Address, str]:
        """See `Servers.all`."""
        return {address: shard for shard, address in self._by_shard.items()}

    async def refresh(self) -> None:
        """Ask every member that is known. Who comes while others ask waits for the same answer."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    def follow(self, shard: str, address: Address) -> None:
        """See `Servers.follow`."""
        self._by_shard = {**self._by_shard, shard: self._remap(address)}

    def suspect(self, address: Address) -> None:
        """See `Servers.suspect`."""
        self._suspects.add(address)
        self._watch()

    async def close(self) -> None:
        """See `Servers.close`."""
        tasks = [task for task in (self._watching, self._refreshing) if task is not None]
        self._watching = self._refreshing = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _refresh(self) -> None:
        known = {*self._seeds, *self._by_shard.values()}
        views = dict(zip(known, await asyncio.gather(*map(self._view_of, known)), strict=True))
        answers = [view for view in views.values() if view is not None]
        if answers:
            _, self._by_shard = max(answers, key=lambda view: view[0])
        self._suspects = {one for one in self._suspects.intersection(self._by_shard.values()) if views.get(one) is None}
        if not self._is_whole():
            self._watch()

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._refresh_until_whole())

    async def _refresh_until_whole(self) -> None:
        while not self._is_whole():
            await asyncio.sleep(_WATCH_SECONDS)
            await self.refresh()

    def _is_whole(self) -> bool:
        return not self._suspects and len(self._by_shard) == len(SHARDS)

    async def _view_of(self, member: Address) -> tuple[tuple[bool, int], dict[str, Address]] | None:
        connection = self._connect(member)
        try:
            info, slots = await connection.exchange([("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
        except (NotSentError, LostError):
            return None
        finally:
            await connection.close()
        if isinstance(info, RedisError) or isinstance(slots, RedisError):
            return None
        facts = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
        rank = (facts.get("cluster_state") == "ok", int(facts.get("cluster_current_epoch", 0)))
        return rank, self._shards_in(slots, member)

    def _shards_in(self, slots: Reply, member: Address) -> dict[str, Address]:
        found: dict[str, Address] = {}
        for first, last, primary, *_ in slots:
            host = (primary[0] or b"").decode() or member.host  # a member that does not know its own name says nothing
            address = self._remap(Address(host, primary[1]))
            found.update({shard: address for shard, slot in _SLOT_OF.items() if first <= slot <= last})
        return found
