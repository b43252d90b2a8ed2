"""The servers that other tests stand on do what they say."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from redis import Redis
from redis.cluster import RedisCluster as ClusterClient
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.process_ends import has_ended
from tests.servers import postgres, programs
from tests.servers.app import AppServer
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.servers.redis_cluster import RedisCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from tests.servers.redis import Program
    from tests.servers.redis_sentinel import Watched


class TestPostgres:
    async def test_a_test_gets_an_empty_database_of_its_own(self, postgres_dsn: str) -> None:
        connection = await asyncpg.connect(postgres_dsn)
        try:
            tables = "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'public'"
            assert await connection.fetchval(tables) == 0
            assert connection.get_server_version() >= (15,)
        finally:
            await connection.close()

    async def test_a_second_test_does_not_see_the_first(self, postgres_dsn: str, postgres_admin_dsn: str) -> None:
        assert postgres_dsn != postgres_admin_dsn
        connection = await asyncpg.connect(postgres_dsn)
        await connection.close()

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["in order", "as in a crash"])
    async def test_it_can_be_stopped_and_comes_back_with_what_was_committed(
        self, postgres_server: PostgresServer, how: signal.Signals
    ) -> None:
        connection = await asyncpg.connect(postgres_server.dsn())
        await connection.execute("CREATE TABLE kept (id int)")
        await connection.execute("INSERT INTO kept VALUES (7)")

        postgres_server.stop(how)
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await connection.fetchval("SELECT 1")
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncpg.connect(postgres_server.dsn())

        postgres_server.start()
        again = await asyncpg.connect(postgres_server.dsn())
        assert await again.fetchval("SELECT id FROM kept") == 7
        await again.close()

    @pytest.mark.extended
    @pytest.mark.postgres18
    async def test_one_of_another_version_runs_from_a_folder_that_only_we_may_enter(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        others = tmp_path / "others"  # pytest's folders are for us only
        shutil.copytree(postgres.OTHERS / "wheels", others / "wheels", symlinks=True)
        shutil.copy(postgres.OTHERS / "18", others, follow_symlinks=False)
        monkeypatch.setattr(postgres, "OTHERS", others)
        server = PostgresServer(version="18")
        try:
            connection = await asyncpg.connect(server.dsn())
            assert connection.get_server_version()[0] == 18
            await connection.close()
        finally:
            server.remove()

    def test_a_paused_one_can_be_stopped(self, postgres_server: PostgresServer) -> None:
        postgres_server.pause()
        postgres_server.stop()
        postgres_server.start()

    async def test_a_port_that_another_server_has_taken_is_said_to_be_taken(
        self,
        postgres_admin_dsn: str,
    ) -> None:
        server = PostgresServer()
        try:
            server.stop()
            with socket.create_server(("127.0.0.1", server.port)):
                with pytest.raises(RuntimeError, match=f"^port {server.port} of 127.0.0.1 is taken by another program"):
                    server.start()
                server.stop()
            server.start()
        finally:
            server.remove()

    async def test_one_with_a_password_lets_nobody_in_without_it_and_its_standby_neither(
        self,
        postgres_admin_dsn: str,
    ) -> None:
        primary = PostgresServer(password="swordfish")
        standby = None
        try:
            standby = PostgresServer(primary=primary)
            for server in (primary, standby):
                connection = await asyncpg.connect(server.dsn())
                await connection.close()
                with pytest.raises(asyncpg.InvalidPasswordError):
                    await asyncpg.connect(server.dsn().replace("swordfish", "another"))
        finally:
            if standby is not None:
                standby.remove()
            primary.remove()

    async def test_a_standby_has_what_its_primary_had_is_paused_and_takes_over(
        self, postgres_server: PostgresServer
    ) -> None:
        primary = await asyncpg.connect(postgres_server.dsn())
        await primary.execute("CREATE TABLE things (name text)")
        standby = PostgresServer(primary=postgres_server)
        try:
            connection = await asyncpg.connect(standby.dsn())
            assert await connection.fetchval("SELECT pg_is_in_recovery()")
            standby.pause()
            answer = asyncio.create_task(connection.fetchval("SELECT 1"))
            await primary.execute("SELECT 1")
            assert not answer.done()
            standby.resume()
            assert await answer == 1
            postgres_server.kill()
            with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                await primary.execute("SELECT 1")
            standby.promote()
            await connection.execute("INSERT INTO things VALUES ('a thing')")
            await connection.close()
        finally:
            standby.remove()


BOTH = [
    pytest.param("redis-server", marks=pytest.mark.redis),
    pytest.param("valkey-server", marks=pytest.mark.valkey),
]


class TestRedis:
    @pytest.mark.parametrize("time", ["first", "second"])
    def test_a_test_gets_a_server_without_keys_and_scripts(self, redis_url: str, time: str) -> None:
        with Redis.from_url(redis_url) as client:
            assert client.dbsize() == 0
            assert client.info("memory")["number_of_cached_scripts"] == 0
            client.set("left by", time)
            client.eval("return 1", 0)

    def test_valkey_is_valkey(self, valkey_url: str) -> None:
        with Redis.from_url(valkey_url.replace("valkey://", "redis://")) as client:
            assert client.info("server")["server_name"] == "valkey"
            assert client.dbsize() == 0

    @pytest.mark.parametrize("program", BOTH)
    def test_what_was_fsynced_outlives_a_kill(self, program: Program) -> None:
        with RedisServer(program, appendonly="yes", appendfsync="always") as server:
            server.ask("SET", "kept", "7")
            server.kill()
            with pytest.raises(RedisConnectionError, match="refused"):
                server.ask("PING")
            server.start()
            assert server.ask("GET", "kept") == "7"

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["in order", "as in a crash"])
    def test_without_persistence_it_comes_back_empty_on_the_same_port(
        self, redis_server: RedisServer, how: signal.Signals
    ) -> None:
        redis_server.ask("SET", "lost", "7")
        redis_server.stop(how)
        redis_server.start()
        assert redis_server.ask("DBSIZE") == 0

    def test_paused_it_takes_connections_and_answers_when_it_is_resumed(self, redis_server: RedisServer) -> None:
        with Redis.from_url(redis_server.url, socket_timeout=0.1, retry=None) as client:
            redis_server.pause()
            with pytest.raises(RedisTimeoutError):
                client.ping()
            redis_server.resume()
            assert redis_server.ask("PING")
            redis_server.pause()
            redis_server.stop()  # a paused one too

    @pytest.mark.redis
    def test_its_settings_are_the_servers_own(self) -> None:
        with RedisServer(maxmemory="100mb", maxmemory_policy="allkeys-lru", requirepass="pass:word") as server:
            assert server.ask("CONFIG GET", "maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
            with Redis.from_url(server.url) as client:
                assert client.ping()

    @pytest.mark.redis
    def test_what_does_not_start_says_why(self) -> None:
        with pytest.raises(RuntimeError, match="maxmemory-policy"):
            RedisServer(maxmemory_policy="none at all")

    @pytest.mark.redis
    @pytest.mark.parametrize(("theirs", "ours"), [({}, "ours"), ({"requirepass": "theirs"}, None)])
    def test_a_port_that_another_server_has_taken_is_said_to_be_taken(
        self, theirs: dict[str, str], ours: str | None
    ) -> None:
        """And the other server, whether it knows a password or not, is not mistaken for this one."""
        settings = {} if ours is None else {"requirepass": ours}
        with RedisServer(**settings) as server:
            server.stop()
            with (
                RedisServer(port=str(server.port), **theirs),
                pytest.raises(RuntimeError, match=rf"^port {server.port} of 127\.0\.0\.1 is taken by another program"),
            ):
                server.start()
            server.start()
            assert server.ask("PING")

    async def test_a_proxy_stands_in_front_of_it(self, redis_server: RedisServer) -> None:
        async with Proxy(redis_server.port) as proxy:
            assert proxy.through(redis_server.url) == f"redis://127.0.0.1:{proxy.port}/0"


class TestRedisCluster:
    @pytest.mark.parametrize("time", ["first", "second"])
    def test_a_test_gets_a_cluster_without_keys_and_scripts(
        self, redis_cluster_url: str, shared_redis_cluster: RedisCluster, time: str
    ) -> None:
        assert redis_cluster_url.startswith("redis+cluster://127.0.0.1:")
        with ClusterClient("127.0.0.1", shared_redis_cluster.nodes[0].port) as client:
            assert client.dbsize(target_nodes=ClusterClient.ALL_NODES) == 0
            keys = [f"key {number}" for number in range(30)]
            for key in keys:
                client.set(key, time)
            owners = {shared_redis_cluster.primary_of(key).port for key in keys}
            assert len(owners) == 3

    def test_valkey_makes_a_cluster_too(self, valkey_cluster_url: str, shared_valkey_cluster: RedisCluster) -> None:
        assert valkey_cluster_url.startswith("valkey+cluster://127.0.0.1:")
        assert len(shared_valkey_cluster.primaries) == 3

    @pytest.mark.parametrize("program", BOTH)
    def test_a_replica_takes_the_place_of_a_killed_primary(self, program: Program) -> None:
        with RedisCluster(program) as cluster:
            primary = cluster.primary_of("kept")
            replica = cluster.replica_of(primary)
            primary.ask("SET", "kept", "7")
            assert primary.ask("WAIT", 1, 10_000) == 1
            primary.kill()
            with pytest.raises(LookupError):
                cluster.primary_of("kept")

            cluster.promote(replica)
            assert cluster.primary_of("kept") is replica
            assert replica.ask("GET", "kept") == "7"

            primary.start()
            cluster.wait_until_settled()
            assert cluster.replica_of(replica) is primary

    def test_a_replica_that_was_cut_off_has_missed_what_was_written(self, redis_cluster: RedisCluster) -> None:
        primary = redis_cluster.primary_of("missed")
        replica = redis_cluster.replica_of(primary)
        redis_cluster.cut_off(replica)
        primary.ask("SET", "missed", "7")
        primary.kill()
        replica.resume()
        redis_cluster.promote(replica, "TAKEOVER")
        assert replica.ask("EXISTS", "missed") == 0

    def test_a_primary_hands_over_without_a_loss(self, redis_cluster: RedisCluster) -> None:
        primary = redis_cluster.primary_of("kept")
        replica = redis_cluster.replica_of(primary)
        primary.ask("SET", "kept", "7")
        redis_cluster.promote(replica, None)
        redis_cluster.wait_until_settled()
        assert replica.ask("GET", "kept") == "7"
        assert redis_cluster.replica_of(replica) is primary

    @pytest.mark.redis
    def test_after_the_node_timeout_a_replica_takes_over_by_itself(self) -> None:
        with RedisCluster(node_timeout=500) as cluster:
            primary = cluster.primary_of("anything")
            replica = cluster.replica_of(primary)
            primary.kill()
            cluster.wait_for_promotion(replica)
            assert cluster.primary_of("anything") is replica


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    """A server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    port = free_port()
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    yield port
    server.close()


