"""Which server has which shard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from redis.crc import key_slot
from redis.exceptions import ResponseError

from coatcheck.identifiers import SHARDS
from coatcheck.stores.redis.held_connection import HeldConnection, LostError, NotSentError
from coatcheck.stores.redis.target import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from coatcheck.stores.redis.held_connection import Reply

_SLOT_OF = {shard: key_slot(shard.encode()) for shard in SHARDS}
_ANSWER_SECONDS = 1.0


class Servers(Protocol):
    """Where the shards are."""

    is_cluster: bool

    def of(self, shard: str) -> Address | None:
        """The server that has a shard, as far as is known."""
        ...

    def all(self) -> Mapping[Address, str]:
        """Every server that has shards, with one of them."""
        ...

    async def refresh(self) -> None:
        """Ask anew. Where nobody answers everything stays as it was."""
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


class ClusterServers:
    """The primaries of a Cluster. Of what its members say, the word of the one who has seen most elections counts."""

    is_cluster = True

    def __init__(
        self,
        seeds: Iterable[Address],
        connect: Callable[[Address], HeldConnection],
        remap: Callable[[Address], Address],
    ) -> None:
        """Begin with `seeds`. `remap` says where a server is that calls itself by an address."""
        self._seeds = tuple(seeds)
        self._connect = connect
        self._remap = remap
        self._by_shard: dict[str, Address] = {}
        self._refreshing: asyncio.Task[None] | None = None

    def of(self, shard: str) -> Address | None:
        """See `Servers.of`."""
        return self._by_shard.get(shard)

    def all(self) -> Mapping[Address, str]:
        """See `Servers.all`."""
        return {address: shard for shard, address in self._by_shard.items()}

    async def refresh(self) -> None:
        """Ask every member that is known. Who comes while others ask waits for the same answer."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        known = {*self._seeds, *self._by_shard.values()}
        views = [view for view in await asyncio.gather(*map(self._view_of, known)) if view is not None]
        if views:
            _, by_shard = max(views, key=lambda view: view[0])
            self._by_shard = by_shard

    async def _view_of(self, member: Address) -> tuple[tuple[bool, int], dict[str, Address]] | None:
        connection = self._connect(member)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                info, slots = await connection.exchange([("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
        except (NotSentError, LostError, TimeoutError):
            return None
        finally:
            await connection.close()
        if isinstance(info, ResponseError) or isinstance(slots, ResponseError):
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
