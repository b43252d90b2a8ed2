"""The outcome of a call that fails: a revocation is reported as done, or as not done, only where that is known."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coatcheck import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import UserId, shard_of_user
from coatcheck.scope import Scope
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import Change, Rehash, SessionFilter
from coatcheck.stores.redis.store import RedisStore
from coatcheck.testing.conformance.announcing import Listening
from coatcheck.testing.samples import (
    ADA,
    BOB,
    insert,
    key_of,
    new_session,
    read,
    read_present,
    read_together,
    read_user_present,
    register,
    sign_in,
    start,
    stored_ids,
    unknown_id,
)
from tests.servers.proxy import Proxy
from tests.servers.scripted_redis import ScriptedRedis
from tests.stores.loop_time import pass_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from coatcheck.stores.records import SessionRecord
    from coatcheck.stores.store import Store
    from tests.servers.redis import RedisServer

TIMEOUT = 5.0  # where it is to be over, it is made to pass at once

ENDINGS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "delete_sessions of one": lambda store: store.delete_sessions(SessionFilter(session_id=unknown_id())),
    "delete_sessions of a user": lambda store: store.delete_sessions(SessionFilter(user_id=ADA)),
    "delete_sessions of all": lambda store: store.delete_sessions(SessionFilter()),
    "end_user_sessions": lambda store: store.end_user_sessions(ADA),
    "set_session_scopes": lambda store: store.set_session_scopes(unknown_id(), frozenset({Scope("a")})),
    "set_user_scopes": lambda store: store.set_user_scopes(ADA, frozenset()),
    "update_user": lambda store: store.update_user(ADA, blocked=True),
    "delete_user": lambda store: store.delete_user(ADA),
    "a sign-in that ends a session": lambda store: store.insert_session(
        new_session(replaces=unknown_id()), expected_revocations=0, expected_rescopes=None
    ),
}
OTHERS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "insert_session": lambda store: store.insert_session(new_session(), expected_revocations=0, expected_rescopes=None),
    "insert_user": lambda store: store.insert_user(ADA, scopes=frozenset(), blocked=False),
    "read_session": lambda store: store.read_session(unknown_id()),
    "read_user": lambda store: store.read_user(ADA),
    "list_sessions": lambda store: store.list_sessions(SessionFilter()),
    "list_users": lambda store: store.list_users(),
}


@pytest.fixture
async def proxy(shared_redis: RedisServer) -> AsyncIterator[Proxy]:
    shared_redis.flush()
    async with Proxy(shared_redis.port) as proxy:
        yield proxy


def _store_on(proxy: Proxy | ScriptedRedis) -> RedisStore:
    return RedisStore(f"redis://127.0.0.1:{proxy.port}/0", timeout_seconds=TIMEOUT)


# --- connections that were closed while no call used them ---


async def test_a_restart_between_two_revocations_causes_no_error(redis_server: RedisServer) -> None:
    async with RedisStore(redis_server.url) as store:
        for _ in range(3):
            session = await sign_in(store)
            assert len((await store.delete_sessions(SessionFilter(session_id=session.id))).ended) == 1
            redis_server.stop()
            redis_server.start()  # the loop has not run since: nothing has told us of the closed connections


async def test_a_connection_that_the_server_closed_causes_no_error(redis_server: RedisServer) -> None:
    async with RedisStore(redis_server.url) as store:
        session = await sign_in(store)
        await store.end_user_sessions(BOB)
        for call in (*ENDINGS.values(), *OTHERS.values()):
            redis_server.ask("CLIENT KILL", "TYPE", "normal")
            await call(store)
        assert session.id not in await stored_ids(store)


@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
async def test_a_connection_that_was_reset_causes_no_error(anyio_backend: object) -> None:  # noqa: ARG001 (the loop)
    """A machine that has forgotten a connection resets it (RST), which event loops report otherwise than its end."""
    async with ScriptedRedis(EVALSHA=b"*0\r\n", MGET=b"*1\r\n$-1\r\n") as server, _store_on(server) as store:
        for _ in range(3):  # there are two connections of each kind
            assert (await store.end_user_sessions(ADA)).ended == ()
            assert await store.read_session(unknown_id()) is None
            await store.rehash_sessions([Rehash(unknown_id(), key_of("old"), key_of("new"))])
            server.reset()
            for _ in range(20):  # steps of the loop, in which it learns of the reset
                await asyncio.sleep(0)


# --- answers that do not come ---


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
async def test_an_ending_whose_answer_is_lost_is_indeterminate_and_is_not_sent_twice(
    ending: Callable[[Store], Awaitable[object]], proxy: Proxy, shared_redis: RedisServer
) -> None:
    async with _store_on(proxy) as store:
        await register(store, ADA)
        await store.end_user_sessions(BOB)  # the runner has its connection
        proxy.keep_answers()
        call = start(ending(store))
        await proxy.has_kept_an_answer.wait()
        sent = _calls_of(shared_redis)
        await proxy.cut()
        with pytest.raises(RevocationIndeterminate):
            await call
        await proxy.heal()
        assert _calls_of(shared_redis) == sent


def _calls_of(server: RedisServer) -> int:
    stats = server.ask("INFO", "commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
async def test_an_ending_whose_answer_does_not_come_in_time_is_indeterminate(
    ending: Callable[[Store], Awaitable[object]], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _store_on(proxy) as store:
        await register(store, ADA)
        await store.end_user_sessions(BOB)
        proxy.keep_answers()
        call = start(ending(store))
        await proxy.has_kept_an_answer.wait()
        pass_time(monkeypatch, TIMEOUT)
        with pytest.raises(RevocationIndeterminate):
            await call


async def test_an_ending_that_was_not_sent_in_time_is_known_not_to_be_done(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _store_on(proxy) as store:
        session = await sign_in(store)
        under_way = []
        for user in (BOB, UserId("carol")):  # a runner each, and there are two
            proxy.keep_answers()
            under_way.append(start(store.end_user_sessions(user)))
            await proxy.has_kept_an_answer.wait()
        behind = start(store.end_user_sessions(ADA))
        await asyncio.sleep(0)  # it has asked
        pass_time(monkeypatch, TIMEOUT)
        for call in under_way:
            with pytest.raises(RevocationIndeterminate):
                await call
        with pytest.raises(StoreUnavailable) as caught:
            await behind
        assert not isinstance(caught.value, RevocationIndeterminate)
        await proxy.heal()
        await read_present(store, session.id)


async def test_a_sign_in_whose_answer_is_lost_is_an_outage_and_is_not_sent_twice(
    proxy: Proxy, shared_redis: RedisServer
) -> None:
    async with _store_on(proxy) as store:
        await register(store, ADA)
        await sign_in(store, BOB)
        proxy.keep_answers()
        call = start(OTHERS["insert_session"](store))
        await proxy.has_kept_an_answer.wait()
        sent = _calls_of(shared_redis)
        await proxy.cut()
        with pytest.raises(StoreUnavailable) as caught:
            await call
        assert not isinstance(caught.value, RevocationIndeterminate)
        await proxy.heal()
        assert _calls_of(shared_redis) == sent
        assert len(await stored_ids(store, ADA)) == 1  # it had arrived, and no client has its token


async def test_a_read_whose_answer_is_lost_is_sent_again() -> None:
    answers = [None, b"*1\r\n$-1\r\n"]
    async with ScriptedRedis(MGET=lambda _: answers.pop(0)) as server, _store_on(server) as store:
        assert await store.read_session(unknown_id()) is None


async def test_an_answer_that_comes_too_late_reaches_no_caller(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _store_on(proxy) as store:
        sessions = {user: await sign_in(store, user) for user in (ADA, BOB)}
        for user, session in sessions.items():
            calls: list[Awaitable[object]] = []
            for ask in (
                lambda: store.read_session(session.id),  # noqa: B023 (called in this round)
                lambda: store.read_user(user),  # noqa: B023 (as above)
                lambda: store.end_user_sessions(UserId("nobody")),
            ):
                proxy.keep_answers()
                calls.append(asyncio.ensure_future(ask()))
                await proxy.has_kept_an_answer.wait()
            pass_time(monkeypatch, TIMEOUT)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [isinstance(outcome, StoreUnavailable) for outcome in outcomes] == [True] * 3
            await proxy.heal()
            for other, its_session in sessions.items():
                reading, row = await store.read_session(its_session.id), await store.read_user(other)
                assert reading is not None
                assert row is not None
                assert (reading.user_id, row.id) == (other, other)
            assert (await store.delete_sessions(SessionFilter(session_id=unknown_id()))).ended == ()


async def test_a_cancelled_caller_does_not_disturb_the_others(proxy: Proxy, shared_redis: RedisServer) -> None:
    async with _store_on(proxy) as store:
        mine, other = await sign_in(store), await sign_in(store, BOB)
        await store.end_user_sessions(UserId("nobody"))
        shared_redis.pause()
        gone, stays = (asyncio.create_task(store.end_user_sessions(user)) for user in (ADA, BOB))
        reads = [store.read_session(session.id) for session in (mine, other)]
        for _ in range(10):  # steps of the loop, in which the calls leave for a server that stands still
            await asyncio.sleep(0)
        gone.cancel()
        reads[0].cancel()  # type: ignore[attr-defined]  # it is a future
        shared_redis.resume()
        assert len((await stays).ended) == 1
        await reads[1]
        # Whom it concerns is gone, the revocation is not: it had been asked for.
        assert await read_together(store, [mine.id, other.id]) == [None, None]


# --- what a server may say ---


REFUSALS = {
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "full": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "cannot save": b"-MISCONF Errors writing to the AOF file: No space left on device\r\n",
    "no password": b"-NOAUTH Authentication required.\r\n",
    "replica": b"-READONLY You can't write against a read only replica.\r\n",
    "too few replicas": b"-NOREPLICAS Not enough good replicas to write.\r\n",
    "not allowed": b"-NOPERM User coatcheck has no permissions to run the 'evalsha' command\r\n",
    "busy with a script": b"-BUSY Redis is busy running a script.\r\n",
    "cluster is down": b"-CLUSTERDOWN The cluster is down\r\n",
    "slot is moving": b"-ASK 1 127.0.0.1:1\r\n",
    "slot is elsewhere": b"-MOVED 1 127.0.0.1:1\r\n",
}
_WITHIN = b" script: 5f4c, on @user_script:9.\r\n"
UNCLEAR = {
    "in the middle": b"-ERR Script attempted to access a non local key in a cluster node" + _WITHIN,
    "wrong type": b"-WRONGTYPE Operation against a key holding the wrong kind of value" + _WITHIN,
    "refused within": b"-OOM command not allowed when used memory > 'maxmemory'." + _WITHIN,
    "unheard of": b"-SOMETHING else\r\n",
    "no word": b"-\r\n",
    "not the protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "end": None,
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_an_ending_refused_before_it_began_is_known_not_to_be_done(refusal: bytes) -> None:
    async with ScriptedRedis() as server, _store_on(server) as store:
        server.answers.update(dict.fromkeys(("EVALSHA", "EVAL", "MGET"), refusal))
        for call in (ENDINGS["end_user_sessions"], OTHERS["insert_session"], OTHERS["read_session"]):
            with pytest.raises(StoreUnavailable) as caught:
                await call(store)
            assert not isinstance(caught.value, RevocationIndeterminate)
        assert server.times_asked(b"EVALSHA") == 2


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
async def test_any_other_answer_leaves_an_ending_indeterminate(answer: bytes | None) -> None:
    async with ScriptedRedis(EVALSHA=answer, EVAL=answer, MGET=answer) as server, _store_on(server) as store:
        with pytest.raises(RevocationIndeterminate):
            await ENDINGS["end_user_sessions"](store)
        assert server.times_asked(b"EVALSHA") == 1
        for call in (OTHERS["insert_session"], OTHERS["read_session"]):
            with pytest.raises(StoreUnavailable) as caught:
                await call(store)
            assert not isinstance(caught.value, RevocationIndeterminate)
        assert server.times_asked(b"EVALSHA") == 2


async def test_a_call_refused_while_the_server_loads_does_not_fail_the_next_of_its_batch() -> None:
    """A server that is loading reads its connections now and then; it may run the rest of a long batch."""
    answers = [REFUSALS["loading"], b"*0\r\n"]
    async with ScriptedRedis(EVALSHA=lambda _: answers.pop(0)) as server, _store_on(server) as store:
        outcomes = await asyncio.gather(
            store.end_user_sessions(ADA), store.end_user_sessions(BOB), return_exceptions=True
        )
        assert isinstance(outcomes[0], StoreUnavailable)
        assert not isinstance(outcomes[0], RevocationIndeterminate)
        assert outcomes[1] == Change(announced=(Announcement(BOB),))


@pytest.mark.parametrize("limit", [None, 5])
async def test_a_deletion_refused_half_way_is_indeterminate_and_no_outage(limit: int | None) -> None:
    """Sessions of one shard have ended, and the caller is not told which."""
    answers = [b"*3\r\n$0\r\n\r\n$3\r\nada\r\n$3\r\nthe\r\n", REFUSALS["loading"]]
    async with ScriptedRedis(EVALSHA=lambda _: answers.pop(0)) as server, _store_on(server) as store:
        with pytest.raises(RevocationIndeterminate, match="failed after 1 sessions"):
            await store.delete_sessions(SessionFilter(method="sms"), limit=limit)


async def test_an_ending_before_a_broken_answer_is_done_and_the_one_behind_it_is_indeterminate() -> None:
    answers: list[bytes | None] = [b"*0\r\n", None]
    async with ScriptedRedis(EVALSHA=lambda _: answers.pop(0)) as server, _store_on(server) as store:
        outcomes = await asyncio.gather(
            store.end_user_sessions(ADA), store.end_user_sessions(BOB), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [RevocationIndeterminate, RevocationIndeterminate]


async def test_a_script_that_fails_half_way_is_finished_by_the_next_attempt(redis_server: RedisServer) -> None:
    """The key of the shard's index has a value that is not ours."""
    async with RedisStore(redis_server.url) as store:
        session = await sign_in(store)
        root = f"coatcheck:{{{shard_of_user(ADA)}}}"
        redis_server.ask("RENAME", f"{root}:sessions", "elsewhere")
        redis_server.ask("SET", f"{root}:sessions", "of another type")
        with pytest.raises(RevocationIndeterminate):
            await store.end_user_sessions(ADA)
        redis_server.ask("RENAME", "elsewhere", f"{root}:sessions")
        await store.end_user_sessions(ADA)
        assert await read(store, session.id) is None


