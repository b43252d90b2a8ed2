"""What goes over a runner in shared trips: reads of sessions, and calls of every other kind."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from coatcheck.errors import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import shard_of_session
from coatcheck.stores.redis.packing import DamagedError, reading_of
from coatcheck.stores.redis.transport.connection import LostError, NotSentError
from coatcheck.stores.redis.transport.router import Answer, Call, ReplicaError, came_from_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from coatcheck.identifiers import SessionId
    from coatcheck.stores.records import SessionReading
    from coatcheck.stores.redis.transport.connection import Command, Reply
    from coatcheck.stores.redis.transport.router import Outcome, Router
    from coatcheck.stores.redis.transport.servers import Servers

_log = logging.getLogger(__name__)

# Behind the rows: none of them was used after it.
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
    """Reads a batch of sessions, and with them the time. Only a primary is believed."""

    def __init__(
        self, router: Router, servers: Servers, key_of: Callable[[SessionId], str], time_of: Callable[[Reply], int]
    ) -> None:
        """Over `router`. `key_of` names a session's key, `time_of` reads the reply to TIME."""
        self._router = router
        self._is_cluster = servers.is_cluster
        self._key_of = key_of
        self._time_of = time_of

    async def run(self, keys: Sequence[SessionId]) -> Mapping[SessionId, SessionReading | StoreUnavailable]:
        """See `BatchRunner.go`."""
        asked = {
            Call(shard_of_session(ids[0]), ("MGET", *map(self._key_of, ids)), reads=True): ids
            for ids in (_by_shard(keys) if self._is_cluster else [keys])
        }
        outcomes = await self._router.run(tuple(asked), trailing=_TIME, may_repeat=True)
        found: dict[SessionId, SessionReading | StoreUnavailable] = {}
        for call, ids in asked.items():
            outcome = outcomes[call]
            if not isinstance(outcome, Answer) or isinstance(outcome.reply, RedisError):
                found.update(dict.fromkeys(ids, _unavailable(outcome)))
                continue
            now_us = self._time_of(outcome.trailing[0])
            for session_id, value in zip(ids, outcome.reply, strict=True):
                if value is not None:
                    found[session_id] = _reading(session_id, value, now_us)
        return found


class CallRunner:
    """Makes a batch of calls."""

    def __init__(self, router: Router) -> None:
        """Over `router`."""
        self._router = router

    async def run(self, keys: Sequence[Call]) -> Mapping[Call, Reply]:
        """See `BatchRunner.go`."""
        outcomes = await self._router.run(keys)
        return {call: _reply_of(outcome) for call, outcome in outcomes.items()}


class EndingRunner:
    """Makes a batch of calls that end or shrink sessions, and waits until so many replicas have them."""

    def __init__(self, router: Router, *, replicas: int, timeout_ms: int) -> None:
        """Over `router`. A server is waited for at most `timeout_ms`."""
        self._router = router
        self._replicas = replicas
        self._trailing: Sequence[Command] = (("WAIT", replicas, timeout_ms),) if replicas else ()

    async def run(self, keys: Sequence[Call]) -> Mapping[Call, Reply]:
        """See `BatchRunner.go`."""
        try:
            outcomes = await self._router.run(keys, trailing=self._trailing)
        except Exception as error:
            _log.exception("a trip with endings failed")
            raise RevocationIndeterminate(_INDETERMINATE.format(why=type(error).__name__)) from error
        return {call: self._confirmed(outcome) for call, outcome in outcomes.items()}

    def _confirmed(self, outcome: Outcome) -> Reply:
        if isinstance(outcome, LostError):
            return RevocationIndeterminate(_INDETERMINATE.format(why=_why(outcome)))
        reply = _reply_of(outcome)
        if isinstance(reply, StoreUnavailable):
            if isinstance(outcome, Answer) and not _has_not_begun(outcome.reply):
                return RevocationIndeterminate(_INDETERMINATE.format(why=_why(outcome)))
            return reply
        assert isinstance(outcome, Answer)  # noqa: S101 (whatever else it is has become a StoreUnavailable)
        for reached in outcome.trailing:  # one, or none where nothing is waited for
            if not isinstance(reached, int) or reached < self._replicas:
                why = f"{reached if isinstance(reached, int) else 0} of {self._replicas} replicas have it"
                return RevocationIndeterminate(_INDETERMINATE.format(why=why))
        return reply


def time_of(reply: Reply) -> int:
    """Microseconds since the Unix epoch, from what a server says of the time.

    Raises:
        StoreUnavailable: it does not say.
    """
    if isinstance(reply, list) and len(reply) == 2:
        return int(reply[0]) * 1_000_000 + int(reply[1])
    raise StoreUnavailable(f"the store does not tell the time ({_why(Answer(reply))})")


def _reading(session_id: SessionId, value: bytes, now_us: int) -> SessionReading | StoreUnavailable:
    try:
        return reading_of(session_id, value, now_us)
    except DamagedError:  # nobody is signed out by what may be of a version to come
        return StoreUnavailable("the stored session cannot be read: it is damaged, or of another version")


def _by_shard(ids: Iterable[SessionId]) -> Iterable[Sequence[SessionId]]:
    shards: dict[str, list[SessionId]] = {}
    for session_id in ids:
        shards.setdefault(shard_of_session(session_id), []).append(session_id)
    return shards.values()


def _reply_of(outcome: Outcome) -> Reply:
    if isinstance(outcome, Answer) and not isinstance(outcome.reply, RedisError):
        return outcome.reply
    return _unavailable(outcome)


def _unavailable(outcome: Outcome) -> StoreUnavailable:
    return StoreUnavailable(f"the store cannot answer ({_why(outcome)})")


def _why(outcome: Outcome) -> str:
    """In a few words, and never in those of the server: they may repeat what was sent."""
    if isinstance(outcome, ReplicaError) and outcome.__cause__ is None:
        return "the server is a replica, whose data may be old"
    if isinstance(outcome, NotSentError | LostError):
        return type(outcome.__cause__ or outcome).__name__
    return _code_of(outcome.reply)


def _code_of(refusal: Reply) -> str:
    code = getattr(refusal, "status_code", None) or str(refusal).partition(" ")[0]
    return code if code.isascii() and code.isupper() and len(code) <= 20 else type(refusal).__name__


def _has_not_begun(refusal: Reply) -> bool:
    return _code_of(refusal) in _NOT_BEGUN and not came_from_within(refusal)
