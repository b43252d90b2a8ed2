"""Whole HTTP requests, with a session and without one: `make bench-http`, or `python bench/over_http.py --help`.

Each application is a uvicorn process with one worker (uvloop, httptools); wrk asks them in turn, each request with
another token, the applications without sessions too. wrk, the applications and the database share the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

import markdown
from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.bench.filling import Population, fill
from contract import sample_of
from http_app import PEPPER
from stage import console, new_store, show
from tests.servers import signals
from tests.servers.ports import free_port
from tests.servers.programs import wait_for_end

HERE = Path(__file__).parent
APPS = {
    "asgi": ("asgi-open", "asgi-session", "asgi-cookie"),
    "fastapi": ("fastapi-open", "fastapi-session", "fastapi-cookie"),
}
PACKAGES = ("coatcheck", "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "asyncpg")

TOKENS = 2_000
"""The number of sessions in use. Each is touched once a minute, as by its user's next click."""


def main(
    stores: Annotated[str, typer.Option(help="postgresql, sqlite, with commas")] = "postgresql,sqlite",
    sessions: Annotated[int, typer.Option(min=2, help="how many are stored")] = 1_000_000,
    connections: Annotated[int, typer.Option(min=1, help="wrk's connections")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="how often each is measured")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="how long each time")] = 3,
    results: Annotated[Path | None, typer.Option(help="write everything that was measured here, as JSON")] = None,
) -> None:
    """Measure whole HTTP requests, side by side."""
    if shutil.which("wrk") is None:
        raise typer.BadParameter("wrk is not installed; on Debian: scripts/apt-install wrk")
    with ExitStack() as stack:
        running = []
        for store in stores.split(","):
            url, tokens = _filled(store, sessions, stack)
            for names in APPS.values():
                running += [_start(name, store, url, tokens, stack) for name in names]
        for _ in track(range(rounds), "measuring", console=console):
            for app in running:
                app["runs"].append(_asked(app, connections, seconds))
    document = {
        "sessions": sessions,
        "connections": connections,
        "seconds": seconds,
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in PACKAGES},
        "applications": [{key: app[key] for key in ("name", "store", "runs")} for app in running],
    }
    title = f"HTTP, {connections} connections, {sessions:,} sessions"
    show(title, markdown.HTTP_COLUMNS, markdown.http_rows(document), named_by=2)
    if results is not None:
        results.write_text(json.dumps(document, indent=1) + "\n")


def _filled(store: str, sessions: int, stack: ExitStack) -> tuple[str, Path]:
    folder = Path(tempfile.mkdtemp(prefix="coatcheck-bench-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    url = new_store(store, stack)
    population = Population(sessions, ServerSideSessionsConfig(session_key_hash_pepper=PEPPER).key_hasher())
    console.print(f"filling {store} ...")
    asyncio.run(_fill(url, population))
    tokens = folder / "tokens"
    tokens.touch(mode=0o600)
    sample = list(sample_of(sessions))
    chosen = [str(population.token(number)) for number in sample[:: max(1, len(sample) // TOKENS)]]
    tokens.write_text("\n".join(chosen) + "\n")
    return url, tokens


async def _fill(url: str, population: Population) -> None:
    async with Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None):  # makes the tables
        await fill(url, population, lambda _: None)


def _start(name: str, store: str, url: str, tokens: Path, stack: ExitStack) -> dict[str, Any]:
    port = free_port()
    server = ["-m", "uvicorn", "http_app:create", "--factory", "--app-dir", str(HERE), "--port", str(port)]
    options = ["--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools"]
    environ = os.environ | {"BENCH_APP": name, "BENCH_URL": url}
    process = subprocess.Popen([sys.executable, *server, *options], env=environ)  # noqa: S603 (our own program)
    stack.callback(wait_for_end, process)
    stack.callback(process.terminate)
    address = f"http://127.0.0.1:{port}/"
    _wait_for(address, process)
    token = tokens.read_text().partition("\n")[0]
    cookie = name.endswith("-cookie")
    header = ("Cookie", f"__Host-coatcheck={token}") if cookie else ("Authorization", f"Bearer {token}")
    _expect(_status(address, header) == 200, f"{name} refuses who is signed in")
    if not name.endswith("-open"):
        _expect(_status(address) == 401, f"{name} lets strangers in")
    return {"name": name, "store": store, "address": address, "tokens": tokens, "as_cookie": cookie, "runs": []}


def _asked(app: dict[str, Any], connections: int, seconds: int) -> dict[str, float]:
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s"]
    command += ["-s", str(HERE / "requests.lua")]
    environ = os.environ | {"BENCH_TOKENS": str(app["tokens"]), "BENCH_AS_COOKIE": "1" if app["as_cookie"] else "0"}
    done = subprocess.run([*command, app["address"]], env=environ, capture_output=True, text=True, check=True)  # noqa: S603 (fixed)
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    _expect(figures["operations"] > 0 and figures["failures"] == 0, f"{app['name']}: {done.stdout}")
    return figures


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < give_up:
        try:
            _status(address)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("an application did not start; see its output above")


def _status(address: str, *headers: tuple[str, str]) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=dict(headers))) as answer:  # noqa: S310 (our own address)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise RuntimeError(otherwise)


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
