"""A Cluster whose members fail, are replaced and hand slots over, while calls go on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from redis.asyncio import Connection
from redis.crc import key_slot

from coatcheck import GuaranteeLevel, RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import UserId, shard_of_user
from coatcheck.scope import Scope
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import Change, SessionFilter
from coatcheck.stores.redis.store import RedisStore
from coatcheck.stores.redis.transport.cluster_topology import ClusterServers
from coatcheck.stores.redis.url import Address
from coatcheck.testing.samples import insert, new_session, read, read_present, register, sign_in, stored_ids
from tests.servers.proxy import Proxy
from tests.servers.redis_cluster import RedisCluster
from tests.servers.scripted_redis import ScriptedRedis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from coatcheck.stores.records import SessionRecord
    from coatcheck.stores.store import Store
    from tests.servers.redis_cluster import ClusterNode

pytestmark = pytest.mark.redis

T = TypeVar("T")

USERS = [UserId(f"user {number}") for number in range(24)]


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[RedisCluster]:
    """A Cluster whose nodes change roles; all of them run again after each test."""
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: RedisCluster) -> Iterator[RedisCluster]:
    yield shared_cluster
    for node in shared_cluster.nodes:
        node.resume()
        if not node.is_answering:
            node.start()
    shared_cluster.wait_until_settled()
    shared_cluster.flush()


def _key_of(user: UserId) -> str:
    return f"coatcheck:{{{shard_of_user(user)}}}"


def _one_of_each(cluster: RedisCluster) -> list[UserId]:
    """One user on each primary."""
    by_node = {cluster.primary_of(_key_of(user)).port: user for user in USERS}
    assert len(by_node) == 3
    return list(by_node.values())


async def _until_served(store: Store, session: SessionRecord) -> None:
    """Read until there is an answer; until then an outage is the only error allowed."""
    async with asyncio.timeout(30):
        while True:
            try:
                reading = await store.read_session(session.id)
            except StoreUnavailable:
                await asyncio.sleep(0.02)
            else:
                assert reading is not None
                return


async def test_a_planned_failover_costs_nobody_an_error(cluster: RedisCluster) -> None:
    async with RedisStore(cluster.url, timeout_seconds=20) as store:
        users = _one_of_each(cluster)
        sessions = [await sign_in(store, user) for user in users]
        for user in users:
            cluster.promote(cluster.replica_of(cluster.primary_of(_key_of(user))), how=None)
        assert [await read(store, session.id) for session in sessions] == sessions
        for user, session in zip(users, sessions, strict=True):
            change = await store.end_user_sessions(user)
            assert [one.session_id for one in change.ended] == [session.id]
            assert await read(store, (await sign_in(store, user)).id) is not None


async def test_calls_during_a_planned_failover_are_answered_correctly_or_fail_as_an_outage(
    cluster: RedisCluster,
) -> None:
    async with RedisStore(cluster.url) as store:
        user = USERS[0]
        replica = cluster.replica_of(cluster.primary_of(_key_of(user)))
        promotion = asyncio.create_task(asyncio.to_thread(cluster.promote, replica, how=None))
        ended = 0
        while not promotion.done() or ended == 0:
            try:
                session = await sign_in(store, user)
                await store.delete_sessions(SessionFilter(session_id=session.id))
            except StoreUnavailable:
                continue
            ended += 1
            assert await read(store, session.id) is None
        await promotion


async def test_a_moved_answer_of_the_replaced_primary_is_followed_before_other_members_know() -> None:
    """The members still say that the old primary has every slot. It answers itself where they are now."""

    def cluster(command: list[bytes]) -> bytes:
        if command[1] == b"INFO":
            return b"$44\r\ncluster_state:ok\r\ncluster_current_epoch:1234\r\n"
        return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % old.port

    info = b"redis_version:7.0.15\r\nrole:master\r\ncluster_enabled:1\r\n"
    known: dict[str, Any] = {"CLUSTER": cluster, "INFO": b"$%d\r\n%b\r\n" % (len(info), info)}
    async with ScriptedRedis(**known, EVALSHA=b"*0\r\n") as new, ScriptedRedis(**known) as old:
        old.answers["EVALSHA"] = old.answers["MGET"] = b"-MOVED 1 127.0.0.1:%d\r\n" % new.port
        new.answers["MGET"] = b"*1\r\n$-1\r\n"
        async with RedisStore(f"redis+cluster://127.0.0.1:{old.port}?replicas=0") as store:
            assert (await store.end_user_sessions(USERS[0])).ended == ()
            assert await store.read_session(new_session(USERS[0]).id) is None
            assert (await store.end_user_sessions(USERS[0])).ended == ()
        assert (old.times_asked(b"EVALSHA"), new.times_asked(b"EVALSHA")) == (1, 2)


@asynccontextmanager
async def _two_scripted() -> AsyncIterator[tuple[ScriptedRedis, ScriptedRedis, UserId, UserId]]:
    """Members that have half of the slots each, and a user of each."""

    def cluster(command: list[bytes]) -> bytes:
        if command[1] == b"INFO":
            return b"$44\r\ncluster_state:ok\r\ncluster_current_epoch:1234\r\n"
        half = b"*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n"
        return b"*2\r\n" + half % (0, 8191, first.port) + half % (8192, 16383, second.port)

    info = b"redis_version:7.0.15\r\nrole:master\r\ncluster_enabled:1\r\n"
    known: dict[str, Any] = {"CLUSTER": cluster, "INFO": b"$%d\r\n%b\r\n" % (len(info), info), "EVALSHA": b"*0\r\n"}
    async with ScriptedRedis(**known) as first, ScriptedRedis(**known) as second:
        users = {key_slot(_key_of(user).encode()) > 8191: user for user in USERS}
        yield first, second, users[False], users[True]


async def test_an_unexpected_error_with_one_member_leaves_calls_to_other_members_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _two_scripted() as (first, second, one, other):
        read_response = Connection.read_response

        async def mistaken(connection: Connection, **options: Any) -> object:
            answer: object = await read_response(connection, **options)
            if connection.port == first.port and first.times_asked(b"EVALSHA"):
                raise ZeroDivisionError("a mistake")
            return answer

        monkeypatch.setattr(Connection, "read_response", mistaken)
        async with RedisStore(f"redis+cluster://127.0.0.1:{first.port}?replicas=0") as store:
            outcomes = await asyncio.gather(*map(store.end_user_sessions, (one, other)), return_exceptions=True)
            assert isinstance(outcomes[0], RevocationIndeterminate)
            assert outcomes[1] == Change(announced=(Announcement(other),))
        assert second.times_asked(b"EVALSHA") == 1


async def test_an_unexpected_error_after_the_round_trips_leaves_endings_indeterminate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def mistaken(_: ClusterServers) -> None:
        raise ZeroDivisionError("a mistake")

    async with _two_scripted() as (first, second, one, other):
        async with RedisStore(f"redis+cluster://127.0.0.1:{first.port}?replicas=0") as store:
            second.answers["EVALSHA"] = b"-CLUSTERDOWN The cluster is down\r\n"
            monkeypatch.setattr(ClusterServers, "refresh", mistaken)  # which is called where a member refuses
            outcomes = await asyncio.gather(*map(store.end_user_sessions, (one, other)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [RevocationIndeterminate] * 2
        assert first.times_asked(b"EVALSHA") == 1


async def test_a_dead_primary_affects_only_its_own_users_until_a_replica_is_promoted(
    cluster: RedisCluster, impatient_store: Callable[[str], RedisStore]
) -> None:
    async with RedisStore(cluster.url) as store:
        users = _one_of_each(cluster)
        sessions = {user: await sign_in(store, user) for user in users}
        unlucky, *others = users
        primary = cluster.primary_of(_key_of(unlucky))
        replica = cluster.replica_of(primary)
        primary.kill()
        outcomes = await asyncio.gather(
            *(store.read_session(sessions[user].id) for user in users), return_exceptions=True
        )
        assert isinstance(outcomes[0], StoreUnavailable)
        for user, outcome in zip(others, outcomes[1:], strict=True):
            assert not isinstance(outcome, BaseException)
            assert outcome is not None
            page = await store.list_sessions(SessionFilter(user_id=user))
            assert [listed.session.id for listed in page] == [sessions[user].id]
            assert len((await store.end_user_sessions(user)).ended) == 1
        with pytest.raises(StoreUnavailable) as caught:
            await store.end_user_sessions(unlucky)
        assert not isinstance(caught.value, RevocationIndeterminate)  # no server was there to begin it
        cluster.promote(replica, how="TAKEOVER")
        await _until_served(store, sessions[unlucky])
        async with impatient_store(cluster.url) as impatient:
            with pytest.raises(RevocationIndeterminate, match="0 of 1 replicas"):  # done, on the only one there is
                await impatient.end_user_sessions(unlucky)
        assert await read(store, sessions[unlucky].id) is None


async def test_a_store_can_be_opened_where_a_primary_is_down(cluster: RedisCluster) -> None:
    """An application that starts meanwhile serves the users of the other primaries."""
    users = _one_of_each(cluster)
    cluster.primary_of(_key_of(users[0])).kill()
    async with RedisStore(cluster.url) as store:
        for user in users[1:]:
            await read_present(store, (await sign_in(store, user)).id)
        with pytest.raises(StoreUnavailable):
            await store.read_user(users[0])
        guarantee = await store.guarantee()
        assert guarantee.level == GuaranteeLevel.BEST_EFFORT
        assert any("do not answer" in condition for condition in guarantee.conditions)


async def test_a_hanging_primary_affects_only_its_own_users_until_a_replica_is_promoted(
    cluster: RedisCluster,
) -> None:
    """It neither refuses nor disconnects: only a timeout shows that it hangs, and only one call pays for it."""
    async with RedisStore(cluster.url, timeout_seconds=4.0) as store:
        users = _one_of_each(cluster)
        sessions = {user: await sign_in(store, user) for user in users}
        unlucky, *others = users
        primary = cluster.primary_of(_key_of(unlucky))
        replica = cluster.replica_of(primary)
        primary.pause()
        for _ in range(3):
            outcomes = await asyncio.gather(
                *(store.read_session(sessions[user].id) for user in users), return_exceptions=True
            )
            assert isinstance(outcomes[0], StoreUnavailable)
            assert not [outcome for outcome in outcomes[1:] if outcome is None or isinstance(outcome, BaseException)]
        for user in others:
            await read_present(store, (await sign_in(store, user)).id)
            with pytest.raises(StoreUnavailable):
                await store.read_user(unlucky)
        ends = await asyncio.gather(*map(store.end_user_sessions, users), return_exceptions=True)
        assert isinstance(ends[0], StoreUnavailable)
        assert [len(each.ended) for each in ends[1:] if not isinstance(each, BaseException)] == [2, 2]
        cluster.promote(replica, how="TAKEOVER")
        await _until_served(store, sessions[unlucky])
        await read_present(store, (await sign_in(store, unlucky)).id)


async def test_a_primary_that_hung_is_used_again_once_it_answers(cluster: RedisCluster) -> None:
    async with RedisStore(cluster.url, timeout_seconds=4.0) as store:
        session = await sign_in(store, USERS[0])
        primary = cluster.primary_of(_key_of(USERS[0]))
        primary.pause()
        with pytest.raises(StoreUnavailable):
            await store.read_session(session.id)
        primary.resume()
        await _until_served(store, session)


async def test_the_answer_of_a_demoted_primary_is_not_believed(cluster: RedisCluster) -> None:
    """A store that has not heard of the election is still connected to it, and it has the old data."""
    async with RedisStore(cluster.url, timeout_seconds=20) as store, RedisStore(cluster.url) as other:
        session = await sign_in(store, USERS[0])
        await read_present(other, session.id)
        replica = cluster.replica_of(cluster.primary_of(_key_of(USERS[0])))
        cluster.promote(replica, how="TAKEOVER")
        await store.end_user_sessions(USERS[0])
        assert await read(other, session.id) is None


async def test_the_store_goes_on_after_all_primaries_were_replaced(cluster: RedisCluster) -> None:
    """The addresses in the URL are needed only at first: the members know each other."""
    users = _one_of_each(cluster)
    seed = cluster.primary_of(_key_of(users[0]))
    async with RedisStore(f"redis+cluster://127.0.0.1:{seed.port}?replicas=0") as store:
        sessions = [await sign_in(store, user) for user in users]
        for user, session in zip(users, sessions, strict=True):
            primary = cluster.primary_of(_key_of(user))
            replica = cluster.replica_of(primary)
            primary.kill()
            cluster.promote(replica, how="TAKEOVER")
            await _until_served(store, session)
        assert await stored_ids(store) == {session.id for session in sessions}


async def test_members_are_found_where_remap_says_they_are(cluster: RedisCluster) -> None:
    """Behind NAT the addresses that members know cannot be reached. Here a proxy is at each of the others."""
    proxies = {node.port: Proxy(node.port) for node in cluster.nodes}
    for proxy in proxies.values():
        await proxy.__aenter__()
    asked: list[Address] = []

    def remap(address: Address) -> Address:
        asked.append(address)
        return Address("localhost", proxies[address.port].port)

    async with RedisStore(cluster.url, remap=remap) as store:
        sessions = [await sign_in(store, user) for user in USERS]
        assert await stored_ids(store) == {session.id for session in sessions}
        assert {address.port for address in store._calls.servers.all()} <= {proxy.port for proxy in proxies.values()}  # noqa: SLF001 (where it connects to)
    assert {address.port for address in asked} == {node.port for node in cluster.nodes}
    for proxy in proxies.values():
        await proxy.cut()


class TestMovingSlots:
    """A slot goes from one primary to another, key by key."""

    @pytest.fixture
    def ends(self, cluster: RedisCluster) -> Iterator[tuple[ClusterNode, ClusterNode]]:
        """The server that hands the slot over, and the one that takes it and keeps it."""
        source = cluster.primary_of(_key_of(USERS[0]))
        target = next(node for node in cluster.primaries if node is not source)
        yield source, target
        slot = _slot()
        for node in cluster.primaries:
            node.ask("CLUSTER SETSLOT", slot, "NODE", target.id)

    async def test_callers_get_the_right_answer_or_an_outage_while_slots_move(
        self, cluster: RedisCluster, ends: tuple[ClusterNode, ClusterNode]
    ) -> None:
        source, target = ends
        user = USERS[0]
        async with RedisStore(cluster.url) as store:
            await register(store, user, scopes={"a", "b"})
            sessions = [await insert(store, new_session(user, scopes={"a", "b"})) for _ in range(4)]
            _begin(source, target)
            for key in _keys(source):
                for session in sessions:
                    reading = await _outcome(store.read_session(session.id))
                    assert isinstance(reading, StoreUnavailable) or reading is not None
                assert isinstance(await _outcome(insert(store, new_session(user))), StoreUnavailable)
                change = await _outcome(store.set_user_scopes(user, frozenset({Scope("a")})))
                assert change is not None
                source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
            for node in (target, source):
                node.ask("CLUSTER SETSLOT", _slot(), "NODE", target.id)
            await store.set_user_scopes(user, frozenset({Scope("a")}))
            assert [(await read_present(store, session.id)).scopes for session in sessions] == [{"a"}] * 4
            await insert(store, new_session(user))
            assert len((await store.end_user_sessions(user)).ended) == 5
            assert await stored_ids(store) == set()

    @pytest.mark.parametrize("moved", range(7))
    async def test_a_deletion_that_is_caught_by_a_move_is_finished_by_the_next_attempt(
        self, cluster: RedisCluster, ends: tuple[ClusterNode, ClusterNode], moved: int
    ) -> None:
        source, target = ends
        user = USERS[0]
        async with RedisStore(cluster.url) as store:
            sessions = [await sign_in(store, user) for _ in range(3)]
            _begin(source, target)
            for key in _keys(source)[:moved]:
                source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
            outcome = await _outcome(store.delete_user(user))
            assert isinstance(outcome, StoreUnavailable) or (outcome is not None and len(outcome.ended) == 3)
            for key in _keys(source):
                source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
            for node in (target, source):
                node.ask("CLUSTER SETSLOT", _slot(), "NODE", target.id)
            await store.delete_user(user)
            assert [await read(store, session.id) for session in sessions] == [None] * 3
            row = await store.read_user(user)
            assert row is not None
            assert not row.is_registered
            assert await store.list_users() == []


def _slot() -> int:
    return key_slot(_key_of(USERS[0]).encode())


def _begin(source: ClusterNode, target: ClusterNode) -> None:
    target.ask("CLUSTER SETSLOT", _slot(), "IMPORTING", source.id)
    source.ask("CLUSTER SETSLOT", _slot(), "MIGRATING", target.id)


def _keys(node: ClusterNode) -> list[str]:
    """The keys of the slot, in the same order each time."""
    return sorted(node.ask("CLUSTER GETKEYSINSLOT", _slot(), 100))


async def _outcome(call: Awaitable[T]) -> T | StoreUnavailable:
    try:
        return await call
    except StoreUnavailable as error:
        return error
