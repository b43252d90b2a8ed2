"""Two servers on one store, with real connections open: what one revokes, both end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
import websockets
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.web import LiveConnections, SessionMiddleware
from coatcheck.web.fastapi import SignedIn  # noqa: TC001 (FastAPI reads it)
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coatcheck import AuthServices
    from tests.servers.postgres import PostgresServer

EACH = 5
PATIENCE_SECONDS = 20


class Server:
    """An application on a port of its own, with a pod of its own."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.pod = Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None)
        config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
        self.auth: AuthServices = self.pod.initialize_auth_services(token_manager_builders=[config])
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.live = LiveConnections(self.auth, **settings)
        self.left: list[str] = []

    def app(self) -> FastAPI:
        app = FastAPI(lifespan=self.pod.lifespan)
        app.add_middleware(SessionMiddleware, auth=self.auth, live=self.live)

        @app.websocket("/live")
        async def live(connection: WebSocket, user: SignedIn) -> None:
            await connection.accept()
            await connection.send_text(user.user_identifier)
            async for _ in connection.iter_text():
                pass
            self.left.append("websocket")

        @app.get("/events")
        async def events(user: SignedIn) -> StreamingResponse:
            async def endless() -> AsyncIterator[str]:
                try:
                    yield f"data: {user.user_identifier}\n\n"
                    await asyncio.Event().wait()
                finally:
                    self.left.append("stream")

            return StreamingResponse(endless(), media_type="text/event-stream")

        return app

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Server]:
        config = uvicorn.Config(self.app(), ws="websockets-sansio", log_level="critical", lifespan="on")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[self._socket]))
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        try:
            yield self
        finally:
            server.should_exit = True
            await running


async def websocket_until_closed(server: Server, token: str, opened: asyncio.Event) -> tuple[int | None, str]:
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(f"ws://{server.address}/live", additional_headers=headers, proxy=None) as connection:
        await connection.recv()
        opened.set()
        await connection.wait_closed()
        return connection.close_code, connection.close_reason or ""


async def stream_until_ended(server: Server, token: str, opened: asyncio.Event) -> str:
    headers, text = {"Authorization": f"Bearer {token}"}, ""
    async with (
        httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as http,
        http.stream("GET", f"http://{server.address}/events", headers=headers) as response,
    ):
        async for part in response.aiter_text():
            text += part
            opened.set()
    return text


async def test_a_session_that_one_server_revokes_ends_on_both(store_url: str) -> None:
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(Server(store_url).serving()) for _ in range(2)]
        ann = await here.auth.auth_users.create()
        bob = await here.auth.auth_users.create()
        token, other = [
            (await here.auth.token_manager.create_token(auth_user_id=user.id, method="email")).token
            for user in (ann, bob)
        ]
        opened: list[asyncio.Event] = []

        def open_all(open_one: object, token: str) -> list[asyncio.Task[object]]:
            tasks = []
            for server in (here, there):
                for _ in range(EACH):
                    opened.append(asyncio.Event())
                    tasks.append(asyncio.create_task(open_one(server, token, opened[-1])))  # type: ignore[operator]  # either of the two above
            return tasks

        sockets, streams = open_all(websocket_until_closed, token), open_all(stream_until_ended, token)
        spared = open_all(websocket_until_closed, other)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(one.wait() for one in opened))
            await here.auth.token_manager.revoke_all_tokens(auth_user_id=ann.id)
            assert set(await asyncio.gather(*sockets)) == {(4401, "invalid_token")}
            for text in await asyncio.gather(*streams):
                assert isinstance(text, str)
                assert "event: session_ended\ndata: {" in text
                assert '"code":"invalid_token"' in text
            while min(len(server.left) for server in (here, there)) < 2 * EACH:  # noqa: ASYNC110 (there is no event)
                await asyncio.sleep(0)
        assert not any(one.done() for one in spared)
        await here.auth.token_manager.revoke_all_tokens(auth_user_id=bob.id)
        assert set(await asyncio.gather(*spared)) == {(4401, "invalid_token")}


async def test_an_outage_without_end_ends_them_and_calls_nobody_signed_out(postgres_server: PostgresServer) -> None:
    server = Server(postgres_server.dsn(), unanswered_timeout=timedelta(milliseconds=1))
    async with server.serving(), asyncio.timeout(PATIENCE_SECONDS):
        user = await server.auth.auth_users.create()
        token = (await server.auth.token_manager.create_token(auth_user_id=user.id, method="email")).token
        opened = [asyncio.Event(), asyncio.Event()]
        closed = asyncio.create_task(websocket_until_closed(server, token, opened[0]))
        text = asyncio.create_task(stream_until_ended(server, token, opened[1]))
        await asyncio.gather(*(one.wait() for one in opened))
        await asyncio.to_thread(postgres_server.stop)
        assert await closed == (1013, "store_unavailable")
        assert await text == f"data: {user.id}\n\n"
        while len(server.left) < 2:  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(0)
