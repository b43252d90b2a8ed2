"""Servers, stores and worlds for every test."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import hypothesis
import pytest
from xdist.workermanage import NodeManager  # type: ignore[import-untyped]  # it has no types

from tests.components import ONLY_WITH_EXTENDED, Component, Components
from tests.kinds_of_store import POSTGRES, REDIS, REDIS_CLUSTER, SQLITE
from tests.servers import chromium, nginx, postgres, redis, signals
from tests.servers import pgbouncer as pgbouncer_server
from tests.servers.redis_cluster import RedisCluster
from tests.servers.redis_sentinel import Watched
from tests.servers.webdriver import browsers
from tests.stores.harnesses import PostgresHarness, RedisHarness, SqliteHarness
from tests.time_limit import TimeLimit
from tests.worlds import NewWorld, World, worlds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from playwright.async_api import Browser

    from coatcheck.testing import StoreHarness

pytest_plugins = ["pytester"]  # some tests run pytest within pytest

_numbers = itertools.count()

# How long an example takes depends on what else the machine is doing.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")

# When a run is ended, xdist lets each process go on with its test for five seconds, and kills it after ten. By then it
# may not have stopped its servers.
NodeManager.EXIT_TIMEOUT = 60


def pytest_configure(config: pytest.Config) -> None:
    named_server = os.environ.get("COATCHECK_TEST_POSTGRES")
    required = os.environ.get("COATCHECK_REQUIRE", "").split()
    components = [
        Component(
            "postgres",
            "PostgreSQL",
            missing=None if named_server else postgres.missing(),
            fixtures=frozenset({"postgres_admin_dsn", "postgres_server"}),
        ),
        *(
            Component(
                f"postgres{version}",
                f"PostgreSQL {version}",
                missing=postgres.missing(version),
                whole_runs=ONLY_WITH_EXTENDED,
            )
            for version in postgres.OTHER_VERSIONS
        ),
        Component("pgbouncer", "PgBouncer", missing=pgbouncer_server.missing(), fixtures=frozenset({"pgbouncer"})),
        Component("chromium", "Chromium", missing=chromium.missing(), fixtures=frozenset({"browser"})),
        Component(
            "redis",
            "Redis",
            missing=redis.missing("redis-server"),
            fixtures=frozenset({"shared_redis", "shared_redis_cluster", "redis_server", "redis_cluster"}),
        ),
        Component(
            "sentinel",
            "Redis Sentinel",
            missing=redis.missing("redis-server"),
            fixtures=frozenset({"shared_redis_sentinel", "redis_sentinel"}),
        ),
        Component(
            "valkey",
            "Valkey",
            missing=redis.missing("valkey-server"),
            fixtures=frozenset({"shared_valkey", "shared_valkey_cluster", "shared_valkey_sentinel"}),
        ),
        Component(
            "nginx",
            "nginx",
            missing=nginx.missing(),
            fixtures=frozenset({"nginx_certificate"}),
            whole_runs=ONLY_WITH_EXTENDED,
        ),
        Component(
            "rolling",
            "Rolling releases",
            missing=None,  # the other version comes from this repository
            fixtures=frozenset({"earlier"}),
            whole_runs=ONLY_WITH_EXTENDED,
        ),
        Component("firefox", "Firefox", missing=browsers.missing("firefox"), whole_runs=ONLY_WITH_EXTENDED),
        Component("webkit", "WebKit", missing=browsers.missing("webkit"), whole_runs=ONLY_WITH_EXTENDED),
        Component("chromedriver", "Chromedriver", missing=browsers.missing("chromium"), whole_runs=ONLY_WITH_EXTENDED),
    ]
    known = [component.name for component in components]
    unknown = {one for one in required if not one.startswith("python3.")}.difference(known)  # scripts/test-versions
    if unknown:
        raise pytest.UsageError(f"COATCHECK_REQUIRE names {' '.join(sorted(unknown))}; allowed: {' '.join(known)}")
    for component in components:
        component.is_required = component.name in required
    config.pluginmanager.register(Components(components))
    config.pluginmanager.register(TimeLimit())
    signals.end_in_order()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def replicas_have_time() -> Iterator[None]:
    """Let stores wait for a replica as long as their time limit, so that a replica without a core fails no test.

    Programs that a test starts wait as long as usual, and count an ending that is not confirmed in time as such.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coatcheck.stores.redis.transport.calls._WAIT_MS", 10_000)
        yield


@pytest.fixture(scope="session")
def postgres_version(request: pytest.FixtureRequest) -> str | None:
    """One of `OTHER_VERSIONS`, for the tests that run on these too (`ON_POSTGRESQL_18`), else None."""
    version: str | None = getattr(request, "param", None)
    return version


@pytest.fixture(scope="session")
def postgres_admin_dsn(postgres_version: str | None) -> Iterator[str]:
    """The server for databases: the one that COATCHECK_TEST_POSTGRES names, else one for this run."""
    named = os.environ.get("COATCHECK_TEST_POSTGRES")
    if named and postgres_version is None:
        yield named
        return
    server = postgres.PostgresServer(version=postgres_version)
    yield server.dsn()
    server.remove()


