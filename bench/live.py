"""Measures how soon open connections end after a revocation: `make bench-live`, or `python bench/live.py --help`.

Two servers (uvicorn, one process each) on one store, with so many WebSockets and as many event streams open on each.
One server revokes all sessions of one user; the time runs from the return of the revocation to the end of each
connection, as its client sees it (`live_clients.py`). The connections belong

- to that user, so that thousands end at once, or half as many, or
- to many users, of whom several are revoked one after the other, and the connections of all others must stay open.

With `--deaf` the sessions are revoked once more on servers that hear no announcements; the time is then the bound.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer
from rich.progress import track

import markdown
from live_clients import Clients, EventStream, WebSocket
from stage import console, new_store, show
from tests.servers import signals
from tests.servers.ports import free_port
from tests.servers.programs import wait_for_end

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
DEAF_ROUNDS = 2  # of a quarter of a minute
PLACES = ("where it was revoked", "on the other server")
SETTLING_SECONDS = 2.0  # after which the first check of each new connection is over
UNWINDING_SECONDS = 0.5  # after which the applications have ended too


def main(
    stores: Annotated[str, typer.Option(help="postgresql, redis, sqlite, with commas")] = "postgresql,sqlite",
    connections: Annotated[int, typer.Option(min=1, help="of each kind, on each server")] = 1000,
    users: Annotated[int, typer.Option(min=2, help="whose connections they are in the second scenario")] = 100,
    revoked: Annotated[int, typer.Option(min=1, help="how many of those are revoked, less than all")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="how often everything is opened and revoked")] = 5,
    *,
    deaf: Annotated[bool, typer.Option(help="also where no server hears of what is announced")] = False,
    results: Annotated[Path | None, typer.Option(help="write everything that was measured here, as JSON")] = None,
) -> None:
    """Measure how soon open connections end."""
    scenarios = [
        (f"of {users} users", connections, users, min(revoked, users - 1), False, rounds),
        ("half as many, all of one user", max(1, connections // 2), 1, 1, False, rounds),
        ("all of one user", connections, 1, 1, False, rounds),
        *([("all of one user, nothing is heard", connections, 1, 1, True, DEAF_ROUNDS)] if deaf else []),
    ]
    document: dict[str, Any] = {"connections": connections, "live": {store: {} for store in stores.split(",")}}
    for store, measured in document["live"].items():
        for name, each, sharing, ending, are_deaf, times in scenarios:
            with ExitStack() as stack:
                ports = _servers(store, stack, deaf=are_deaf)
                progress = track(range(times), f"opening and revoking, {store}, {name}", console=console)
                measured[name] = [_round(ports, each, sharing, ending) for _ in progress]
    title = f"{connections} WebSockets and {connections} event streams on each of two servers"
    show(title, markdown.LIVE_COLUMNS, markdown.live_rows(document), named_by=3)
    show("of the servers", markdown.LIVE_COST_COLUMNS, markdown.live_cost_rows(document), named_by=3)
    if results is not None:
        results.write_text(json.dumps(document, indent=1) + "\n")


def _servers(store: str, stack: ExitStack, *, deaf: bool) -> list[int]:
    environ = (
        os.environ
        | {"BENCH_URL": new_store(store, stack), "PYTHONPATH": os.pathsep.join([str(HERE), *_python_path()])}
        | ({"BENCH_DEAF": "1"} if deaf else {})
    )
    ports = [free_port(), free_port()]
    for port in ports:
        command = [sys.executable, "-m", "uvicorn", "live_app:create", "--factory", "--port", str(port)]
        options = ["--log-level", "error", "--ws", "websockets-sansio", "--backlog", "4096"]
        process = subprocess.Popen([*command, *options], env=environ)  # noqa: S603 (our own program)
        stack.callback(wait_for_end, process)
        stack.callback(process.terminate)
        _wait_for(port, process)
    return ports


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


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


def _round(ports: list[int], connections: int, users: int, revoked: int) -> dict[str, Any]:
    """The figures of one round: milliseconds by kind and place, and the cost of the ends for each server."""
    each = max(1, connections // users)
    measured: dict[str, list[float]] = {}
    with httpx.Client(trust_env=False, timeout=60) as http, closing(Clients()) as clients:
        everybody = [_User(http, clients, ports, each) for _ in range(users)]
        clients.run_for(SETTLING_SECONDS)
        before = _costs(http, ports)
        for user in everybody[:revoked]:
            user.revoke_and_wait(clients, ports[0])
            for name, milliseconds in user.milliseconds():
                measured.setdefault(name, []).extend(milliseconds)
        clients.run_for(UNWINDING_SECONDS)
        after = _costs(http, ports)
        missing = (users - revoked) * each * 4 - len(clients)
        if missing:
            raise AssertionError(f"{missing} connections of others have ended too")
    return {
        "ends": {name: _figures(milliseconds) for name, milliseconds in measured.items()},
        "cpu_us": {
            place: (now["cpu_seconds"] - then["cpu_seconds"]) * 1e6 / (revoked * each * 2)
            for place, then, now in zip(PLACES, before, after, strict=True)
        },
        "longest_pause_ms": {place: now["longest_pause_ms"] for place, now in zip(PLACES, after, strict=True)},
    }


class _User:
    """A user with a number of connections of each kind on each server, all of one session."""

    def __init__(self, http: httpx.Client, clients: Clients, ports: list[int], each: int) -> None:
        self.token = http.post(f"http://127.0.0.1:{ports[0]}/sign-in").json()
        self.connections: list[list[WebSocket | EventStream]] = []
        self.revoked_at = 0.0
        for port in ports:
            theirs = [kind() for _ in range(each) for kind in (WebSocket, EventStream)]
            clients.open((port, self.token, one) for one in theirs)
            self.connections.append(theirs)

    def revoke_and_wait(self, clients: Clients, port: int) -> None:
        """Revoke the user's sessions, and return when all connections have ended."""
        ending = [one for theirs in self.connections for one in theirs]
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as request:
            request.request("POST", "/revoke", headers={"Authorization": f"Bearer {self.token}"})
            clients.run_until(lambda: all(one.ended_at is not None for one in ending))
            response = request.getresponse()
            if response.status != HTTPStatus.OK:
                raise AssertionError(f"the revocation was answered with {response.status}")
            # All processes share the machine's clock (CLOCK_MONOTONIC).
            self.revoked_at = json.load(response)
        clients.forget(ending)

    def milliseconds(self) -> Iterator[tuple[str, list[float]]]:
        """The time of each end, by kind and place. A WebSocket gets a close frame, and is then closed."""
        for place, theirs in zip(PLACES, self.connections, strict=True):
            for name, kind, moment in (
                ("WebSocket, close frame", WebSocket, "told_at"),
                ("WebSocket, closed", WebSocket, "ended_at"),
                ("event stream, ended", EventStream, "ended_at"),
            ):
                moments = [getattr(one, moment) for one in theirs if isinstance(one, kind)]
                yield f"{name}, {place}", [(one - self.revoked_at) * 1000 for one in moments]


def _costs(http: httpx.Client, ports: list[int]) -> list[dict[str, float]]:
    return [http.post(f"http://127.0.0.1:{port}/costs").json() for port in ports]


def _figures(milliseconds: list[float]) -> dict[str, float]:
    milliseconds.sort()
    count = len(milliseconds)
    return {
        "ended": count,
        "p50_ms": milliseconds[count // 2],
        "p99_ms": milliseconds[count * 99 // 100],
        "last_ms": milliseconds[-1],
    }


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
