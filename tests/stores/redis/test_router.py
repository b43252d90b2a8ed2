"""Answers of a server that was replaced while it answered do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from coatcheck.stores.redis.transport.connection import LostError, PipelinedConnection
from coatcheck.stores.redis.transport.router import Answer, Call, Outcome, ReplicaError, Router
from coatcheck.stores.redis.transport.topology import SingleServer
from coatcheck.stores.redis.url import Address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coatcheck.stores.redis.transport.connection import Command, Reply

PRIMARY = [b"master", 0, []]


class Replaceable(SingleServer):
    """One server, until it is replaced by one that is not there."""

    is_replaced = False

    def vouches_for(self, address: Address) -> bool:
        return not self.is_replaced


class Answering:
    """A connection to a server that takes itself for the primary, and may be replaced before its answer has come."""

    def __init__(self, servers: Replaceable, *, replaced: bool) -> None:
        self._servers = servers
        self._is_replaced = replaced

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        self._servers.is_replaced = self._is_replaced
        return [PRIMARY if command == ("ROLE",) else b"old" for command in commands]


async def _outcome(call: Call, *, replaced: bool) -> Outcome:
    servers = Replaceable(Address("127.0.0.1", 1))
    router = Router(servers, lambda _: cast("PipelinedConnection", Answering(servers, replaced=replaced)))
    return (await router.run([call]))[call]


@pytest.mark.parametrize("reads", [True, False])
async def test_an_answer_of_the_primary_counts(reads: bool) -> None:
    outcome = await _outcome(Call("00", ("GET", "a"), reads=reads), replaced=False)
    assert isinstance(outcome, Answer)
    assert outcome.reply == b"old"


async def test_what_was_read_from_a_server_that_was_replaced_meanwhile_does_not_count() -> None:
    assert isinstance(await _outcome(Call("00", ("GET", "a"), reads=True), replaced=True), ReplicaError)


async def test_of_a_change_on_a_server_that_was_replaced_meanwhile_it_is_not_known_whether_it_lasts() -> None:
    assert isinstance(await _outcome(Call("00", ("EVALSHA", "a", 0)), replaced=True), LostError)
