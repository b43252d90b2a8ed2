"""Routes calls to the servers that have their shards: one round trip to each server, all at the same time.

Calls that a server refuses because it is not, or no longer, the primary of the shard are sent to the one that is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from operator import attrgetter
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
    from coatcheck.stores.redis.transport.topology import Servers

_MAX_ATTEMPTS = 4
_ROLE: Command = ("ROLE",)
_REPLACED = "the server was replaced while it answered"
# The refusals of a server that is no longer, or not yet, the primary of the shard.
_ELSEWHERE = (MovedError, ClusterDownError, ReadOnlyError, TryAgainError, BusyLoadingError)


class ReplicaError(NotSentError):
    """The reply does not count: the server is a replica, or was replaced, and may not have heard of earlier changes."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A command for the server that has `shard`, and the script that it runs. Equal calls are still two.

    `reads` says that it reads stored data without a script: a replica refuses a script by itself, but not such a read.
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
    """The server's reply. `trailing` has the replies to the last commands of the same round trip."""

    reply: Reply = field(repr=False)  # it may hold a hash
    trailing: Sequence[Reply] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server's error in place of a reply."""

    error: RedisError = field(repr=False)  # its text may repeat what was sent


Outcome: TypeAlias = Answer | Refusal | NotSentError | LostError

_command_of = attrgetter("command")
_reads = attrgetter("reads")


