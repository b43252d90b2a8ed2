"""What each primary says of itself, and whether this library can use it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.stores.redis.guarantee import FACTS, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coatcheck.stores.redis.transport.calls import ServerCalls

_OLDEST = 7


async def facts_of_each(calls: ServerCalls) -> Sequence[Mapping[str, str]]:
    """The settings of each primary that answers, and what it says of itself.

    Raises:
        StoreUnavailable: none does.
    """
    shards = calls.servers.all().values()
    found = await asyncio.gather(*(_facts_of(calls, shard) for shard in shards), return_exceptions=True)
    servers = [one for one in found if not isinstance(one, BaseException)]
    for one in found:
        if isinstance(one, BaseException) and not (servers and isinstance(one, StoreUnavailable)):
            raise one
    return servers


def check(servers: Sequence[Mapping[str, str]], *, is_cluster: bool) -> None:
    """See that the servers are of a kind that can be used.

    Raises:
        ConfigurationError: one is too old, or a member of a Cluster that the URL does not call one, or the reverse.
    """
    for server in servers:
        version = server["redis_version"]  # Valkey, too, says with which Redis it is compatible
        if int(version.partition(".")[0]) < _OLDEST:
            raise ConfigurationError(f"the server is Redis {version}; 7.0 or newer is needed, or Valkey")
        if server["cluster_enabled"] != str(int(is_cluster)):
            what = "no member of a Cluster" if is_cluster else "a member of a Cluster"
            raise ConfigurationError(f"the server is {what}; redis+cluster://... is for those, redis://... not")


async def check_rights(calls: ServerCalls) -> None:
    """See that what no sign-in needs and every revocation does is allowed: before it is needed. An outage is let pass.

    Raises:
        ConfigurationError: it is not.
    """
    needed: list[tuple[str | int, ...]] = [("INFO",), ("ROLE",), ("PUBLISH", f"{calls.keys.channel}:opening", "")]
    if calls.replicas:
        needed.append(("WAIT", 0, 1))
    for shard in calls.servers.all().values():
        for command in needed:
            try:
                await calls.ask_server(shard, *command)
            except StoreUnavailable as refused:
                if "NOPERM" in str(refused):
                    raise ConfigurationError(
                        f"the store URL's user may not run {command[0]}; docs/how-to/redis.md has the rules that it "
                        "needs (a user has no channels unless it is given some: &coatcheck:*)"
                    ) from None
                break  # this server is down


async def _facts_of(calls: ServerCalls, shard: str) -> Mapping[str, str]:
    info = await calls.ask_server(shard, "INFO")
    told = _pairs(line.partition(b":")[::2] for line in info.splitlines())
    facts = {FACTS[name]: value for name, value in told.items() if name in FACTS}
    try:
        reply = await calls.ask_server(shard, "CONFIG", "GET", *SETTINGS)
    except StoreUnavailable:  # it answers, as we have just seen, but not everybody
        return facts
    return _pairs(zip(reply[::2], reply[1::2], strict=True)) | facts


def _pairs(found: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in found}