class Client:
    """One connection to a port of 127.0.0.1, that says something and expects to hear it again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def echoed(self, data: bytes) -> bytes:
        self.writer.write(data)
        return await self.reader.readexactly(len(data))


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield Client(reader, writer)
    writer.transport.abort()
    await asyncio.sleep(0)  # the loop closes the socket


DROPPED = (ConnectionError, asyncio.IncompleteReadError)


class TestRedisSentinel:
    def test_the_sentinels_let_a_replica_take_the_place_of_a_killed_primary_which_follows_it_then(
        self, redis_sentinel: Watched
    ) -> None:
        old = redis_sentinel.primary
        old.ask("SET", "kept", "7")
        assert old.ask("WAIT", 1, 10_000) == 1
        redis_sentinel.set_down_after(1000)
        old.kill()
        new = redis_sentinel.wait_for_failover(old)
        assert new is not old
        assert new.ask("GET", "kept") == "7"

        redis_sentinel.wait_until_settled()
        assert redis_sentinel.replica is old
        assert old.ask("ROLE")[:3] == ["slave", "127.0.0.1", new.port]

    def test_a_failover_by_hand_happens_at_once_and_by_itself_none(self, redis_sentinel: Watched) -> None:
        old = redis_sentinel.primary
        assert redis_sentinel.fail_over() is not old
        assert [one.epoch for one in redis_sentinel.sentinels] == [1, 1, 1]

    @pytest.mark.extended
    def test_valkey_has_sentinels_too(self, shared_valkey_sentinel: Watched) -> None:
        assert shared_valkey_sentinel.url.startswith("valkey+sentinel://127.0.0.1:")
        assert "valkey_version" in shared_valkey_sentinel.primary.ask("INFO", "server")


class TestProxy:
    async def test_it_forwards_both_ways(self, echo_port: int) -> None:
        async with Proxy(echo_port) as proxy, connected(proxy.port) as client:
            assert await client.echoed(b"hello") == b"hello"
            large = b"x" * 3_000_000
            assert await client.echoed(large) == large

    async def test_it_passes_on_the_end_of_a_connection(self, echo_port: int) -> None:
        async with Proxy(echo_port) as proxy, connected(proxy.port) as client:
            client.writer.write(b"last words")
            client.writer.write_eof()
            assert await client.reader.read() == b"last words"

    async def test_cut_drops_connections_and_refuses_new_ones_until_healed(self, echo_port: int) -> None:
        async with Proxy(echo_port) as proxy, connected(proxy.port) as client:
            assert await client.echoed(b"hello") == b"hello"
            await proxy.cut()
            with pytest.raises(DROPPED):
                await client.echoed(b"anyone?")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", proxy.port)
            await proxy.heal()
            async with connected(proxy.port) as again:
                assert await again.echoed(b"back") == b"back"

    async def test_cut_finds_a_connection_that_has_not_reached_the_server(self, echo_port: int) -> None:
        async with Proxy(echo_port) as proxy, connected(proxy.port) as client:
            await proxy.cut()
            with pytest.raises(DROPPED):
                await client.echoed(b"hello")

    async def test_a_black_hole_takes_everything_and_gives_nothing(self, echo_port: int) -> None:
        async with Proxy(echo_port) as proxy, connected(proxy.port) as before:
            assert await before.echoed(b"hello") == b"hello"
            proxy.black_hole()
            async with connected(proxy.port) as during:
                for client in (before, during):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(client.echoed(b"anyone?"), 0.1)
                await proxy.heal()
                with pytest.raises(DROPPED):
                    await during.echoed(b"and now?")
            async with connected(proxy.port) as again:
                assert await again.echoed(b"back") == b"back"

    async def test_a_server_that_is_down_looks_down_through_it(self) -> None:
        async with Proxy(free_port()) as proxy, connected(proxy.port) as client:
            with pytest.raises(DROPPED):
                await client.echoed(b"hello")

    async def test_it_stands_in_front_of_postgresql(self, postgres_dsn: str, postgres_port: int) -> None:
        async with Proxy(postgres_port) as proxy:
            connection = await asyncpg.connect(proxy.through(postgres_dsn))
            assert await connection.fetchval("SELECT 1") == 1
            await proxy.cut()
            with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                await connection.fetchval("SELECT 1")

    def test_it_rewrites_the_address_and_nothing_else_of_a_url(self) -> None:
        proxy = Proxy(1)
        through = proxy.through("postgresql://ann:p%40ss@db.example:5433/notes?ssl=disable")
        assert through == f"postgresql://ann:p%40ss@127.0.0.1:{proxy.port}/notes?ssl=disable"


APP = """
import os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = os.environ.get("GREETING", "none").encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<h1>" + body + b"</h1>"})
"""


class TestAppServer:
    @pytest.fixture
    def app_folder(self, tmp_path: Path) -> Path:
        (tmp_path / "greeting.py").write_text(APP)
        return tmp_path

    async def test_it_serves_an_application_to_a_browser(self, app_folder: Path, browser: Browser) -> None:
        with AppServer.uvicorn("greeting:app", cwd=app_folder, env={"GREETING": "Good day"}) as app:
            device = await browser.new_context()
            page = await device.new_page()
            await page.goto(app.url)
            assert await page.inner_text("h1") == "Good day"
            await device.close()
            assert "GET / HTTP/1.1" in app.output

    def test_it_is_stopped_in_order_and_can_be_started_again(self, app_folder: Path) -> None:
        with AppServer.uvicorn("greeting:app", cwd=app_folder) as app:
            assert app.stop() is not None
            assert "Application shutdown complete" in app.output or "Finished server process" in app.output
            app.start()
            assert app.stop(signal.SIGKILL) == -signal.SIGKILL

    def test_what_does_not_start_says_why(self, app_folder: Path) -> None:
        app = AppServer.uvicorn("missing:app", cwd=app_folder)
        with pytest.raises(RuntimeError, match='Could not import module "missing"'), app:
            pytest.fail("it should not start")

    def test_an_interruption_while_it_starts_leaves_no_process(
        self, app_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started = []

        def interrupted(app: AppServer) -> bool:
            started.append(app._process)  # noqa: SLF001 (what is to be ended)
            raise KeyboardInterrupt

        monkeypatch.setattr(AppServer, "_answers", interrupted)
        with pytest.raises(KeyboardInterrupt), AppServer.uvicorn("greeting:app", cwd=app_folder):
            pytest.fail("it should not start")
        (process,) = started
        assert process is not None
        assert process.returncode is not None


PROGRAM = """
import pathlib, time

