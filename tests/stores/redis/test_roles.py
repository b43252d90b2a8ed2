"""Only the answers of a primary count, and an ending waits for replicas where the URL says so."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from coatcheck import GuaranteeLevel, RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import UserId
from coatcheck.scope import Scope
from coatcheck.stores.records import SessionFilter, SessionUse
from coatcheck.stores.redis.store import RedisStore
from coatcheck.testing.samples import (
    ADA,
    BOB,
    insert,
    new_session,
    read,
    read_present,
    register,
    sign_in,
    stored_ids,
    unknown_id,
)
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.stores.redis.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from coatcheck.stores.store import Store

pytestmark = pytest.mark.redis

READS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "read_session": lambda store: store.read_session(unknown_id()),
    "read_user": lambda store: store.read_user(ADA),
    "list_sessions": lambda store: store.list_sessions(SessionFilter()),
    "list_sessions of a user": lambda store: store.list_sessions(SessionFilter(user_id=ADA)),
    "list_sessions of one": lambda store: store.list_sessions(SessionFilter(session_id=unknown_id())),
    "list_users": lambda store: store.list_users(),
    "count_by_pepper": lambda store: store.count_by_pepper(),
}
WRITES: dict[str, Callable[[Store], Awaitable[object]]] = {
    "insert_session": lambda store: store.insert_session(new_session(), expected_revocations=0, expected_rescopes=None),
    "insert_user": lambda store: store.insert_user(UserId("new"), scopes=frozenset(), blocked=False),
    "touch_sessions": lambda store: store.touch_sessions([SessionUse(unknown_id(), 1)]),
    "prune_expired": lambda store: store.prune_expired(10),
    "prune_idle": lambda store: store.prune_idle(None, 10),
}
ENDINGS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "delete_sessions of one": lambda store: store.delete_sessions(SessionFilter(session_id=unknown_id())),
    "delete_sessions of a user": lambda store: store.delete_sessions(SessionFilter(user_id=ADA)),
    "delete_sessions of all": lambda store: store.delete_sessions(SessionFilter()),
    "delete_sessions, limited": lambda store: store.delete_sessions(SessionFilter(method="sms"), limit=5),
    "end_user_sessions": lambda store: store.end_user_sessions(ADA),
    "end_user_sessions by method": lambda store: store.end_user_sessions(ADA, method="sms"),
    "set_session_scopes": lambda store: store.set_session_scopes(unknown_id(), frozenset({Scope("a")})),
    "set_user_scopes": lambda store: store.set_user_scopes(ADA, frozenset()),
    "update_user": lambda store: store.update_user(ADA, blocked=True),
    "update_user who is not there": lambda store: store.update_user(UserId("nobody"), blocked=True),
    "delete_user": lambda store: store.delete_user(ADA),
    "delete_user who is not there": lambda store: store.delete_user(UserId("nobody")),
}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica."""
    with RedisServer(repl_diskless_sync_delay="0") as primary, RedisServer() as replica:
        replica.ask("REPLICAOF", "127.0.0.1", primary.port)
        until(lambda: replica.ask("INFO", "replication")["master_link_status"] == "up")
        until(lambda: primary.ask("INFO", "replication")["connected_slaves"] == 1)
        yield primary, replica


@pytest.fixture
def primary(pair: tuple[RedisServer, RedisServer]) -> RedisServer:
    primary, _ = pair
    primary.flush()
    return primary


@pytest.fixture
def replica(pair: tuple[RedisServer, RedisServer]) -> Iterator[RedisServer]:
    _, replica = pair
    yield replica
    replica.resume()


