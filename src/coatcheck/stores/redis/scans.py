"""Calls that look at many rows: lists, pruning, counting. They go in chunks, along indexes, never by key patterns."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from coatcheck.identifiers import SHARDS, SessionId, UserId, by_shard, shard_of_session, shard_of_user
from coatcheck.pages import Page
from coatcheck.stores.deadlines import deadline_reached
from coatcheck.stores.records import EndedSession, ExpiredSweep, IdleSweep, PepperCount
from coatcheck.stores.redis.ordered_ids import OrderedIds
from coatcheck.stores.redis.packing import DamagedError, listed_of
from coatcheck.stores.redis.user_hash import user_of, user_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from coatcheck.stores.records import ListedSession, SessionFilter, UserRecord
    from coatcheck.stores.redis.transport.calls import ServerCalls

_CHUNK = 500


async def list_sessions(
    calls: ServerCalls, which: SessionFilter, *, expired: bool | None, after: SessionId | None, limit: int
) -> Page[ListedSession]:
    """A page of sessions in order of id; filters come before the limit."""
    found: list[ListedSession] = []
    times = await calls.times(_shards_of(which))
    async for listed in _sessions(calls, which, after=after, at_a_time=limit + 1):
        session = listed.session
        if which.user_id not in {None, session.user_id} or which.method not in {None, session.method}:
            continue
        is_past = deadline_reached(session, times[shard_of_session(session.id)]) is not None
        if expired is not None and is_past != expired:
            continue
        if len(found) == limit:
            return Page(found, next_after=found[-1].session.id)
        found.append(listed)
    return Page(found)


async def list_users(calls: ServerCalls, *, after: UserId | None, limit: int) -> Page[UserRecord]:
    """A page of registered users in order of id."""
    ids = OrderedIds(SHARDS, _Reader(calls, calls.keys.users).read, after=after)
    found: list[UserRecord] = []
    while len(found) <= limit and (wanted := [UserId(id_) for id_ in await ids.take(limit + 1 - len(found))]):
        rows = await asyncio.gather(*(calls.read(shard_of_user(one), *user_row(calls.keys, one)) for one in wanted))
        users = (user_of(user_id, row) for user_id, row in zip(wanted, rows, strict=True))
        found += [user for user in users if user is not None and user.is_registered]  # not one that has just gone
    return Page(found[:limit], next_after=found[limit - 1].id if len(found) > limit else None)


async def prune_expired(calls: ServerCalls, limit: int) -> ExpiredSweep:
    """Delete up to `limit` sessions past their absolute deadline, in three round trips to each server."""
    times = await calls.times(SHARDS)
    due = await calls.read_every_shard(lambda shard: ("ZCOUNT", calls.keys.expiring(shard), "-inf", times[shard]))
    deletions, left = [], limit
    for shard, count in due.items():
        if share := min(count, left):
            deletions.append(calls.run("prune_expired", shard, share))
            left -= share
    looked_at = 0
    ended: list[EndedSession] = []
    for count, *pairs in await asyncio.gather(*deletions):
        looked_at += count
        ended += ended_in(pairs)
    return ExpiredSweep(looked_at < limit, ended=_in_order(ended))


async def prune_idle(calls: ServerCalls, after: SessionId | None, window: int) -> IdleSweep:
    """Delete the idle among the next `window` sessions in order of id."""
    ids = await OrderedIds(SHARDS, _Reader(calls, calls.keys.sessions).read, after=after).take(window)
    replies = await asyncio.gather(
        *(calls.run("prune_idle", shard, *theirs) for shard, theirs in by_shard(map(SessionId, ids)).items())
    )
    ended = [one for pairs in replies for one in ended_in(pairs)]
    return IdleSweep(SessionId(ids[-1]) if len(ids) == window else None, ended=_in_order(ended))


async def count_by_pepper(calls: ServerCalls) -> Sequence[PepperCount]:
    """How many sessions each pepper was used for."""
    counted: Counter[str | None] = Counter()
    ids = OrderedIds(SHARDS, _Reader(calls, calls.keys.sessions).read, after=None)
    while chunk := await ids.take(_CHUNK):
        counted.update([listed.session.key.pepper_id for listed in await _read(calls, chunk)])
    return [PepperCount(pepper_id, count) for pepper_id, count in sorted(counted.items(), key=lambda one: one[0] or "")]


def ended_in(pairs: Sequence[bytes]) -> Sequence[EndedSession]:
    """The sessions that a script has deleted, from user, id, user, id."""
    return tuple(
        EndedSession(UserId(user.decode()), SessionId(id_.decode()))
        for user, id_ in zip(pairs[::2], pairs[1::2], strict=True)
    )


def _in_order(ended: Iterable[EndedSession]) -> tuple[EndedSession, ...]:
    return tuple(sorted(ended, key=lambda one: one.session_id))


async def _sessions(
    calls: ServerCalls, which: SessionFilter, *, after: SessionId | None, at_a_time: int
) -> AsyncIterator[ListedSession]:
    """The sessions that may match, in order of id."""
    if which.session_id is not None:
        if after is None or which.session_id > after:
            for listed in await _read(calls, [which.session_id]):
                yield listed
        return
    user_id = which.user_id
    index = calls.keys.sessions if user_id is None else lambda _: calls.keys.sessions_of(user_id)
    ids = OrderedIds(_shards_of(which), _Reader(calls, index).read, after=after)
    while chunk := await ids.take(at_a_time):
        for listed in await _read(calls, chunk):
            yield listed
        at_a_time = min(2 * at_a_time, _CHUNK)  # few match, it seems


def _shards_of(which: SessionFilter) -> Sequence[str]:
    """The shards that may hold a matching session: the servers of others are not asked, and may be down."""
    if which.session_id is not None:
        return [shard_of_session(which.session_id)]
    return SHARDS if which.user_id is None else [shard_of_user(which.user_id)]


class _Reader:
    """Reads on in the indexes of one kind, of several shards at once."""

    def __init__(self, calls: ServerCalls, key_of: Callable[[str], str]) -> None:
        self._calls = calls
        self._key_of = key_of

    async def read(self, after: Mapping[str, str | None], count: int) -> Sequence[Sequence[str]]:
        replies = await asyncio.gather(
            *(
                self._calls.read(
                    shard,
                    *("ZRANGEBYLEX", self._key_of(shard)),
                    *("-" if last is None else f"({last}", "+", "LIMIT", 0, count),
                )
                for shard, last in after.items()
            )
        )
        return [[id_.decode() for id_ in reply] for reply in replies]


async def _read(calls: ServerCalls, ids: Iterable[str]) -> list[ListedSession]:
    """Those of these sessions that exist, in the order of their ids. A damaged value is no session."""
    of_shards = by_shard(map(SessionId, ids))
    replies = await asyncio.gather(
        *(calls.read(shard, "MGET", *map(calls.keys.session, theirs)) for shard, theirs in of_shards.items())
    )
    found = []
    for theirs, values in zip(of_shards.values(), replies, strict=True):
        for session_id, value in zip(theirs, values, strict=True):
            with suppress(DamagedError):
                if value is not None:
                    found.append(listed_of(session_id, value))
    return sorted(found, key=lambda listed: listed.session.id)
