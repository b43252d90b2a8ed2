"""A server whose memory is full, and sessions that a server expires by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from coatcheck import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import SHARDS, SessionId, shard_of_user
from coatcheck.scope import Scope
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import Change, EndedSession, Rehash, SessionFilter, SessionUse
from coatcheck.stores.redis.store import RedisStore
from coatcheck.testing.samples import (
    ADA,
    BOB,
    SECOND_US,
    insert,
    key_of,
    new_session,
    read,
    read_present,
    read_together,
    register,
    sign_in,
    sign_in_following,
    stored_ids,
)
from tests.stores.harnesses import NEW_YEAR_US, StandingClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coatcheck.stores.records import SessionRecord
    from tests.servers.redis import RedisServer

MINUTE_US, HOUR_US = 60 * SECOND_US, 3600 * SECOND_US
KEPT_MS = 3_600_000  # behind the deadline; scripts/prelude.lua
ROOT = f"coatcheck:{{{shard_of_user(ADA)}}}"


class TestFullMemory:
    @pytest.fixture
    async def store(self, redis_server: RedisServer) -> AsyncIterator[RedisStore]:
        async with RedisStore(redis_server.url) as store:
            yield store

    async def test_a_full_server_refuses_sign_ins_and_serves_everything_else(
        self, store: RedisStore, redis_server: RedisServer
    ) -> None:
        await register(store, ADA, scopes={"a", "b"})
        follows = await sign_in_following(store)
        session, other, bobs = await sign_in(store), await sign_in(store), await sign_in(store, BOB)
        redis_server.ask("CONFIG SET", "maxmemory", 1)
        for refused in (
            insert(store, new_session()),
            insert(store, new_session(replaces=other.id)),
            store.insert_user(BOB, scopes=frozenset(), blocked=False),
        ):
            with pytest.raises(StoreUnavailable) as caught:
                await refused
            assert not isinstance(caught.value, RevocationIndeterminate)
        assert await read_present(store, session.id) == session
        assert await stored_ids(store, ADA) == {session.id, other.id, follows.id}
        change = await store.set_user_scopes(ADA, frozenset({Scope("a")}))
        assert change.removed_scopes == {"b"}
        assert (await read_present(store, follows.id)).scopes == {"a"}
        assert await store.set_session_scopes(other.id, frozenset({Scope("c")})) is not None
        assert await store.touch_sessions([SessionUse(other.id, other.created_at_us + 1)]) == {other.id}
        assert (await read_present(store, other.id)).last_used_at_us == other.created_at_us + 1
        await store.rehash_sessions([Rehash(other.id, other.key, key_of("new"))])
        assert (await read_present(store, other.id)).key == key_of("new")
        assert await store.try_lock("prune", "me", timedelta(minutes=1))
        assert (await store.prune_expired(10)).ended == ()
        assert (await store.prune_idle(None, 10)).ended == ()
        assert len((await store.delete_sessions(SessionFilter(session_id=session.id))).ended) == 1
        assert len((await store.end_user_sessions(ADA)).ended) == 2
        assert len((await store.delete_sessions(SessionFilter())).ended) == 1
        assert await read(store, bobs.id) is None
        assert await store.delete_user(BOB) == Change(announced=(Announcement(BOB),))

    async def test_a_full_server_accepts_new_scripts_that_end_sessions(
        self, store: RedisStore, redis_server: RedisServer
    ) -> None:
        session = await sign_in(store)
        redis_server.ask("SCRIPT FLUSH")
        redis_server.ask("CONFIG SET", "maxmemory", 1)
        await store.end_user_sessions(ADA)
        assert await read(store, session.id) is None

    async def test_sign_ins_work_again_once_there_is_memory(self, store: RedisStore, redis_server: RedisServer) -> None:
        await register(store)
        redis_server.ask("CONFIG SET", "maxmemory", 1)
        with pytest.raises(StoreUnavailable):
            await insert(store, new_session())
        redis_server.ask("CONFIG SET", "maxmemory", 0)
        await sign_in(store)


class TestExpiry:
    """A clock that stands still makes every figure exact but for the time that the test itself takes."""

    @pytest.fixture
    def clock(self) -> StandingClock:
        return StandingClock()

    @pytest.fixture
    async def store(self, redis_server: RedisServer, clock: StandingClock) -> AsyncIterator[RedisStore]:
        async with RedisStore(redis_server.url, clock=clock) as store:
            yield store

    @pytest.mark.parametrize(
        ("fields", "after_ms"),
        [
            ({"lifetime_us": HOUR_US}, 3_600_000),
            ({"expires_at_us": NEW_YEAR_US + HOUR_US}, 3_600_000),
            ({"expire_after_unused_for_us": MINUTE_US}, 60_000),
            ({"lifetime_us": HOUR_US, "expire_after_unused_for_us": MINUTE_US}, 60_000),
            ({"lifetime_us": MINUTE_US, "expire_after_unused_for_us": HOUR_US}, 60_000),
            ({"expires_at_us": NEW_YEAR_US - HOUR_US}, 0),
            ({}, None),
        ],
    )
    async def test_the_server_keeps_a_session_for_an_hour_behind_its_nearer_deadline(
        self, store: RedisStore, redis_server: RedisServer, fields: dict[str, int], after_ms: int | None
    ) -> None:
        session = await sign_in(store, ADA, **fields)
        assert _is_kept_for(redis_server, session, after_ms)

    async def test_a_touch_moves_the_servers_deadline_with_the_idle_one_and_not_past_the_absolute_one(
        self, store: RedisStore, redis_server: RedisServer, clock: StandingClock
    ) -> None:
        session = await sign_in(store, lifetime_us=90 * MINUTE_US, expire_after_unused_for_us=HOUR_US)
        assert _is_kept_for(redis_server, session, 3_600_000)
        clock.time_us += 20 * MINUTE_US
        await store.touch_sessions([SessionUse(session.id, clock.time_us)])
        assert _is_kept_for(redis_server, session, 3_600_000)
        clock.time_us += 40 * MINUTE_US
        await store.touch_sessions([SessionUse(session.id, clock.time_us)])
        assert _is_kept_for(redis_server, session, 30 * 60_000)

    async def test_a_touch_of_a_session_without_deadlines_gives_it_none(
        self, store: RedisStore, redis_server: RedisServer, clock: StandingClock
    ) -> None:
        session = await sign_in(store)
        clock.time_us += HOUR_US
        await store.touch_sessions([SessionUse(session.id, clock.time_us)])
        assert _is_kept_for(redis_server, session, None)

    async def test_no_change_but_a_touch_moves_the_servers_deadline(
        self, store: RedisStore, redis_server: RedisServer
    ) -> None:
        await register(store, ADA, scopes={"a", "b"})
        session = await sign_in_following(store, lifetime_us=HOUR_US)
        await store.set_session_scopes(session.id, frozenset({Scope("a")}))
        assert _is_kept_for(redis_server, session, 3_600_000)
        await store.set_session_scopes(session.id, None)
        await store.set_user_scopes(ADA, frozenset({Scope("c")}))
        assert _is_kept_for(redis_server, session, 3_600_000)
        await store.rehash_sessions([Rehash(session.id, session.key, key_of("another"))])
        assert (await read_present(store, session.id)).key == key_of("another")
        assert _is_kept_for(redis_server, session, 3_600_000)

    async def test_a_session_that_the_server_expired_is_in_no_list_and_does_not_disturb_revocations(
        self, store: RedisStore, redis_server: RedisServer
    ) -> None:
        gone, stays = await sign_in(store, lifetime_us=HOUR_US), await sign_in(store)
        _expire(redis_server, gone)
        assert await stored_ids(store) == await stored_ids(store, ADA) == {stays.id}
        assert [(one.pepper_id, one.sessions) for one in await store.count_by_pepper()] == [("pepper-1", 1)]
        assert await store.touch_sessions([SessionUse(gone.id, NEW_YEAR_US)]) == frozenset()
        assert (await store.delete_sessions(SessionFilter(session_id=gone.id))).ended == ()
        change = await store.set_user_scopes(ADA, frozenset())
        assert change.ended == ()
        assert [one.session_id for one in (await store.end_user_sessions(ADA)).ended] == [stays.id]
        assert redis_server.ask("ZCARD", f"{ROOT}:of:ada") == 0

    async def test_pages_of_a_list_are_full_although_the_index_has_gaps(
        self, store: RedisStore, redis_server: RedisServer
    ) -> None:
        sessions = [await sign_in(store, lifetime_us=HOUR_US) for _ in range(30)]
        for session in sessions[::3]:
            _expire(redis_server, session)
        left = [session.id for session in sessions if session not in sessions[::3]]
        first = await store.list_sessions(SessionFilter(user_id=ADA), limit=12)
        rest = await store.list_sessions(SessionFilter(user_id=ADA), after=SessionId(first.next_after or ""), limit=12)
        assert [one.session.id for one in (*first, *rest)] == sorted(left)
        assert rest.next_after is None

    async def test_pruning_goes_on_past_sessions_that_the_server_has_expired(
        self, store: RedisStore, redis_server: RedisServer, clock: StandingClock
    ) -> None:
        """The pruner stops at a step that is done: many that are gone must not hide those behind them."""
        gone = [await sign_in(store, lifetime_us=MINUTE_US) for _ in range(6)]
        late = [await sign_in(store, lifetime_us=2 * MINUTE_US) for _ in range(2)]
        for session in gone:
            _expire(redis_server, session)
        clock.time_us += HOUR_US
        pruned: list[EndedSession] = []
        while not (step := await store.prune_expired(3)).is_done:
            pruned += step.ended
        assert {one.session_id for one in (*pruned, *step.ended)} == {session.id for session in late}
        assert await read_together(store, [session.id for session in late]) == [None, None]
        for index in ("sessions", "expiring"):
            assert redis_server.ask("ZCARD", f"{ROOT}:{index}") == 0

    async def test_a_sweep_for_idle_sessions_removes_missing_ones_from_the_index(
        self, store: RedisStore, redis_server: RedisServer
    ) -> None:
        gone, stays = await sign_in(store, expire_after_unused_for_us=HOUR_US), await sign_in(store)
        _expire(redis_server, gone)
        await store.prune_idle(None, 100)
        assert redis_server.ask("ZRANGE", f"{ROOT}:sessions", 0, -1) == [stays.id]

    async def test_indexes_stay_bounded_without_pruning_while_old_sessions_live(
        self, store: RedisStore, redis_server: RedisServer
    ) -> None:
        """Sign-ins remove missing sessions from the user's index and the shard's, also behind some that never end."""
        for _ in range(3):
            await sign_in(store)
        largest = 0
        for _ in range(150):
            _expire(redis_server, await sign_in(store, expire_after_unused_for_us=HOUR_US))
            sizes = [redis_server.ask("ZCARD", f"{ROOT}:{index}") for index in ("of:ada", "sessions")]
            largest = max(largest, *sizes)
        assert largest <= 40  # it settles at about six; all would be 153
        assert len(await stored_ids(store)) == 3

    async def test_a_session_that_ended_leaves_nothing_but_the_counter_of_its_shard(
        self, store: RedisStore, redis_server: RedisServer
    ) -> None:
        kinds: list[dict[str, int]] = [{"lifetime_us": HOUR_US}, {"expire_after_unused_for_us": HOUR_US}, {}]
        for fields in kinds:
            session = await sign_in(store, ADA, **fields)
            await store.delete_sessions(SessionFilter(session_id=session.id))
        await store.delete_user(ADA)
        assert set(redis_server.ask("KEYS", "*")) == {ROOT, f"{ROOT}:user:ada", "coatcheck:{00}:format"}


async def test_the_servers_clock_decides_and_its_own_expiry_is_later(redis_url: str, shared_redis: RedisServer) -> None:
    async with RedisStore(redis_url) as store:
        session = await sign_in(store, lifetime_us=SECOND_US, expire_after_unused_for_us=SECOND_US)
        seconds, _ = shared_redis.ask("TIME")
        reading = await store.read_session(session.id)
        assert reading is not None
        assert abs(reading.now_us - seconds * 1_000_000) < 60 * SECOND_US
        assert shared_redis.ask("PTTL", _key(session)) > KEPT_MS - 60_000


async def test_pruning_reads_indexes_and_not_the_space_of_keys(redis_url: str, shared_redis: RedisServer) -> None:
    async with RedisStore(redis_url) as store:
        for _ in range(20):
            await sign_in(store, lifetime_us=1)
        shared_redis.ask("CONFIG RESETSTAT")
        await store.list_sessions(SessionFilter(user_id=ADA))
        await store.end_user_sessions(ADA)
        await store.prune_expired(100)
        await store.prune_idle(None, 100)
        commands = shared_redis.ask("INFO", "commandstats")
        assert not {"cmdstat_keys", "cmdstat_scan"} & set(commands)
        assert commands["cmdstat_zcount"]["calls"] == len(SHARDS)


def _key(session: SessionRecord) -> str:
    return f"{ROOT}:session:{session.id}"


def _expire(server: RedisServer, session: SessionRecord) -> None:
    """Delete the session, as the server does when its deadline has passed."""
    assert server.ask("DEL", _key(session)) == 1


def _is_kept_for(server: RedisServer, session: SessionRecord, after_ms: int | None) -> bool:
    ttl: int = server.ask("PTTL", _key(session))
    if after_ms is None:
        return ttl == -1
    return after_ms + KEPT_MS - 60_000 < ttl <= after_ms + KEPT_MS
