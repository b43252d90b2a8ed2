"""How soon open connections end when their session is revoked: `make bench-live`, or `python bench/live.py --help`.

Two servers (uvicorn, one process each) on one store, with so many WebSockets and as many event streams open on each,
all of one user. One server is asked to revoke everything; the time is taken from its answer to the end of each
connection, as the client sees it. With `--deaf` no announcement is heard, and what is left is the bound.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import uvloop
import websockets
from rich.progress import track

import markdown
from stage import console, new_store, show
from tests.servers.ports import free_port

HERE = Path(__file__).parent
OPENING = 50  # at a time


def main(
    stores: Annotated[str, typer.Option(help="postgresql, sqlite, with commas")] = "postgresql,sqlite",
    connections: Annotated[int, typer.Option(min=1, help="of each kind, on each server")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="how often everything is opened and revoked")] = 5,
    *,
    deaf: Annotated[bool, typer.Option(help="no server hears of anything that another announces")] = False,
    results: Annotated[Path | None, typer.Option(help="write everything that was measured here, as JSON")] = None,
) -> None:
    """Measure how soon open connections end."""
    document: dict[str, Any] = {"connections": connections, "deaf": deaf, "live": {}}
    for store in stores.split(","):
        with ExitStack() as stack:
            ports = _servers(store, stack, deaf=deaf)
            document["live"][store] = []
            for _ in track(range(rounds), f"opening and revoking, {store}", console=console):
                document["live"][store].append(uvloop.run(_round(ports, connections)))
    title = f"{connections} WebSockets and {connections} event streams on each of two servers"
    show(title, markdown.LIVE_COLUMNS, markdown.live_rows(document), named_by=2)
    if results is not None:
        results.write_text(json.dumps(document, indent=1) + "\n")


def _servers(store: str, stack: ExitStack, *, deaf: bool) -> list[int]:
    environ = (
        os.environ
        | {"BENCH_URL": new_store(store, stack), "PYTHONPATH": str(HERE)}
        | ({"BENCH_DEAF": "1"} if deaf else {})
    )
    ports = [free_port(), free_port()]
    for port in ports:
        command = [sys.executable, "-m", "uvicorn", "live_app:create", "--factory", "--port", str(port)]
        options = ["--log-level", "error", "--ws", "websockets-sansio", "--backlog", "4096"]
        process = subprocess.Popen([*command, *options], env=environ)  # noqa: S603 (our own program)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        _wait_for(port, process)
    return ports


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("a server did not start; see its output above")


async def _round(ports: list[int], connections: int) -> dict[str, dict[str, float]]:
    """How many connections have ended, and the milliseconds, by kind and whether on the server that revoked."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        token = (await http.post(f"http://127.0.0.1:{ports[0]}/sign-in")).json()
        headers = {"Authorization": f"Bearer {token}"}
        opening = asyncio.Semaphore(OPENING)
        ends: dict[str, list[asyncio.Task[float]]] = {}
        opened: list[asyncio.Event] = []
        for port, where in zip(ports, ("where it was revoked", "on the other server"), strict=True):
            for kind, until_ended in (("WebSocket", _websocket), ("event stream", _stream)):
                for _ in range(connections):
                    opened.append(asyncio.Event())
                    task = asyncio.create_task(until_ended(port, headers, opening, opened[-1]))
                    ends.setdefault(f"{kind}, {where}", []).append(task)
        everybody = asyncio.gather(*(task for tasks in ends.values() for task in tasks))
        await asyncio.wait({everybody, asyncio.gather(*(one.wait() for one in opened))}, return_when="FIRST_COMPLETED")
        if everybody.done():
            everybody.result()  # raises what went wrong
            raise AssertionError("every connection has ended before anything was revoked")
        await asyncio.sleep(2)  # the look that each is given when it begins is over
        (await http.post(f"http://127.0.0.1:{ports[0]}/revoke", headers=headers)).raise_for_status()
        revoked = time.perf_counter()
        await everybody
    return {name: _figures([(task.result() - revoked) * 1000 for task in tasks]) for name, tasks in ends.items()}


def _figures(milliseconds: list[float]) -> dict[str, float]:
    milliseconds.sort()
    count = len(milliseconds)
    return {
        "ended": count,
        "p50_ms": milliseconds[count // 2],
        "p99_ms": milliseconds[count * 99 // 100],
        "last_ms": milliseconds[-1],
    }


async def _websocket(port: int, headers: dict[str, str], opening: asyncio.Semaphore, opened: asyncio.Event) -> float:
    url = f"ws://127.0.0.1:{port}/live"
    async with opening:
        connection = await websockets.connect(
            url, additional_headers=headers, proxy=None, compression=None, ping_interval=None, open_timeout=60
        )
        await connection.recv()
    opened.set()
    await connection.wait_closed()
    ended = time.perf_counter()
    if connection.close_code != 4401:
        raise AssertionError(f"a WebSocket was closed with {connection.close_code}")
    return ended


async def _stream(port: int, headers: dict[str, str], opening: asyncio.Semaphore, opened: asyncio.Event) -> float:
    async with opening:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [
            "GET /events HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            *(f"{key}: {value}" for key, value in headers.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await reader.readuntil(b"data: ")
    opened.set()
    await reader.readuntil(b"event: session_ended\n")
    ended = time.perf_counter()
    writer.close()
    return ended


if __name__ == "__main__":
    typer.run(main)
