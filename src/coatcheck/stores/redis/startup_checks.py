"""Asks each primary for its settings and rights when a store opens, and refuses one that cannot be used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.exceptions import AuthenticationError, ResponseError

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.stores.redis.guarantee import FACTS, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coatcheck.stores.redis.transport.calls import ServerCalls

_OLDEST = 7


def setup_mistake(unavailable: StoreUnavailable, database: int) -> str | None:
    """The mistake in the set-up that this error at the start shows, and its remedy; None for an outage."""
    kind = str(unavailable).rpartition("(")[2]
    if kind == f"{AuthenticationError.__name__})":
        return "the server refuses the user or the password; check user name and password of the store URL"
    if kind == f"{ResponseError.__name__})" and database:
        return f"the server refuses the connection; check that it has a database {database} (its setting `databases`)"
    return None


async def facts_of_each(calls: ServerCalls) -> Sequence[Mapping[str, str]]:
    """The settings and facts of each primary that answers.

    Raises:
        StoreUnavailable: no primary answers.
    """
    shards = calls.servers.all().values()
    found = await asyncio.gather(*(_facts_of(calls, shard) for shard in shards), return_exceptions=True)
    servers = [one for one in found if not isinstance(one, BaseException)]
    for one in found:
        if isinstance(one, BaseException) and not (servers and isinstance(one, StoreUnavailable)):
            raise one
    return servers


def check(servers: Sequence[Mapping[str, str]], *, is_cluster: bool) -> None:
    """Check that the servers are of a kind that can be used.

    Raises:
        ConfigurationError: a server is too old; or it is a sentinel, or a member of a Cluster, and the URL does not say
            so, or the reverse.
    """
    for server in servers:
        if server.get("redis_mode") == "sentinel":
            raise ConfigurationError(
                "the server is a sentinel; the store URL must begin with redis+sentinel:// and name its service, "
                "redis+sentinel://host:26379,host:26379/service"
            )
        version = server["redis_version"]  # Valkey has the version of Redis that it is compatible with
        if int(version.partition(".")[0]) < _OLDEST:
            raise ConfigurationError(f"the server is Redis {version}; 7.0 or newer is needed, or Valkey")
        if server["cluster_enabled"] != str(int(is_cluster)):
            found, scheme = ("no member", "redis://") if is_cluster else ("a member", "redis+cluster://")
            raise ConfigurationError(f"the server is {found} of a Cluster; the store URL must begin with {scheme}")


async def check_rights(calls: ServerCalls) -> None:
    """Check that this user may run the commands that every revocation needs, before the first one does.

    A sign-in does not need them, and so would not show that they are missing. A server that is down is passed over.

    Raises:
        ConfigurationError: this user may not run one of them.
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
    reply = await calls.ask_server(shard, "INFO")
    info = _pairs(line.partition(b":")[::2] for line in reply.splitlines())
    facts = {FACTS[name]: value for name, value in info.items() if name in FACTS}
    try:
        reply = await calls.ask_server(shard, "CONFIG", "GET", *SETTINGS)
    except StoreUnavailable:  # the server has just answered, so this user may not CONFIG GET
        return facts
    return _pairs(zip(reply[::2], reply[1::2], strict=True)) | facts


def _pairs(found: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in found}