class TestDemoted:
    """A server that is made a replica while there are connections to it."""

    @pytest.mark.parametrize("read_something", READS.values(), ids=READS)
    async def test_a_demoted_primary_is_not_read_from(
        self, read_something: Callable[[Store], Awaitable[object]], redis_server: RedisServer
    ) -> None:
        async with RedisStore(redis_server.url) as store:
            await sign_in(store)
            await read_something(store)
            redis_server.ask("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(StoreUnavailable, match=r"replica, or was replaced|ReadOnlyError|READONLY"):
                await read_something(store)
            redis_server.ask("REPLICAOF", "NO", "ONE")
            await read_something(store)

    @pytest.mark.parametrize("write_something", [*WRITES.values(), *ENDINGS.values()], ids=[*WRITES, *ENDINGS])
    async def test_a_write_to_a_demoted_primary_is_known_not_to_be_done(
        self, write_something: Callable[[Store], Awaitable[object]], redis_server: RedisServer
    ) -> None:
        async with RedisStore(redis_server.url) as store:
            session = await sign_in(store)
            redis_server.ask("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(StoreUnavailable) as caught:
                await write_something(store)
            assert not isinstance(caught.value, RevocationIndeterminate)
            redis_server.ask("REPLICAOF", "NO", "ONE")
            await read_present(store, session.id)
            await write_something(store)

    async def test_a_replica_that_has_not_heard_of_a_revocation_is_not_begun_with(
        self, primary: RedisServer, replica: RedisServer
    ) -> None:
        async with RedisStore(primary.url) as store:
            await sign_in(store)
            _in_step(primary, replica)
            replica.pause()
            await store.end_user_sessions(ADA)
            primary.pause()
            replica.resume()
            with pytest.raises(StoreUnavailable, match="is a replica, which may not have the latest revocations"):
                await RedisStore(replica.url).open()
            primary.resume()

    async def test_the_new_primary_is_found_at_the_same_address(
        self, redis_server: RedisServer, shared_redis: RedisServer
    ) -> None:
        """A name or address may move on to the new primary; open connections stay with the old one."""
        shared_redis.flush()
        async with Proxy(redis_server.port) as address, RedisStore(address.through(redis_server.url)) as store:
            await sign_in(store)
            await store.end_user_sessions(ADA)
            redis_server.ask("REPLICAOF", "127.0.0.1", "1")
            address.lead_to(shared_redis.port)
            for call in (store.read_user(ADA), store.read_session(unknown_id()), store.end_user_sessions(BOB)):
                with suppress(StoreUnavailable):  # the first to notice
                    await call
            session = await sign_in(store)
            assert await stored_ids(store) == {session.id}
            assert len((await store.end_user_sessions(ADA)).ended) == 1

    async def test_the_guarantee_says_that_the_server_is_a_replica(self, redis_server: RedisServer) -> None:
        async with RedisStore(redis_server.url) as store:
            redis_server.ask("REPLICAOF", "127.0.0.1", "1")
            guarantee = await store.guarantee()
            assert guarantee.level <= GuaranteeLevel.EVENTUAL
            assert any("replica" in reason for reason in guarantee.reasons)


class TestReplicas:
    """`?replicas=1`: an ending returns once a replica has it."""

    async def test_an_ending_returns_once_a_replica_has_it(self, primary: RedisServer, replica: RedisServer) -> None:
        async with _patient_store(primary) as store:
            for _ in range(20):
                session = await sign_in(store)
                await store.delete_sessions(SessionFilter(session_id=session.id))
                assert [key for key in replica.ask("KEYS", "*") if ":session:" in key] == []

    async def test_an_ending_that_no_replica_has_is_indeterminate_and_so_is_its_retry(
        self, primary: RedisServer, replica: RedisServer, impatient_store: Callable[[str], RedisStore]
    ) -> None:
        """The first attempt has done it on the primary alone. "There is no such session" would be a promise."""
        async with impatient_store(f"{primary.url}?replicas=1") as store, _patient_store(primary) as patient:
            session = await sign_in(store)
            _in_step(primary, replica)
            replica.pause()
            for _ in range(2):
                with pytest.raises(RevocationIndeterminate, match="0 of 1 replicas"):
                    await store.delete_sessions(SessionFilter(session_id=session.id))
                assert await read(store, session.id) is None
            replica.resume()
            assert (await patient.delete_sessions(SessionFilter(session_id=session.id))).ended == ()
            assert [key for key in replica.ask("KEYS", "*") if ":session:" in key] == []

    @pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
    async def test_every_ending_waits_for_replicas_even_where_it_finds_nothing(
        self,
        ending: Callable[[Store], Awaitable[object]],
        primary: RedisServer,
        replica: RedisServer,
        impatient_store: Callable[[str], RedisStore],
    ) -> None:
        async with impatient_store(f"{primary.url}?replicas=1") as store, _patient_store(primary) as patient:
            await register(store, ADA)
            _in_step(primary, replica)
            replica.pause()
            for _ in range(2):
                with pytest.raises(RevocationIndeterminate, match="0 of 1 replicas"):
                    await ending(store)
            replica.resume()
            await ending(patient)

    async def test_sign_ins_reads_and_touches_do_not_wait_for_replicas(
        self, primary: RedisServer, replica: RedisServer
    ) -> None:
        async with _patient_store(primary) as store:
            session = await sign_in(store)
            _in_step(primary, replica)
            replica.pause()
            held_up = asyncio.create_task(store.end_user_sessions(BOB))
            other = await sign_in(store)
            assert await stored_ids(store) == {session.id, other.id}
            assert await store.touch_sessions([SessionUse(session.id, 1)]) == {session.id}
            assert not held_up.done()
            replica.resume()
            await held_up

    async def test_a_sign_in_that_ends_a_session_waits_for_replicas(
        self, primary: RedisServer, replica: RedisServer, impatient_store: Callable[[str], RedisStore]
    ) -> None:
        async with impatient_store(f"{primary.url}?replicas=1") as store:
            old = await sign_in(store)
            bobs = await sign_in(store, BOB)
            _in_step(primary, replica)
            replica.pause()
            for replaced in (old, bobs):
                with pytest.raises(RevocationIndeterminate, match="0 of 1 replicas"):
                    await insert(store, new_session(replaces=replaced.id))
                assert await read(store, replaced.id) is None
            replica.resume()

    @pytest.mark.parametrize(
        ("url", "replicas"),
        [
            ("redis://a", 0),
            ("redis://a?replicas=2", 2),
            ("redis+cluster://a", 1),
            ("redis+cluster://a?replicas=0", 0),
        ],
    )
    def test_a_cluster_waits_for_one_replica_by_default(self, url: str, replicas: int) -> None:
        assert RedisStore(url)._calls.replicas == replicas  # noqa: SLF001 (what its guarantee says)


def _patient_store(primary: RedisServer) -> RedisStore:
    """It waits long enough for a replica that is busy or has to catch up."""
    return RedisStore(f"{primary.url}?replicas=1", timeout_seconds=20)


def _in_step(primary: RedisServer, replica: RedisServer) -> None:
    """Wait until the replica has all that the primary has written."""
    until(lambda: _replication(replica)["slave_repl_offset"] == _replication(primary)["master_repl_offset"])


def _replication(server: RedisServer) -> dict[str, int]:
    said: dict[str, int] = server.ask("INFO", "replication")
    return said
