"""Measures how long the event loop stops while a store is down that many open connections depend on.

    python bench/live_outage.py --help

One process has the connections open, each with a session of its own, through FastAPI and `SessionMiddleware`; their
sockets are stand-ins. The store answers, then is unavailable for a while, then answers again:

- `sqlite`: each read fails at once, as where a connection is refused.
- `postgresql`: the connections to the server are cut, and new ones are refused.
- `postgresql-hangs`: nothing comes back any more, so that each read takes its whole time limit.

For each of the three times: the longest stop of the event loop, and the most of the processor that it took between two
looks of the watch. The second is the better one on a machine that has other work to do. With `--before` the same is
measured of another tree in turns, for a comparison in one run.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from rich.progress import track

from coatcheck import AuthServices, Pod, ServerSideSessionsConfig
from coatcheck.errors import StoreUnavailable
from coatcheck.events import AnnouncementsMissed
from coatcheck.web import LiveConnections, SessionMiddleware
from coatcheck.web.fastapi import SignedIn  # noqa: TC001 (FastAPI reads the annotations)
from stage import console, new_store, show
from tests.servers.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from coatcheck.tokens import AuthenticationInfo, TokenRefusal, TokenStanding
    from coatcheck.web.asgi import AsgiMessage

HERE = Path(__file__).parent
PEPPER = "a pepper of the benchmark, 32 bytes"
AT_A_TIME = 50  # connections are opened
LOOKING_SECONDS = 0.01
SETTLING_SECONDS = 20.0  # after which each connection was looked at in its turn
PHASES = ("store answers", "store is down", "store is back")


def main(
    stores: Annotated[
        str, typer.Option(help="sqlite, postgresql, postgresql-hangs, with commas")
    ] = "sqlite,postgresql",
    websockets: Annotated[int, typer.Option(min=1)] = 10_000,
    streams: Annotated[int, typer.Option(min=1)] = 2_000,
    seconds: Annotated[float, typer.Option(min=1, help="how long each of the three times is")] = 20.0,
    before: Annotated[Path | None, typer.Option(help="the src folder of another tree, to compare with")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 1,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure the event loop in an outage."""
    if child:
        print(json.dumps(asyncio.run(_measure(child, websockets, streams, seconds))))  # noqa: T201 (for the parent)
        return
    trees = {"this": HERE.parent / "src"} | ({} if before is None else {"before": before.resolve()})
    runs = [(store, name, tree) for store in stores.split(",") for _ in range(rounds) for name, tree in trees.items()]
    rows = []
    for store, name, tree in track(runs, "connecting, and taking the store away", console=console):
        path = [str(tree), str(HERE.parent), str(HERE)]
        command = [sys.executable, __file__, "--child", store, "--seconds", str(seconds)]
        counts = ["--websockets", str(websockets), "--streams", str(streams)]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        out = subprocess.run([*command, *counts], env=environ, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603 (our own program)
        console.print(f"{store}, {name}: {out.decode().strip()}")
        for phase, figures in json.loads(out).items():
            rows.append([store, name, phase, *(f"{figure:.0f}" for figure in figures.values())])
    title = f"{websockets} WebSockets and {streams} event streams on one worker"
    columns = ["store", "tree", "", "longest stop, ms", "most CPU, ms", "full collections", "of ms", "reads", "open"]
    show(title, columns, rows, named_by=3)


class Watch:
    """Watches the event loop and the garbage collector."""

    def __init__(self) -> None:
        """Begin."""
        self._begin()
        self._task = asyncio.create_task(self._look())
        gc.callbacks.append(self._note_collection)

    def figures(self) -> dict[str, float]:
        """The figures since the last call."""
        figures = {
            "longest_ms": self._longest * 1000,
            "most_cpu_ms": self._most_cpu * 1000,
            "full_collections": self._collections,
            "longest_collection_ms": self._longest_collection * 1000,
        }
        self._begin()
        return figures

    def _begin(self) -> None:
        self._longest = self._most_cpu = self._longest_collection = 0.0
        self._collections = 0

    async def _look(self) -> None:
        cpu = time.thread_time()
        while True:
            due = time.monotonic() + LOOKING_SECONDS
            await asyncio.sleep(LOOKING_SECONDS)
            self._longest = max(self._longest, time.monotonic() - due)
            before, cpu = cpu, time.thread_time()
            self._most_cpu = max(self._most_cpu, cpu - before)

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] < 2:
            return
        if phase == "start":
            self._began = time.thread_time()
        else:
            self._collections += 1
            self._longest_collection = max(self._longest_collection, time.thread_time() - self._began)


