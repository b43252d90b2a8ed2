"""Commands to the servers that have their shards, and back: one trip to each server, all at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from coatcheck.stores.redis.transport.connection import LostError, NotSentError
from coatcheck.stores.redis.url import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from coatcheck.stores.redis.scripts import Script
    from coatcheck.stores.redis.transport.connection import Command, PipelinedConnection, Reply
    from coatcheck.stores.redis.transport.servers import Servers

_MOST_TRIPS = 4
_ROLE: Command = ("ROLE",)
# What a server says that is no longer, or not yet, the primary of the shard.
_ELSEWHERE = (MovedError, ClusterDownError, ReadOnlyError, TryAgainError, BusyLoadingError)


class ReplicaError(NotSentError):
    """What the server says does not count: it is a replica, and may not have heard of what was done before."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A command for the server that has `shard`, and the script that it calls. Equal calls are still two.

    `reads` says that it reads what is stored, and is not a script: those are refused by a replica itself.
    """

    shard: str
    command: Command = field(repr=False)  # it may hold a hash
    script: Script | None = None
    reads: bool = False


def call_script(script: Script, root: str, shard: str, arguments: Iterable[str | bytes | int]) -> Call:
    """The call of a script on the shard whose root is `root`."""
    return Call(shard, ("EVALSHA", script.digest, 1, root, *arguments), script)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `reply` may be a RedisError; `trailing` has the replies to the last commands of that trip."""

    reply: Reply
    trailing: Sequence[Reply] = ()


Outcome: TypeAlias = Answer | NotSentError | LostError


class Router:
    """The connections of one runner, one to each server. For one caller at a time."""

    def __init__(self, servers: Servers, connect: Callable[[Address], PipelinedConnection]) -> None:
        """Set up without connecting."""
        self._servers = servers
        self._connect = connect
        self._connections: dict[Address, PipelinedConnection] = {}

    async def close(self) -> None:
        """Disconnect from every server."""
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            await connection.close()

    async def run(
        self, calls: Sequence[Call], *, trailing: Sequence[Command] = (), may_repeat: bool = False
    ) -> dict[Call, Outcome]:
        """Have all of `calls` done, each trip to a server ending with the commands `trailing`.

        What a server has not begun is sent again if another one has the shard by now. What may have been done is sent
        again only where it `may_repeat`.
        """
        due = {call: call.command for call in calls}
        outcomes: dict[Call, Outcome] = {}
        for _ in range(_MOST_TRIPS):
            sent_to = {call: self._servers.of(call.shard) for call in due}
            outcomes |= await self._make_trips(due, sent_to, trailing)
            failed = [call for call in due if sent_to[call] and _may_be_elsewhere(outcomes[call], may_repeat)]
            if failed:
                await self._servers.refresh()
                self._follow(failed, sent_to, outcomes)
            due = {
                call: call.command
                for call in failed
                if may_repeat or self._servers.of(call.shard) not in {None, sent_to[call]}
            } | {call: _with_text(call) for call in due if _is_not_loaded(outcomes[call])}
            if not due:
                break
        return outcomes

    def _follow(
        self, failed: Iterable[Call], sent_to: Mapping[Call, Address | None], outcomes: Mapping[Call, Outcome]
    ) -> None:
        # Right after an election most members may not have heard of it; the one who was replaced has.
        for call in failed:
            asked, outcome = sent_to[call], outcomes[call]
            if asked is None or self._servers.of(call.shard) != asked:
                continue
            if isinstance(outcome, Answer) and isinstance(outcome.reply, MovedError):
                self._servers.follow(call.shard, Address(outcome.reply.host or asked.host, outcome.reply.port))

    async def _make_trips(
        self, due: Mapping[Call, Command], sent_to: Mapping[Call, Address | None], trailing: Sequence[Command]
    ) -> dict[Call, Outcome]:
        outcomes: dict[Call, Outcome] = {}
        by_address: dict[Address, list[Call]] = {}
        for call, address in sent_to.items():
            if address is None:
                outcomes[call] = NotSentError("no server is known to have the shard and to answer")
            else:
                by_address.setdefault(address, []).append(call)
        if len(by_address) == 1:
            ((address, theirs),) = by_address.items()
            return outcomes | await self._make_trip(address, theirs, due, trailing)
        # A group, so that none goes on where another fails: the connections are for one caller at a time.
        async with asyncio.TaskGroup() as group:
            trips = [
                group.create_task(self._make_trip(address, theirs, due, trailing))
                for address, theirs in by_address.items()
            ]
        for trip in trips:
            outcomes |= trip.result()
        return outcomes

    async def _make_trip(
        self, address: Address, calls: Sequence[Call], due: Mapping[Call, Command], trailing: Sequence[Command]
    ) -> dict[Call, Outcome]:
        # A member of a Cluster that is no primary refuses to read; a server by itself has to be asked what it is. The
        # question comes first: one that was promoted behind its answers might have given old ones.
        leading = [_ROLE] if not self._servers.is_cluster and any(call.reads for call in calls) else []
        connection = self._connections.get(address)
        if connection is None:
            connection = self._connections[address] = self._connect(address)
        try:
            replies = await connection.exchange([*leading, *(due[call] for call in calls), *trailing])
        except (NotSentError, LostError) as error:
            if isinstance(error.__cause__, TimeoutError):
                self._servers.suspect(address)
            return dict.fromkeys(calls, error)
        first, last = len(leading), len(leading) + len(calls)
        outcomes: dict[Call, Outcome] = {
            call: Answer(reply, replies[last:]) for call, reply in zip(calls, replies[first:last], strict=True)
        }
        if leading and (refusal := _replica_error(replies[0])):
            outcomes |= dict.fromkeys((call for call in calls if call.reads), refusal)
        if not self._servers.is_cluster and any(map(_is_from_a_replica, outcomes.values())):
            await connection.close()  # its address may be another server's by now
        return outcomes


def _replica_error(role: Reply) -> ReplicaError | None:
    if isinstance(role, list) and role[0] == b"master":
        return None
    refusal = ReplicaError()
    refusal.__cause__ = role if isinstance(role, RedisError) else None  # it may not be asked
    return refusal


def _is_from_a_replica(outcome: Outcome) -> bool:
    return isinstance(outcome, ReplicaError) or (
        isinstance(outcome, Answer) and isinstance(outcome.reply, ReadOnlyError)
    )


def _may_be_elsewhere(outcome: Outcome, may_repeat: bool) -> bool:
    """Whether a server did not begin with it, or nobody knows and it may be done twice."""
    if isinstance(outcome, Answer):
        return isinstance(outcome.reply, _ELSEWHERE) and not came_from_within(outcome.reply)
    return may_repeat or isinstance(outcome, NotSentError)


def came_from_within(refusal: Reply) -> bool:
    """Whether it is an error of a command within a script, which may have done something before."""
    return "script:" in str(refusal)


def _is_not_loaded(outcome: Outcome) -> bool:
    return isinstance(outcome, Answer) and isinstance(outcome.reply, NoScriptError)


def _with_text(call: Call) -> Command:
    """The call as one that brings its script along, for a server that has not seen it."""
    if call.script is None:
        return call.command
    return ("EVAL", call.script.text, *call.command[2:])
