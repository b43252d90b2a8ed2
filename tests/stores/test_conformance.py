"""Every store holds every promise of the protocol."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import StoreUnavailable
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import SessionFilter
from coatcheck.testing import PausingStore, StoreConformance, check_store_against_model
from coatcheck.testing.conformance.announcing import Listening
from coatcheck.testing.samples import BOB, read, read_present, sign_in
from tests.stores.harnesses import (
    LeastConnectionsHarness,
    MemoryHarness,
    PgBouncerHarness,
    PostgresHarness,
    RedisHarness,
    SqliteHarness,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers.pgbouncer import PgBouncer
    from tests.servers.redis import RedisServer
    from tests.servers.redis_cluster import RedisCluster
    from tests.servers.redis_sentinel import Watched

NOT_SCOPES = ["", "null", "true", "1", "not json", '"notes:read"', "{}", '{"a": 1}', "[1]", "[null]", '[["a"]]',
              '["a", ""]', '["a b"]', '["\\ud800"]', '["a"', "[" * 100_000]  # fmt: skip


class TestMemory(StoreConformance):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[MemoryHarness]:
        async with MemoryHarness() as harness:
            yield harness


class TestSqlite(StoreConformance):
    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[SqliteHarness]:
        async with SqliteHarness(tmp_path) as harness:
            yield harness

    @pytest.mark.parametrize("text", NOT_SCOPES, ids=range(len(NOT_SCOPES)))
    async def test_no_scope_is_granted_by_a_damaged_text(self, harness: SqliteHarness, text: str) -> None:
        session = await sign_in(harness.store, scopes={"a"})
        await harness.write_scopes_text(session.id, text)
        assert (await read_present(harness.store, session.id)).scopes is None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    version = getattr(metafunc.cls, "version", None)
    if version is not None and "postgres_version" in metafunc.fixturenames:
        metafunc.parametrize("postgres_version", [version], indirect=True, scope="session", ids=[pytest.HIDDEN_PARAM])


@pytest.mark.postgres
class TestPostgres(StoreConformance):
    version: str | None = None
    """Of PostgreSQL: None is the machine's own."""

    @pytest.fixture(scope="class")
    @staticmethod
    async def database(postgres_admin_dsn: str) -> AsyncIterator[PostgresHarness]:
        """One for all tests: making a database takes longer than most of them."""
        async with PostgresHarness(postgres_admin_dsn) as harness:
            yield harness

    @pytest.fixture
    async def harness(self, database: PostgresHarness) -> PostgresHarness:
        await database.renew()
        return database

    async def test_a_transaction_whose_commit_fails_is_not_announced(self, harness: PostgresHarness) -> None:
        store = harness.store
        session = await sign_in(store)
        async with Listening(store) as listening:
            with pytest.raises(StoreUnavailable):
                async with store.transaction() as transaction:
                    await store.delete_sessions(SessionFilter(session_id=session.id), transaction=transaction)
                    process = (await transaction.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
                    await harness.admin.execute("SELECT pg_terminate_backend($1, 10000)", process)
            await read_present(store, session.id)
            async with store.transaction() as transaction:
                await store.end_user_sessions(BOB, transaction=transaction)
            assert await listening.before(Announcement(BOB)) == []

    async def test_a_transaction_that_loses_its_connection_has_done_nothing(self, harness: PostgresHarness) -> None:
        """The store cannot answer, and the session is still there."""
        store = harness.store
        session = await sign_in(store)
        with pytest.raises(StoreUnavailable):
            async with store.transaction() as transaction:
                await store.delete_sessions(SessionFilter(session_id=session.id), transaction=transaction)
                async with harness.outage():
                    await store.end_user_sessions(session.user_id, transaction=transaction)
        assert await read_present(store, session.id) == session


@pytest.mark.extended  # the statements are the same on every version
@pytest.mark.postgres16
class TestPostgres16(TestPostgres):
    version = "16"


@pytest.mark.extended  # the statements are the same on every version
@pytest.mark.postgres17
class TestPostgres17(TestPostgres):
    version = "17"


@pytest.mark.extended  # the statements are the same on every version
@pytest.mark.postgres18
class TestPostgres18(TestPostgres):
    version = "18"


@pytest.mark.extended  # PostgreSQL itself is held to every promise by `make test`
class TestPgBouncer(TestPostgres):
    @pytest.fixture(scope="class")
    @staticmethod
    async def database(postgres_admin_dsn: str, pgbouncer: PgBouncer) -> AsyncIterator[PgBouncerHarness]:
        async with PgBouncerHarness(postgres_admin_dsn, pgbouncer) as harness:
            yield harness


@pytest.mark.extended  # as above
class TestPostgresWithFewConnections(TestPostgres):
    @pytest.fixture(scope="class")
    @staticmethod
    async def database(postgres_admin_dsn: str) -> AsyncIterator[LeastConnectionsHarness]:
        async with LeastConnectionsHarness(postgres_admin_dsn) as harness:
            yield harness


class _OnRedis(StoreConformance, has_transactions=False):
    """What every kind of Redis is held to."""

    @pytest.fixture
    async def harness(self, servers: RedisHarness) -> RedisHarness:
        await servers.renew()
        return servers

    @pytest.mark.parametrize("text", NOT_SCOPES, ids=range(len(NOT_SCOPES)))
    async def test_no_scope_is_granted_by_a_damaged_text(self, harness: RedisHarness, text: str) -> None:
        session = await sign_in(harness.store, scopes={"a"})
        await harness.write_scopes_text(session.id, text)
        assert (await read_present(harness.store, session.id)).scopes is None


@pytest.mark.redis
class TestRedis(_OnRedis):
    @pytest.fixture(scope="class")
    @staticmethod
    async def servers(shared_redis: RedisServer) -> AsyncIterator[RedisHarness]:
        async with RedisHarness(shared_redis.url) as harness:
            yield harness


@pytest.mark.redis
class TestRedisCluster(_OnRedis):
    @pytest.fixture(scope="class")
    @staticmethod
    async def servers(shared_redis_cluster: RedisCluster) -> AsyncIterator[RedisHarness]:
        async with RedisHarness(shared_redis_cluster.url) as harness:
            yield harness


@pytest.mark.valkey
class TestValkey(_OnRedis):
    @pytest.fixture(scope="class")
    @staticmethod
    async def servers(shared_valkey: RedisServer) -> AsyncIterator[RedisHarness]:
        async with RedisHarness(shared_valkey.url) as harness:
            yield harness


@pytest.mark.extended  # with sentinels a store goes to a single server, once it knows which
@pytest.mark.sentinel
class TestRedisSentinel(_OnRedis):
    @pytest.fixture(scope="class")
    @staticmethod
    async def servers(shared_redis_sentinel: Watched) -> AsyncIterator[RedisHarness]:
        async with _sentinel_harness(shared_redis_sentinel) as harness:
            yield harness


@pytest.mark.extended  # as above
@pytest.mark.sentinel
@pytest.mark.valkey
class TestValkeySentinel(_OnRedis):
    @pytest.fixture(scope="class")
    @staticmethod
    async def servers(shared_valkey_sentinel: Watched) -> AsyncIterator[RedisHarness]:
        async with _sentinel_harness(shared_valkey_sentinel) as harness:
            yield harness


def _sentinel_harness(watched: Watched) -> RedisHarness:
    return RedisHarness(watched.url, watched=[server.port for server in watched.servers])


@pytest.mark.extended  # Valkey and a Cluster are each held to every promise by themselves
@pytest.mark.valkey
class TestValkeyCluster(_OnRedis):
    @pytest.fixture(scope="class")
    @staticmethod
    async def servers(shared_valkey_cluster: RedisCluster) -> AsyncIterator[RedisHarness]:
        async with RedisHarness(shared_valkey_cluster.url) as harness:
            yield harness


class TestPausing:
    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[SqliteHarness]:
        async with SqliteHarness(tmp_path) as harness:
            yield harness

    async def test_a_call_stopped_on_its_way_in_has_not_happened(self, harness: SqliteHarness) -> None:
        session = await sign_in(harness.store)
        pausing = PausingStore(harness.store)
        gate = pausing.pause_before("delete_sessions")
        deleting = asyncio.create_task(pausing.delete_sessions(SessionFilter(session_id=session.id)))
        await gate.reached()
        assert await read(harness.store, session.id) == session
        gate.open()
        assert [one.session_id for one in (await deleting).ended] == [session.id]

    async def test_a_call_stopped_on_its_way_out_has_happened(self, harness: SqliteHarness) -> None:
        session = await sign_in(harness.store)
        pausing = PausingStore(harness.store)
        gate = pausing.pause_after("delete_sessions")
        deleting = asyncio.create_task(pausing.delete_sessions(SessionFilter(session_id=session.id)))
        await gate.reached()
        assert await read(harness.store, session.id) is None
        assert not deleting.done()
        gate.open()
        await deleting

    async def test_other_calls_pass_and_all_are_counted(self, harness: SqliteHarness) -> None:
        session = await sign_in(harness.store)
        pausing = PausingStore(harness.store)
        gate = pausing.pause_before("touch_sessions")
        assert await pausing.read_session(session.id) is not None
        async with pausing.transaction() as transaction:
            await pausing.read_user(session.user_id, transaction=transaction)
        assert not gate.is_reached
        assert pausing.calls == ["read_session", "read_user"]

    @pytest.mark.parametrize("name", ["touch_sesions", "transaction", "_engine"])
    async def test_a_name_that_is_no_call_cannot_be_stopped(self, harness: SqliteHarness, name: str) -> None:
        with pytest.raises(ValueError, match=name):
            PausingStore(harness.store).pause_before(name)


HISTORIES = pytest.mark.parametrize("histories", [15, pytest.param(75, marks=pytest.mark.extended)])
"""They are others in each run."""


@HISTORIES
@pytest.mark.timeout(600)  # a history that fails takes minutes to be made short
def test_memory_does_as_the_model_does(histories: int) -> None:
    check_store_against_model(MemoryHarness, max_examples=histories)


@HISTORIES
@pytest.mark.timeout(600)  # as above
def test_sqlite_does_as_the_model_does(tmp_path: Path, histories: int) -> None:
    check_store_against_model(lambda: SqliteHarness(tmp_path), max_examples=histories)


@HISTORIES
@pytest.mark.postgres
@pytest.mark.timeout(600)  # as above
def test_postgres_does_as_the_model_does(postgres_admin_dsn: str, histories: int) -> None:
    check_store_against_model(lambda: PostgresHarness(postgres_admin_dsn), max_examples=histories)


@HISTORIES
@pytest.mark.redis
@pytest.mark.timeout(600)  # as above
def test_redis_does_as_the_model_does(redis_url: str, histories: int) -> None:
    check_store_against_model(lambda: RedisHarness(redis_url), max_examples=histories)


@HISTORIES
@pytest.mark.redis
@pytest.mark.timeout(600)  # as above
def test_a_redis_cluster_does_as_the_model_does(redis_cluster_url: str, histories: int) -> None:
    # Fewer histories: each step lists everybody, over three servers.
    check_store_against_model(lambda: RedisHarness(redis_cluster_url), max_examples=histories // 3)


@pytest.mark.extended
@pytest.mark.sentinel
@pytest.mark.timeout(600)  # as above
def test_a_redis_that_sentinels_watch_over_does_as_the_model_does(shared_redis_sentinel: Watched) -> None:
    check_store_against_model(lambda: _sentinel_harness(shared_redis_sentinel), max_examples=25)