async def test_a_user_whose_deletion_failed_half_way_can_still_be_deleted(redis_server: RedisServer) -> None:
    async with RedisStore(redis_server.url) as store:
        sessions = [await sign_in(store) for _ in range(2)]
        root = f"coatcheck:{{{shard_of_user(ADA)}}}"
        redis_server.ask("RENAME", f"{root}:sessions", "elsewhere")
        redis_server.ask("SET", f"{root}:sessions", "of another type")
        with pytest.raises(RevocationIndeterminate):
            await store.delete_user(ADA)
        redis_server.ask("RENAME", "elsewhere", f"{root}:sessions")
        assert await store.delete_user(ADA) is not None
        assert await read_together(store, [session.id for session in sessions]) == [None, None]


async def test_a_scope_change_that_failed_half_way_is_finished_by_the_next_attempt(
    redis_server: RedisServer,
) -> None:
    """The row changes last: otherwise the next attempt would not find that the user has lost a scope."""
    async with RedisStore(redis_server.url) as store:
        await register(store, ADA, scopes={"a", "b"})
        sessions = [await insert(store, new_session(scopes={"a", "b"})) for _ in range(3)]
        middle = f"coatcheck:{{{shard_of_user(ADA)}}}:session:{sorted(session.id for session in sessions)[1]}"
        redis_server.ask("RENAME", middle, "elsewhere")
        redis_server.ask("HSET", middle, "of another", "type")
        with pytest.raises(RevocationIndeterminate):
            await store.set_user_scopes(ADA, frozenset({Scope("a")}))
        redis_server.ask("RENAME", "elsewhere", middle)
        change = await store.set_user_scopes(ADA, frozenset({Scope("a")}))
        assert change.removed_scopes == {"b"}
        for session in sessions:
            assert (await read_present(store, session.id)).scopes == {"a"}
        assert (await read_user_present(store)).scopes == {"a"}