@pytest.fixture(scope="session")
def postgres_port(postgres_admin_dsn: str) -> int:
    """The port of that server, to put a proxy in front."""
    return urlsplit(postgres_admin_dsn).port or 5432


@pytest.fixture
async def postgres_dsn(postgres_admin_dsn: str) -> AsyncIterator[str]:
    """A new, empty database, dropped after the test."""
    name = f"coatcheck_test_{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_admin_dsn)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")  # nobody is ever connected to template0
    yield urlsplit(postgres_admin_dsn)._replace(path=f"/{name}").geturl()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture(scope="session")
def pgbouncer(postgres_admin_dsn: str) -> Iterator[pgbouncer_server.PgBouncer]:
    """PgBouncer in transaction mode before the server for databases, for tests that do not stop or configure it."""
    with pgbouncer_server.PgBouncer(postgres_admin_dsn) as started:
        yield started


@pytest.fixture
def postgres_server(postgres_version: str | None) -> Iterator[postgres.PostgresServer]:
    """A server of the test's own, to be stopped, killed and started again. It takes a second or two to make."""
    if reason := postgres.missing(postgres_version):  # COATCHECK_TEST_POSTGRES names a server that is not ours to stop
        pytest.skip(reason)
    server = postgres.PostgresServer(version=postgres_version)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[redis.RedisServer]:
    with redis.RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(shared_redis: redis.RedisServer) -> str:
    """An empty server without any script. The tests share it: a test that configures one uses `redis_server`."""
    shared_redis.flush()
    return shared_redis.url


@pytest.fixture(scope="session")
def shared_redis_cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def redis_cluster_url(shared_redis_cluster: RedisCluster) -> str:
    """The same with three primaries, each with a replica."""
    shared_redis_cluster.flush()
    return shared_redis_cluster.url


@pytest.fixture
def redis_server() -> Iterator[redis.RedisServer]:
    """A server of the test's own, to be stopped, killed, paused and started again. It keeps nothing on disk."""
    with redis.RedisServer() as server:
        yield server


@pytest.fixture
def redis_cluster() -> Iterator[RedisCluster]:
    """A Cluster of the test's own, whose nodes may be ended and promoted. It takes two or three seconds to make."""
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def shared_redis_sentinel() -> Iterator[Watched]:
    """A primary, a replica and three sentinels, which the tests leave as they are."""
    with Watched() as watched:
        yield watched


@pytest.fixture
def redis_sentinel() -> Iterator[Watched]:
    """The same of the test's own, to be ended, paused and promoted. It takes about three seconds to make."""
    with Watched() as watched:
        yield watched


@pytest.fixture(scope="session")
def shared_valkey_sentinel() -> Iterator[Watched]:
    with Watched("valkey-server") as watched:
        yield watched


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[redis.RedisServer]:
    with redis.RedisServer("valkey-server") as server:
        yield server


@pytest.fixture
def valkey_url(shared_valkey: redis.RedisServer) -> str:
    """As `redis_url`, on Valkey."""
    shared_valkey.flush()
    return shared_valkey.url


@pytest.fixture(scope="session")
def shared_valkey_cluster() -> Iterator[RedisCluster]:
    with RedisCluster("valkey-server") as cluster:
        yield cluster


@pytest.fixture
def valkey_cluster_url(shared_valkey_cluster: RedisCluster) -> str:
    """As `redis_cluster_url`, on Valkey."""
    shared_valkey_cluster.flush()
    return shared_valkey_cluster.url


@pytest.fixture
def nginx_certificate(tmp_path: Path) -> nginx.Certificate:
    """A certificate for localhost, made for this test."""
    return nginx.Certificate(tmp_path)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium, one for the run; `await browser.new_context()` is a device of the test's own."""
    async with chromium.running() as running:
        yield running


@pytest.fixture(params=[SQLITE, POSTGRES, REDIS, REDIS_CLUSTER])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each kind in turn, for pods that are each a server of their own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/sessions.db"
    fixture = {"postgres": "postgres_dsn", "redis": "redis_url", "redis_cluster": "redis_cluster_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture(params=[SQLITE, POSTGRES, REDIS])
def closed_harness(request: pytest.FixtureRequest, tmp_path: Path) -> StoreHarness:
    """Each store in turn. Not asynchronous: anyio cannot start one asynchronous fixture from within another."""
    if request.param == "sqlite":
        return SqliteHarness(tmp_path)
    if request.param == "redis":
        return RedisHarness(request.getfixturevalue("redis_url"))
    return PostgresHarness(request.getfixturevalue("postgres_dsn"))


@pytest.fixture
async def harness(closed_harness: StoreHarness) -> AsyncIterator[StoreHarness]:
    """Each store in turn, opened, with a clock that the test moves."""
    async with closed_harness as harness:
        yield harness


@pytest.fixture
async def new_world(harness: StoreHarness) -> AsyncIterator[NewWorld]:
    async with worlds(harness) as make:
        yield make


@pytest.fixture
async def world(new_world: NewWorld) -> World:
    return await new_world()