pathlib.Path("runs").touch()
try:
    time.sleep(1000)
finally:
    pathlib.Path("stopped its servers").touch()
"""


def test_a_program_is_given_the_time_to_stop_its_servers_when_we_are_interrupted(tmp_path: Path) -> None:
    def interrupt() -> None:
        while not (tmp_path / "runs").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor() as threads:
        threads.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            programs.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=os.environ)
    assert (tmp_path / "stopped its servers").exists()


def test_so_is_a_program_of_a_run_that_was_started_with_sigint_ignored(request: pytest.FixtureRequest) -> None:
    """As it is where a script starts the run with `&`, or CI does."""
    interrupted = test_a_program_is_given_the_time_to_stop_its_servers_when_we_are_interrupted
    run = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", f"{__file__}::{interrupted.__name__}"]
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *run]
    done = programs.run(ignoring, cwd=request.config.rootpath, env=os.environ, seconds=60)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_status_of_a_child_is_seen_where_the_run_was_started_with_sigchld_ignored(tmp_path: Path) -> None:
    waits = "import subprocess, sys; sys.exit(subprocess.run(['false']).returncode)"
    program = f"from tests.servers import signals; signals.end_in_order(); {waits}"
    ignores = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", ignores, sys.executable, "-c", program]
    assert programs.run(command, cwd=tmp_path, env=environ).returncode == 1


def test_a_program_that_does_not_stop_is_killed_with_its_servers_when_a_wait_for_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
import pathlib, signal, subprocess, sys

signal.signal(signal.SIGINT, signal.SIG_IGN)
server = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
pathlib.Path("server").write_text(str(server.pid))
server.wait()
"""
    monkeypatch.setattr(programs, "_STOP_SECONDS", 0)
    with pytest.raises(subprocess.TimeoutExpired):
        programs.run([sys.executable, "-c", program], cwd=tmp_path, env=os.environ, seconds=2)
    assert has_ended(int((tmp_path / "server").read_text()))


def test_a_child_that_does_not_end_when_it_is_told_to_is_killed() -> None:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired), child:
        programs.wait_for_end(child, seconds=0)
    assert child.returncode == -signal.SIGKILL
