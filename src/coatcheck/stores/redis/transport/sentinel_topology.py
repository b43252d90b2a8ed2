"""The primary that sentinels watch over: where it is, as they say, and until when their word counts.

Each sentinel that is known is asked every second (SENTINEL MASTER and the like), and says itself when another server
takes over (+switch-master). Where they disagree, the one that has seen the latest failover is right (its epoch).

The word of a sentinel counts only if it has heard from most of the others, and for nearly as long as these wait before
they replace a primary that is silent (`down-after-milliseconds`), counted from the moment when it heard from them. So a
process that is cut off together with the old primary, and perhaps with some of the sentinels, stops answering before
the other side has a new one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.identifiers import SHARDS
from coatcheck.stores.redis.transport.connection import LostError, NotSentError, PipelinedConnection
from coatcheck.stores.redis.url import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from redis.asyncio.connection import AbstractConnection

    from coatcheck.stores.redis.transport.connection import Reply
    from coatcheck.stores.redis.url import Sentinels

_ASK_SECONDS = 1.0
_PING_SECONDS = 1.0  # of a sentinel: the last answer of a primary may be so old when it is cut off
_STRAGGLER_SECONDS = 0.25  # a sentinel that takes longer does not hold up the word of the others
_LONGEST_SILENCE_MS = 5000  # a sentinel chooses no replica that it has not heard from for longer
_PROBE_SECONDS = 0.25  # while the primary does not answer
_SHORTEST_LEASE_SECONDS = 3.0  # shorter ones would end between two questions of a busy process
_SWITCHED = "+switch-master"

_QUESTIONS = ("GET-MASTER-ADDR-BY-NAME", "MASTER", "SENTINELS", "REPLICAS")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Word:
    """The answer of one sentinel."""

    primary: Address
    epoch: int
    """Of the latest failover that it has seen."""
    good_until: float
    """By this process's monotonic clock."""
    others: frozenset[Address]
    """The other sentinels that it knows."""
    promotable: frozenset[Address]
    """The replicas that it might choose now, as it knows them."""


class UnknownServiceError(Exception):
    """A sentinel does not watch over the service."""


