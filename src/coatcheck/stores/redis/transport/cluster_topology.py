"""The primaries of a Cluster: which of them has which shard, as the members say (CLUSTER SLOTS)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.crc import key_slot
from redis.exceptions import RedisError

from coatcheck.errors import StoreUnavailable
from coatcheck.identifiers import SHARDS
from coatcheck.stores.redis.transport.connection import LostError, NotSentError, PipelinedConnection
from coatcheck.stores.redis.url import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from coatcheck.stores.redis.transport.connection import Reply

_SLOT_OF = {shard: key_slot(shard.encode()) for shard in SHARDS}
_PROBE_INTERVAL_SECONDS = 0.25


class ClusterServers:
    """Asks the members where the shards are. Where they disagree, the member that has seen most elections is right.

    A primary that hangs is not used until it answers a probe, or until another has taken over: a caller that needs one
    of its shards hears so at once, and does not delay the others of its batch.
    """

    is_cluster = True

    def __init__(
        self,
        seeds: Iterable[Address],
        connect: Callable[[Address], PipelinedConnection],
        remap: Callable[[Address], Address],
    ) -> None:
        """Begin with `seeds`. `remap` gives the address to connect to for the address that a member has for itself."""
        self._seeds = tuple(seeds)
        self._connect = connect
        self._remap = remap
        self._primaries: dict[str, Address] = {}
        self._suspects: set[Address] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.refresh()
        if not self._primaries:
            raise StoreUnavailable("no member of the Cluster answers, or what answers is none")

    def of(self, shard: str) -> Address | None:
        address = self._primaries.get(shard)
        return None if address in self._suspects else address

    def all(self) -> Mapping[Address, str]:
        return {address: shard for shard, address in self._primaries.items()}

    def vouches_for(self, address: Address) -> bool:  # noqa: ARG002 (a member that was replaced refuses by itself)
        return True

    def promotable(self) -> int:
        return 0

    async def refresh(self) -> None:
        """Ask every member that is known. A caller that comes while others ask waits for the same answer."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    def follow(self, shard: str, address: Address) -> None:
        self._primaries = {**self._primaries, shard: self._remap(address)}

    def suspect(self, address: Address) -> None:
        self._suspects.add(address)
        self._probe()

    async def close(self) -> None:
        tasks = [task for task in (self._probing, self._refreshing) if task is not None]
        self._probing = self._refreshing = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _refresh(self) -> None:
        known = {*self._seeds, *self._primaries.values()}
        views = dict(zip(known, await asyncio.gather(*map(self._view_of, known)), strict=True))
        answers = [view for view in views.values() if view is not None]
        if answers:
            _, self._primaries = max(answers, key=lambda view: view[0])
        self._suspects = {
            one for one in self._suspects.intersection(self._primaries.values()) if views.get(one) is None
        }
        if not self._is_whole():
            self._probe()

    def _probe(self) -> None:
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(self._refresh_until_whole())

    async def _refresh_until_whole(self) -> None:
        while not self._is_whole():
            await asyncio.sleep(_PROBE_INTERVAL_SECONDS)
            await self.refresh()

    def _is_whole(self) -> bool:
        return not self._suspects and len(self._primaries) == len(SHARDS)

    async def _view_of(self, member: Address) -> tuple[tuple[bool, int], dict[str, Address]] | None:
        """How far a member's word counts, and the primaries that it knows; None where it does not answer."""
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
        return rank, self._primaries_in(slots, member)

    def _primaries_in(self, slots: Reply, member: Address) -> dict[str, Address]:
        found: dict[str, Address] = {}
        for first, last, primary, *_ in slots:
            host = (primary[0] or b"").decode() or member.host  # a member that does not know its own name says nothing
            address = self._remap(Address(host, primary[1]))
            found.update({shard: address for shard, slot in _SLOT_OF.items() if first <= slot <= last})
        return found