class Router:
    """The connections of one batch runner, one to each server. For one caller at a time."""

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

    def leave(self, address: Address) -> None:
        """Wait no longer for the answer of a server that was replaced: it would come from old data."""
        connection = self._connections.get(address)
        if connection is not None:
            connection.give_up()

    async def run(
        self, calls: Sequence[Call], *, trailing: Sequence[Command] = (), may_repeat: bool = False
    ) -> dict[Call, Outcome]:
        """Run all of `calls`; each round trip to a server ends with the commands `trailing`.

        A call that a server has not begun is sent again if another server has the shard by now. A call that may have
        been run is sent again only where it `may_repeat`.
        """
        if len(self._connections) > 1:
            await self._disconnect_from_replaced()
        due: Mapping[Call, Command] = dict(zip(calls, map(_command_of, calls), strict=True))
        outcomes: dict[Call, Outcome] = {}
        for _ in range(_MAX_ATTEMPTS):
            routes = self._route(due)
            if len(routes) == 1:
                ((address, commands),) = routes.items()
                outcomes |= await self._send(address, commands, trailing)
            else:
                outcomes |= await self._send_to_each(routes, trailing)
            failed: dict[Call, Address | None] = {}
            for address, commands in routes.items():
                for call in commands:
                    if not isinstance(outcomes[call], Answer):
                        failed[call] = address
            if not failed:
                break
            due = await self._due_again(failed, outcomes, may_repeat)
            if not due:
                break
        return outcomes

    async def _disconnect_from_replaced(self) -> None:
        for address in [one for one in self._connections if not self._servers.vouches_for(one)]:
            await self._connections.pop(address).close()

    def _route(self, due: Mapping[Call, Command]) -> dict[Address | None, dict[Call, Command]]:
        """The commands for each server; those for None have no server that is known and answers."""
        routes: dict[Address | None, dict[Call, Command]] = {}
        for call, command in due.items():
            routes.setdefault(self._servers.of(call.shard), {})[call] = command
        return routes

    async def _send_to_each(
        self, routes: Mapping[Address | None, Mapping[Call, Command]], trailing: Sequence[Command]
    ) -> dict[Call, Outcome]:
        # A group, so that none goes on where another fails: the connections are for one caller at a time.
        async with asyncio.TaskGroup() as group:
            sending = [
                group.create_task(self._send(address, commands, trailing)) for address, commands in routes.items()
            ]
        outcomes: dict[Call, Outcome] = {}
        for task in sending:
            outcomes |= task.result()
        return outcomes

    async def _send(
        self, address: Address | None, commands: Mapping[Call, Command], trailing: Sequence[Command]
    ) -> dict[Call, Outcome]:
        """Send `commands` to one server, in one round trip."""
        if address is None:
            return dict.fromkeys(commands, NotSentError("no server is known to be the primary and to answer"))
        connection = self._connections.get(address)
        if connection is None:
            connection = self._connections[address] = self._connect(address)
        # A member of a Cluster that is no primary refuses to read. A server by itself has to be asked for its role,
        # and first of all: had it been promoted after its replies, these might be old.
        asks_role = not self._servers.is_cluster and any(map(_reads, commands))
        try:
            replies = await connection.exchange([*((_ROLE,) if asks_role else ()), *commands.values(), *trailing])
        except (NotSentError, LostError) as error:
            if isinstance(error.__cause__, TimeoutError):
                self._servers.suspect(address)
            return dict.fromkeys(commands, error)
        if not self._servers.vouches_for(address):
            return {call: ReplicaError() if call.reads else LostError(_REPLACED) for call in commands}
        replica_error = _replica_error(replies.pop(0)) if asks_role else None
        is_replica = replica_error is not None
        trailing_replies = replies[len(commands) :]
        outcomes: dict[Call, Outcome] = {}
        for call, reply in zip(commands, replies, strict=False):  # behind them are the trailing ones
            if replica_error is not None and call.reads:
                outcomes[call] = replica_error
            elif isinstance(reply, RedisError):
                outcomes[call] = Refusal(reply)
                is_replica = is_replica or isinstance(reply, ReadOnlyError)
            else:
                outcomes[call] = Answer(reply, trailing_replies)
        if is_replica and not self._servers.is_cluster:
            await connection.close()  # its address may be another server's by now
        return outcomes

    async def _due_again(
        self, failed: Mapping[Call, Address | None], outcomes: Mapping[Call, Outcome], may_repeat: bool
    ) -> dict[Call, Command]:
        """The calls to send once more, of those that have `failed` at these servers."""
        elsewhere = {
            call: address
            for call, address in failed.items()
            if address is not None and _may_be_elsewhere(outcomes[call], may_repeat)
        }
        if elsewhere:
            await self._servers.refresh()
            self._follow_moved(elsewhere, outcomes)
        moved = {
            call: call.command
            for call, address in elsewhere.items()
            if may_repeat or self._servers.of(call.shard) not in {None, address}
        }
        return moved | {call: _with_script_text(call) for call in failed if _lacks_script(outcomes[call])}

    def _follow_moved(self, failed: Mapping[Call, Address], outcomes: Mapping[Call, Outcome]) -> None:
        """Go where a MOVED error points, for shards of which the members still say that they are where they were.

        Right after an election most members may not have heard of it; the primary that was replaced has.
        """
        for call, address in failed.items():
            outcome = outcomes[call]
            if not isinstance(outcome, Refusal) or not isinstance(outcome.error, MovedError):
                continue
            if self._servers.of(call.shard) == address:
                moved = outcome.error
                self._servers.follow(call.shard, Address(moved.host or address.host, moved.port))


def _replica_error(role: Reply) -> ReplicaError | None:
    if isinstance(role, list) and role[0] == b"master":
        return None
    error = ReplicaError()
    error.__cause__ = role if isinstance(role, RedisError) else None  # this user may not ask
    return error


def _may_be_elsewhere(outcome: Outcome, may_repeat: bool) -> bool:
    """Whether a server has not begun the call, or may have and the call may be run twice."""
    if isinstance(outcome, Refusal):
        return isinstance(outcome.error, _ELSEWHERE) and not came_from_within(outcome.error)
    return may_repeat or isinstance(outcome, NotSentError)


def came_from_within(refusal: RedisError) -> bool:
    """Whether it is an error of a command within a script, which may have changed something before."""
    return "script:" in str(refusal)


def _lacks_script(outcome: Outcome) -> bool:
    return isinstance(outcome, Refusal) and isinstance(outcome.error, NoScriptError)


def _with_script_text(call: Call) -> Command:
    """The command with its script's text, for a server that has not seen the script."""
    if call.script is None:
        return call.command
    return ("EVAL", call.script.text, *call.command[2:])