def _unreadable(server: RedisServer, session: SessionRecord) -> None:
    """Store the session as a program of another version would, or as damage would leave it."""
    server.ask("SET", f"coatcheck:{{{shard_of_user(session.user_id)}}}:session:{session.id}", "nothing of ours")


async def test_a_session_that_cannot_be_read_is_not_reported_as_gone(redis_server: RedisServer) -> None:
    """It may be valid for a program of a later version that shares the server."""
    async with RedisStore(redis_server.url) as store:
        unreadable = await sign_in(store, scopes={"a", "b"})
        _unreadable(redis_server, unreadable)
        for call in (
            store.delete_sessions(SessionFilter(session_id=unreadable.id)),
            store.delete_sessions(SessionFilter(user_id=ADA)),
            store.delete_sessions(SessionFilter()),
            store.end_user_sessions(ADA, method="email"),
            store.set_session_scopes(unreadable.id, frozenset()),
            store.set_user_scopes(ADA, frozenset()),
        ):
            with pytest.raises(RevocationIndeterminate):
                await call
        with pytest.raises(StoreUnavailable):
            await insert(store, new_session(replaces=unreadable.id))
        assert (await store.end_user_sessions(ADA, except_session_id=unreadable.id)).ended == ()
        await store.rehash_sessions([Rehash(unreadable.id, unreadable.key, key_of("new"))])
        assert (await store.prune_idle(None, 10)).ended == ()
        assert [one.session_id for one in (await store.end_user_sessions(ADA)).ended] == [unreadable.id]
        assert await store.read_session(unreadable.id) is None


