"""Runs batches of calls on the servers: reads of sessions, calls that end sessions, and calls of every other kind."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from coatcheck.errors import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import by_shard, shard_of_session
from coatcheck.stores.redis.packing import DamagedError, reading_of
from coatcheck.stores.redis.transport.connection import LostError
from coatcheck.stores.redis.transport.router import Answer, Call, Refusal, ReplicaError, came_from_within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coatcheck.identifiers import SessionId
    from coatcheck.stores.records import SessionReading
    from coatcheck.stores.redis.transport.connection import Command, NotSentError, Reply
    from coatcheck.stores.redis.transport.router import Outcome, Router
    from coatcheck.stores.redis.transport.topology import Servers

_log = logging.getLogger(__name__)

# Behind the rows: no session was used after it.
_TIME: Sequence[Command] = (("TIME",),)

# Refusals of a server that has not begun. Any other error of a script may have come in the middle of it.
_NOT_BEGUN = frozenset(
    (
        *("ASK", "CLUSTERDOWN", "MOVED", "TRYAGAIN"),
        *("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY"),
        *("NOAUTH", "NOPERM", "NOSCRIPT"),
    )
)

_INDETERMINATE = (
    "the store cannot answer ({why}); whether the sessions were ended is not known: treat them as live and revoke again"
)


class SessionReader:
    """Reads a batch of sessions, and the time with them. Only a primary is believed."""

    def __init__(
        self, router: Router, servers: Servers, key_of: Callable[[SessionId], str], time_of: Callable[[Reply], int]
    ) -> None:
        """Over `router`. `key_of` gives a session's key, `time_of` reads the reply to TIME."""
        self._router = router
        self._is_cluster = servers.is_cluster
        self._key_of = key_of
        self._time_of = time_of

    async def run(self, keys: Sequence[SessionId]) -> Mapping[SessionId, SessionReading | StoreUnavailable]:
        asked: dict[Call, Sequence[SessionId]] = {}
        for ids in by_shard(keys).values() if self._is_cluster else (keys,):
            asked[Call(shard_of_session(ids[0]), ("MGET", *map(self._key_of, ids)), reads=True)] = ids
        outcomes = await self._router.run(tuple(asked), trailing=_TIME, may_repeat=True)
        found: dict[SessionId, SessionReading | StoreUnavailable] = {}
        for call, ids in asked.items():
            outcome = outcomes[call]
            if not isinstance(outcome, Answer):
                found.update(dict.fromkeys(ids, _unavailable(outcome)))
                continue
            now_us = self._time_of(outcome.trailing[0])
            for session_id, value in zip(ids, outcome.reply, strict=True):
                if value is None:
                    continue
                try:
                    found[session_id] = reading_of(session_id, value, now_us)
                except DamagedError:  # no answer, which signs no user out: the value may be of a later version
                    found[session_id] = StoreUnavailable(
                        "the stored session cannot be read: it is damaged, or of another version"
                    )
        return found


class CallRunner:
    """Runs a batch of calls."""

    def __init__(self, router: Router) -> None:
        """Over `router`."""
        self._router = router

    async def run(self, keys: Sequence[Call]) -> Mapping[Call, Reply]:
        outcomes = await self._router.run(keys)
        return {
            call: outcome.reply if isinstance(outcome, Answer) else _unavailable(outcome)
            for call, outcome in outcomes.items()
        }


class EndingRunner:
    """Runs a batch of calls that end or shrink sessions, and waits until enough replicas have them."""

    def __init__(self, router: Router, *, replicas: Callable[[], int], timeout_ms: int) -> None:
        """Over `router`. Each server waits for as many `replicas` as are asked for then, for at most `timeout_ms`."""
        self._router = router
        self._replicas = replicas
        self._timeout_ms = timeout_ms

    async def run(self, keys: Sequence[Call]) -> Mapping[Call, Reply]:
        replicas = self._replicas()
        trailing: Sequence[Command] = (("WAIT", replicas, self._timeout_ms),) if replicas else ()
        try:
            outcomes = await self._router.run(keys, trailing=trailing)
        except Exception as error:
            _log.exception("a batch that ends sessions failed")
            raise RevocationIndeterminate(_INDETERMINATE.format(why=type(error).__name__)) from error
        return {call: _confirmed(outcome, replicas) for call, outcome in outcomes.items()}


def _confirmed(outcome: Outcome, replicas: int) -> Reply:
    if isinstance(outcome, LostError) or (isinstance(outcome, Refusal) and not _has_not_begun(outcome)):
        return RevocationIndeterminate(_INDETERMINATE.format(why=_why(outcome)))
    if not isinstance(outcome, Answer):
        return _unavailable(outcome)
    for reached in outcome.trailing:  # the reply to WAIT; none where no replica is waited for
        if not isinstance(reached, int) or reached < replicas:
            why = f"{reached if isinstance(reached, int) else 0} of {replicas} replicas have it"
            return RevocationIndeterminate(_INDETERMINATE.format(why=why))
    return outcome.reply


def time_of(reply: Reply) -> int:
    """Microseconds since the Unix epoch, from the reply to TIME.

    Raises:
        StoreUnavailable: it does not tell the time.
    """
    if isinstance(reply, list) and len(reply) == 2:
        return int(reply[0]) * 1_000_000 + int(reply[1])
    raise StoreUnavailable(f"the store does not tell the time ({_code_of(reply)})")


def _unavailable(outcome: Refusal | NotSentError | LostError) -> StoreUnavailable:
    return StoreUnavailable(f"the store cannot answer ({_why(outcome)})")


def _why(outcome: Refusal | NotSentError | LostError) -> str:
    """The reason in a few words, and never in those of the server: these may repeat what was sent."""
    if isinstance(outcome, Refusal):
        return _code_of(outcome.error)
    if isinstance(outcome, ReplicaError) and outcome.__cause__ is None:
        return "the server is a replica, or was replaced, and its data may be old"
    if outcome.__cause__ is None and str(outcome):
        return str(outcome)  # our own words
    return type(outcome.__cause__ or outcome).__name__


def _code_of(refusal: Reply) -> str:
    code = getattr(refusal, "status_code", None) or str(refusal).partition(" ")[0]
    return code if code.isascii() and code.isupper() and len(code) <= 20 else type(refusal).__name__


def _has_not_begun(refusal: Refusal) -> bool:
    return _code_of(refusal.error) in _NOT_BEGUN and not came_from_within(refusal.error)
