"""Which server has which shard: all on a single server here.

`cluster_topology` has the primaries of a Cluster, `sentinel_topology` the one that sentinels watch over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from coatcheck.identifiers import SHARDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coatcheck.stores.redis.url import Address


class Servers(Protocol):
    """Where the shards are."""

    is_cluster: bool

    async def open(self) -> None:
        """Find them.

        Raises:
            StoreUnavailable: no server says where they are.
            ConfigurationError: the servers that answer are not those that the URL says they are.
        """
        ...

    def of(self, shard: str) -> Address | None:
        """The server that has a shard, as far as is known. None also where that server does not answer."""
        ...

    def all(self) -> Mapping[Address, str]:
        """Every server that has shards, with one of its shards."""
        ...

    def vouches_for(self, address: Address) -> bool:
        """Whether the answer of a server counts that has answered just now: it may have been replaced meanwhile."""
        ...

    def promotable(self) -> int:
        """How many replicas might take the primary's place now, as far as anyone says; else 0."""
        ...

    async def refresh(self) -> None:
        """Ask the servers again where the shards are. Where none answers everything stays as it was."""
        ...

    def follow(self, shard: str, address: Address) -> None:
        """Note where a member of a Cluster says that a shard is, by the address that members know (MOVED)."""
        ...

    def suspect(self, address: Address) -> None:
        """Note that a server has taken too long to answer."""
        ...

    async def close(self) -> None:
        """Stop asking."""
        ...


class SingleServer:
    """One server has all shards."""

    is_cluster = False

    def __init__(self, address: Address) -> None:
        """All shards are at `address`."""
        self._address = address

    async def open(self) -> None:
        """There is nothing to find."""

    def of(self, shard: str) -> Address | None:  # noqa: ARG002 (it has all of them)
        return self._address

    def vouches_for(self, address: Address) -> bool:  # noqa: ARG002 (there is one)
        return True

    def all(self) -> Mapping[Address, str]:
        return {self._address: SHARDS[0]}

    def promotable(self) -> int:
        return 0

    async def refresh(self) -> None:
        """There is nothing to ask."""

    def follow(self, shard: str, address: Address) -> None:
        """There is no other server."""

    def suspect(self, address: Address) -> None:
        """There is no other server."""

    async def close(self) -> None:
        """There is nothing to stop."""
