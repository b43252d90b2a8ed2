"""The servers that other tests stand on do what they say."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.servers.app import AppServer
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser


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