class Gate:
    """The token manager of `auth`, which counts the looks and answers nothing while it is shut."""

    def __init__(self, auth: AuthServices) -> None:
        """Open."""
        self.events = auth.events
        self.token_manager: Any = self
        self.looks = 0
        self.is_shut = False
        self._manager = auth.token_manager

    async def examine_token(self, token: str) -> TokenStanding:
        """Examine it."""
        self.looks += 1
        if self.is_shut:
            raise StoreUnavailable("the store cannot be reached")
        return await self._manager.examine_token(token)

    async def explain_token(self, token: str) -> AuthenticationInfo | TokenRefusal:
        """Validate it."""
        return await self._manager.explain_token(token)


async def _measure(store: str, websockets: int, streams: int, seconds: float) -> dict[str, dict[str, float]]:
    measured = {}
    with ExitStack() as stack:
        url = new_store(store.partition("-")[0], stack)
        async with AsyncExitStack() as servers:
            proxy = None
            if store.startswith("postgresql"):
                proxy = await servers.enter_async_context(Proxy(urlsplit(url).port or 5432))
                url = proxy.through(url)
            pod = Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None)
            config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
            auth = pod.initialize_auth_services(token_manager_builders=[config])
            gate = Gate(auth)
            await servers.enter_async_context(pod)
            app = _app(auth, gate)
            clients = await _connect(app, auth, [*["websocket"] * websockets, *["http"] * streams])
            await asyncio.sleep(SETTLING_SECONDS)
            gc.collect()
            watch = Watch()
            for phase in PHASES:
                looks = gate.looks
                if phase == "store is down":
                    await _take_away(store, gate, proxy)
                elif phase == "store is back":
                    await _bring_back(gate, proxy)
                await asyncio.sleep(seconds)
                still_open = sum(not one.done() for one in clients)
                measured[phase] = watch.figures() | {"looks": gate.looks - looks, "open": still_open}
            await _leave(clients)
    return measured


async def _leave(clients: list[asyncio.Task[None]]) -> None:
    for one in clients:
        one.cancel()
    await asyncio.wait(clients)


async def _take_away(store: str, gate: Gate, proxy: Proxy | None) -> None:
    if proxy is None:
        gate.is_shut = True
    elif store.endswith("hangs"):
        proxy.black_hole()
    else:
        await proxy.cut()


async def _bring_back(gate: Gate, proxy: Proxy | None) -> None:
    if proxy is None:
        gate.is_shut = False
        await gate.events.publish(AnnouncementsMissed())  # PostgreSQL's listener says so by itself
    else:
        await proxy.heal()


def _app(auth: AuthServices, gate: Gate) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, auth=auth, live=LiveConnections(gate))

    @app.websocket("/live")
    async def talk(connection: WebSocket, user: SignedIn) -> None:
        await connection.accept()
        await connection.send_text(user.user_identifier)
        async for _ in connection.iter_text():
            pass

    @app.get("/events")
    async def events(user: SignedIn) -> StreamingResponse:
        async def endless() -> AsyncIterator[str]:
            yield f"data: {user.user_identifier}\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(endless(), media_type="text/event-stream")

    return app


async def _connect(app: FastAPI, auth: AuthServices, kinds: list[str]) -> list[asyncio.Task[None]]:
    """A task for each connection, which is open."""
    clients: list[asyncio.Task[None]] = []
    for begin in range(0, len(kinds), AT_A_TIME):
        user = await auth.auth_users.create()
        portion = kinds[begin : begin + AT_A_TIME]
        tokens = await asyncio.gather(*(_sign_in(auth, user.id) for _ in portion))
        opened = [asyncio.Event() for _ in portion]
        for kind, token, event in zip(portion, tokens, opened, strict=True):
            clients.append(asyncio.create_task(_client(app, kind, token, event)))
        await asyncio.gather(*(one.wait() for one in opened))
    return clients


async def _sign_in(auth: AuthServices, user_id: str) -> str:
    while True:
        with suppress(StoreUnavailable):  # the machine has other work to do
            return (await auth.token_manager.create_token(auth_user_id=user_id, method="bench")).token


async def _client(app: FastAPI, kind: str, token: str, opened: asyncio.Event) -> None:
    """One connection to `app`, as a server has it whose client says nothing."""
    messages: Iterator[AsgiMessage] = iter(
        [{"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request"}]
    )

    async def receive() -> AsgiMessage:
        message = next(messages, None)
        if message is None:
            await asyncio.Event().wait()
        return message or {}

    async def send(message: AsgiMessage) -> None:
        if message["type"] in {"websocket.send", "http.response.body"}:
            opened.set()

    path = "/live" if kind == "websocket" else "/events"
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "ws" if kind == "websocket" else "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"authorization", b"Bearer " + token.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "subprotocols": [],
    }
    await app(scope, receive, send)


if __name__ == "__main__":
    typer.run(main)