class SentinelServers:
    """One server has all shards, and another may take its place."""

    is_cluster = False

    def __init__(
        self,
        seeds: Sequence[Address],
        asked_for: Sentinels,
        *,
        ask: Callable[[Address], PipelinedConnection],
        subscribe: Callable[[Address], AbstractConnection],
        connect: Callable[[Address], PipelinedConnection],
        remap: Callable[[Address], Address],
        when_replaced: Callable[[Address], None],
    ) -> None:
        """Begin with the sentinels at `seeds`; these name others.

        `ask` and `subscribe` make connections to a sentinel, `connect` to a server with data. `when_replaced` is told
        of a server that has been replaced, at once.
        """
        self._seeds = tuple(seeds)
        self._asked_for = asked_for
        self._ask = ask
        self._subscribe = subscribe
        self._connect = connect
        self._remap = remap
        self._when_replaced = when_replaced
        self._asking: dict[Address, PipelinedConnection] = {}
        self._listening: dict[Address, asyncio.Task[None]] = {}
        self._words: dict[Address, asyncio.Task[Word | Exception]] = {}
        self._answers: Mapping[Address, Word | Exception] = {}
        self._primary: Address | None = None
        self._epoch = -1
        self._good_until = 0.0
        self._promotable: frozenset[Address] = frozenset()
        self._is_suspect = True
        self._counts = True
        self._refreshing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    # --- see `topology.Servers` ---

    async def open(self) -> None:
        """Ask where the primary is, and go on asking.

        Raises:
            ConfigurationError: no sentinel knows the service, or lets us ask; or the server that answers is none.
            StoreUnavailable: no sentinel answers, or none whose word counts; or the primary does not answer.
        """
        self._news = asyncio.Event()
        await self._refresh(patiently=True)
        if self._asking.keys() - self._answers.keys():
            await self._refresh()  # those that were named may have seen a later failover
        if self._primary is None:
            raise self._why_none_is_known()
        if self._is_suspect:
            raise StoreUnavailable(
                f"the sentinels say that the primary of {self._asked_for.service} is {self._primary}; it does not "
                "answer, or is a replica"
            )
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def of(self, shard: str) -> Address | None:  # noqa: ARG002 (one server has all of them)
        return self._primary if self.vouches_for(self._primary) and not self._is_suspect else None

    def all(self) -> Mapping[Address, str]:
        return {} if self._primary is None else {self._primary: SHARDS[0]}

    def vouches_for(self, address: Address | None) -> bool:
        if address is None or address != self._primary:
            return False
        return self._asked_for.believes_any or time.monotonic() < self._good_until

    def promotable(self) -> int:
        return len(self._promotable)

    async def refresh(self) -> None:
        """Ask every sentinel that is known. A caller that comes while others ask waits for the same answer."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    def follow(self, shard: str, address: Address) -> None:
        """Only members of a Cluster say so."""

    def suspect(self, address: Address) -> None:
        if address == self._primary:
            self._is_suspect = True
            self._news.set()

    async def close(self) -> None:
        watching = (self._watching, self._refreshing, *self._listening.values(), *self._words.values())
        tasks = [one for one in watching if one is not None]
        self._watching = self._refreshing = None
        self._listening, self._words = {}, {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        asking, self._asking = self._asking, {}
        for connection in asking.values():
            await connection.close()
        self._primary, self._epoch, self._is_suspect = None, -1, True

    # --- watching ---

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_SECONDS if self._is_suspect else _ASK_SECONDS):
                    await self._news.wait()
            self._news.clear()
            try:
                if self._refreshing is not None and not self._refreshing.done():
                    await asyncio.shield(self._refreshing)  # which may have asked before there was news
                await self.refresh()
            except Exception:  # noqa: BLE001 (`remap` is the application's, and may raise anything)
                _log.exception("the sentinels cannot be asked")

    async def _refresh(self, *, patiently: bool = False) -> None:
        """Ask every sentinel that is known, and follow."""
        known = list(self._asking) or list(self._seeds)
        self._answers = await self._answers_of(known, patiently=patiently)
        words = {sentinel: word for sentinel, word in self._answers.items() if isinstance(word, Word)}
        if words:
            await self._know({*self._seeds, *words}.union(*(word.others for word in words.values())))
        best = best_of(
            list(words.values()), latest=self._epoch, known=len(known), believes_any=self._asked_for.believes_any
        )
        if best is not None:
            agreeing = [one for one in words.values() if (one.epoch, one.primary) == (best.epoch, best.primary)]
            self._promotable = frozenset[Address]().union(*(one.promotable for one in agreeing))
            await self._go_to(best)
        self._tell_whether_the_word_counts()

    async def _answers_of(self, known: Sequence[Address], *, patiently: bool) -> Mapping[Address, Word | Exception]:
        """The answers of all; if not `patiently` without those of sentinels whose machine may have failed.

        An answer that comes late is not lost: then all are asked again.
        """
        for sentinel in known:
            if sentinel not in self._words:
                self._words[sentinel] = asyncio.get_running_loop().create_task(self._word_of(sentinel))
        asked = {self._words[sentinel]: sentinel for sentinel in known}
        _, waiting = await asyncio.wait(asked, timeout=None if patiently else _STRAGGLER_SECONDS)
        if waiting and not any(one.done() and isinstance(one.result(), Word) for one in asked):
            _, waiting = await asyncio.wait(asked)
        for task in waiting:
            task.add_done_callback(lambda _: self._news.set())
        return {sentinel: self._words.pop(sentinel).result() for task, sentinel in asked.items() if task.done()}

    async def _know(self, sentinels: AbstractSet[Address]) -> None:
        """Ask these sentinels from now on, and forget those of which no other speaks any more."""
        for sentinel in sentinels:
            self._connection_to(sentinel)
        for sentinel in self._asking.keys() - sentinels - self._words.keys():
            self._listening.pop(sentinel).cancel()
            await self._asking.pop(sentinel).close()

    async def _go_to(self, best: Word) -> None:
        replaced = self._primary
        is_new = best.primary != replaced
        if is_new:
            self._primary, self._is_suspect = best.primary, True
            _log.info("the sentinels say that the primary is %s", best.primary)
        is_later = is_new or best.epoch != self._epoch
        self._good_until = best.good_until if is_later else max(best.good_until, self._good_until)
        self._epoch = best.epoch
        if is_new and replaced is not None:
            self._when_replaced(replaced)
        if self._is_suspect:
            is_primary = await self._is_primary(best.primary)
            if best.primary == self._primary:
                self._is_suspect = not is_primary

    def _tell_whether_the_word_counts(self) -> None:
        counts = self.vouches_for(self._primary)
        if self._primary is not None and counts != self._counts:
            self._counts = counts
            if counts:
                _log.info("most sentinels are heard from again")
            else:
                _log.warning("most sentinels have not been heard from: until they are, no call is answered")

    async def _word_of(self, sentinel: Address) -> Word | Exception:
        asked_at = time.monotonic()
        service = self._asked_for.service
        commands = [("SENTINEL", what, service) for what in _QUESTIONS]
        try:
            address, primary, others, replicas = await self._connection_to(sentinel).exchange(commands)
        except (NotSentError, LostError) as error:
            return error.__cause__ if isinstance(error.__cause__, Exception) else error
        if address is None:
            return UnknownServiceError()
        for reply in (address, primary, others, replicas):
            if isinstance(reply, RedisError):
                return reply
        try:
            return word_in(address, primary, others, replicas, asked_at=asked_at, remap=self._remap)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # it is no sentinel, or one of the future
            return error

    def _connection_to(self, sentinel: Address) -> PipelinedConnection:
        """The connection by which a sentinel is asked; there is one to each, and one by which it tells."""
        if sentinel not in self._asking:
            self._asking[sentinel] = self._ask(sentinel)
            self._listening[sentinel] = asyncio.get_running_loop().create_task(self._hear(sentinel))
        return self._asking[sentinel]

    async def _hear(self, sentinel: Address) -> None:
        """Ask all of them whenever this one says that a primary was replaced."""
        while True:
            connection = None
            try:
                connection = self._subscribe(sentinel)
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py does not say
                await connection.send_command("SUBSCRIBE", _SWITCHED, check_health=False)
                while True:
                    await connection.read_response(disable_decoding=True)
                    self._news.set()  # also when it begins: something may have been missed
            except (RedisError, OSError) as error:
                _log.debug("a sentinel does not tell of failovers now: %s", type(error).__name__)
            finally:
                if connection is not None:
                    await connection.disconnect(nowait=True)
            await asyncio.sleep(_ASK_SECONDS)

    async def _is_primary(self, address: Address) -> bool:
        connection = self._connect(address)
        try:
            (role,) = await connection.exchange([("ROLE",)])
        except (NotSentError, LostError):
            return False
        finally:
            await connection.close()
        if isinstance(role, NoPermissionError):
            return True  # the store says so when it opens
        return isinstance(role, list) and role[0] == b"master"

    # --- errors ---

    def _why_none_is_known(self) -> ConfigurationError | StoreUnavailable:
        """Why no primary is known after all sentinels were asked. Hosts and service are named, and nothing else."""
        service = self._asked_for.service
        asked = ", ".join(map(str, self._answers))
        reasons = [one for one in self._answers.values() if isinstance(one, Exception)]
        if len(reasons) < len(self._answers):
            return StoreUnavailable(
                f"the sentinels that answer at {asked} have not heard from most of the others: the primary of "
                f"{service} may have been replaced without their knowledge (sentinels=any in the store URL takes that "
                "risk)"
            )
        if any(isinstance(one, UnknownServiceError) for one in reasons):
            return ConfigurationError(f"the sentinels at {asked} do not know the service {service}")
        if any(isinstance(one, RedisError) and "unknown command" in str(one) for one in reasons):
            return ConfigurationError(f"the store URL is one of sentinels, and the server at {asked} is none")
        if any(isinstance(one, AuthenticationError | NoPermissionError) for one in reasons):
            return ConfigurationError(
                f"the sentinels at {asked} want another user or password; theirs are sentinel_username and "
                "sentinel_password in the store URL"
            )
        why = ", ".join(sorted({type(one).__name__ for one in reasons}))
        return StoreUnavailable(f"no sentinel of the service {service} answers at {asked} ({why})")


def best_of(words: Sequence[Word], *, latest: int, known: int, believes_any: bool) -> Word | None:
    """The word to go by; None where none counts. `latest` is the epoch that was gone by so far.

    An earlier epoch counts only if most of all `known` sentinels agree about it, as they do after SENTINEL RESET: one
    sentinel that has not heard of a failover yet does not undo it.
    """
    now = time.monotonic()
    counted = [word for word in words if believes_any or word.good_until > now]
    if not counted:
        return None
    epoch = max(word.epoch for word in counted)
    agreeing = [word for word in counted if word.epoch == epoch]
    if epoch < latest and 2 * len(agreeing) <= known:
        return None
    return max(agreeing, key=lambda word: word.good_until)


def word_in(
    address: Reply,
    primary: Reply,
    others: Reply,
    replicas: Reply,
    *,
    asked_at: float,
    remap: Callable[[Address], Address],
) -> Word:
    """Read the replies of a sentinel.

    Raises:
        KeyError, ValueError, TypeError: they are not those of a sentinel.
    """
    host, port = address  # unlike what SENTINEL MASTER says, the new server's as soon as it is promoted
    facts = _pairs(primary)
    peers = [_pairs(other) for other in others]
    # Sorted, with the sentinel itself: at the middle is how long ago it has last heard from most of all.
    silences = sorted((0.0, *(int(peer[b"last-ok-ping-reply"]) / 1000 for peer in peers)))
    lease = max(int(facts[b"down-after-milliseconds"]) / 1000 - _PING_SECONDS, _SHORTEST_LEASE_SECONDS)
    return Word(
        remap(Address(host.decode(), int(port))),
        int(facts[b"config-epoch"]),
        asked_at - silences[len(silences) // 2] + lease,
        frozenset(remap(_address_of(peer)) for peer in peers),
        frozenset(_address_of(replica) for replica in map(_pairs, replicas) if _may_be_chosen(replica)),
    )


def _may_be_chosen(replica: Mapping[bytes, bytes]) -> bool:
    """Whether a sentinel that says this of a replica might put it in the primary's place (`sentinelSelectSlave`)."""
    is_away = {b"s_down", b"o_down", b"disconnected"}.intersection(replica[b"flags"].split(b","))
    is_silent = int(replica[b"last-ok-ping-reply"]) > _LONGEST_SILENCE_MS
    return not is_away and not is_silent and replica.get(b"slave-priority") != b"0"


def _address_of(facts: Mapping[bytes, bytes]) -> Address:
    return Address(facts[b"ip"].decode(), int(facts[b"port"]))


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
