"""Asks each primary for its settings and rights when a store opens, and refuses one that cannot be used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.stores.redis.guarantee import FACTS, SETTINGS
from coatcheck.stores.redis.scripts import script

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coatcheck.stores.redis.transport.calls import ServerCalls

_OLDEST = 7
_NOT_ALLOWED = "NOPERM"


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
        StoreUnavailable: the only server is a replica. It may be promoted.
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
        if server.get("role") == "slave" and not is_cluster:
            raise StoreUnavailable(
                "the server is a replica, which may not have the latest revocations; the store URL must name the "
                "primary, or sentinels that know it (redis+sentinel://)"
            )


async def check_rights(calls: ServerCalls) -> None:
    """Check that this user may run the commands that every revocation needs, before the first one does.

    A sign-in does not need them, and so would not show that they are missing. A server that is down is passed over.

    Raises:
        ConfigurationError: this user may not run one of them.
    """
    needed: list[tuple[str | int, ...]] = [
        *(("INFO",), ("ROLE",), ("TIME",)),
        ("PUBLISH", f"{calls.keys.channel}:opening", ""),
    ]
    if calls.replicas:
        needed.append(("WAIT", 0, 1))
    for shard in calls.servers.all().values():
        for command in needed:
            try:
                await calls.ask_server(shard, *command)
            except StoreUnavailable as refused:
                if _NOT_ALLOWED in str(refused):
                    raise _lacking(calls, [command[0]]) from None
                break  # this server is down


async def check_rights_on_keys(calls: ServerCalls) -> None:
    """Check that this user may run the commands of the scripts, on keys that begin with the prefix.

    A server that is down is passed over.

    Raises:
        ConfigurationError: this user may not run one of them.
    """
    for shard in calls.servers.all().values():
        try:
            arguments = (1, calls.keys.root(shard), "", "", calls.keys.channel)
            lacking = await calls.ask_server(shard, "EVAL", script("lacking_rights").text, *arguments)
        except StoreUnavailable as refused:
            if _NOT_ALLOWED in str(refused):
                raise _lacking(calls, ["EVALSHA and EVAL"]) from None
            continue
        if isinstance(lacking, list) and lacking:
            raise _lacking(calls, [command.decode() for command in lacking])


def _lacking(calls: ServerCalls, commands: Sequence[object]) -> ConfigurationError:
    prefix = calls.keys.prefix
    return ConfigurationError(
        f"the store URL's user may not run {', '.join(map(str, commands))}; docs/how-to/redis.md has the rules that it "
        f"needs, keys and channels among them (ACL SETUSER ... ~{prefix}:* &{prefix}:*)"
    )


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