@pytest.mark.parametrize("end", ["delete_one", "delete_of_user", "end_by_method", "end_all", "replace", "rescope"])
async def test_every_session_that_ended_was_announced_whatever_fails_half_way(
    redis_server: RedisServer, end: str
) -> None:
    """A script is not rolled back, and a retry finds nothing to announce: so the announcement comes first."""
    redis_server.ask("ACL SETUSER", "mute", "on", ">pass", "~*", "allchannels", "+@all")
    url = redis_server.url.replace("redis://", "redis://mute:pass@")
    async with RedisStore(url) as store, RedisStore(redis_server.url) as other:
        session = await sign_in(store, scopes={"a"})
        calls: dict[str, Callable[[RedisStore], Awaitable[object]]] = {
            "delete_one": lambda store: store.delete_sessions(SessionFilter(session_id=session.id)),
            "delete_of_user": lambda store: store.delete_sessions(SessionFilter(user_id=ADA)),
            "end_by_method": lambda store: store.end_user_sessions(ADA, method="email"),
            "end_all": lambda store: store.end_user_sessions(ADA),
            "replace": lambda store: insert(store, new_session(replaces=session.id)),
            "rescope": lambda store: store.set_session_scopes(session.id, frozenset()),
        }
        redis_server.ask("ACL SETUSER", "mute", "resetchannels")
        with pytest.raises(RevocationIndeterminate):
            await calls[end](store)
        assert await read(other, session.id) == session
        async with Listening(other) as listening:
            redis_server.ask("ACL SETUSER", "mute", "allchannels")
            await calls[end](store)
            heard = await listening.next()
            assert heard is not None
            assert heard.user_id == ADA


async def test_a_damaged_session_fails_alone_and_can_be_ended(redis_server: RedisServer) -> None:
    async with RedisStore(redis_server.url) as store:
        damaged, sound = await sign_in(store), await sign_in(store)
        _unreadable(redis_server, damaged)
        readings = await asyncio.gather(
            store.read_session(damaged.id), store.read_session(sound.id), return_exceptions=True
        )
        assert isinstance(readings[0], StoreUnavailable)
        assert not isinstance(readings[1], BaseException)
        assert await stored_ids(store) == {sound.id}
        assert await store.touch_sessions([]) == frozenset()
        await store.end_user_sessions(ADA)
        assert await read_together(store, [damaged.id, sound.id]) == [None, None]
