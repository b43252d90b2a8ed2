"""Measures the time of a request, layer by layer, without a server: `python bench/web_layers.py`.

Each application is called in turn as an ASGI server would call it, on a SQLite store; the figures are medians of the
rounds. The difference between two lines is the cost of a layer.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
import uvloop
from fastapi import Depends, FastAPI
from rich.console import Console
from rich.table import Table

from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.bench.filling import Population, fill
from coatcheck.web import SessionMiddleware
from http_app import PEPPER, hello, hello_you, open_fastapi, session_fastapi
from tests.servers import signals

if TYPE_CHECKING:
    from coatcheck import AuthServices
    from coatcheck.web.asgi import AsgiApp

TOKENS = 2_000


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    requests: Annotated[int, typer.Option(min=1, help="in each round, to each application")] = 10_000,
) -> None:
    """Measure the layers of a request."""
    with tempfile.TemporaryDirectory() as folder:
        times = uvloop.run(_measured(f"sqlite:///{Path(folder) / 'sessions.db'}", rounds, requests))
    table = Table(title="one request, without a server")
    table.add_column("application")
    table.add_column("µs", justify="right")
    for name, runs in times.items():
        table.add_row(name, f"{median(runs):.1f}")
    Console().print(table)


async def _measured(url: str, rounds: int, requests: int) -> dict[str, list[float]]:
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
    pod = Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None)
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    population = Population(TOKENS, config.key_hasher())
    times: dict[str, list[float]] = {}
    async with pod:
        await fill(url, population, lambda _: None)
        scopes = [_scope(population.token(number)) for number in range(TOKENS)]
        for _ in range(rounds):
            for name, app in _apps(auth).items():
                times.setdefault(name, []).append(await _called(app, scopes, requests))
    return times


def _apps(auth: AuthServices) -> dict[str, AsgiApp]:
    validate = auth.token_manager.validate_token
    token_of: Any = lambda scope: scope["headers"][-1][1][len("Bearer ") :].decode()  # noqa: E731 (as short as can be)

    async def validation(scope: Any, _receive: Any, _send: Any) -> None:  # noqa: ANN401 (ASGI)
        if await validate(token_of(scope)) is None:
            raise AssertionError("a live session is refused")

    async def validation_and_fastapi(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
        await validation(scope, receive, send)
        await fastapi(scope, receive, send)

    fastapi = open_fastapi()
    return {
        "a validation": validation,
        "ASGI, open": hello,
        "ASGI, with a session": SessionMiddleware(hello_you, auth=auth),
        "FastAPI, open": fastapi,
        "FastAPI, with a dependency that does nothing": _with_a_dependency(),
        "a validation, then FastAPI, open": validation_and_fastapi,
        "FastAPI, open, in SessionMiddleware": SessionMiddleware(fastapi, auth=auth),
        "FastAPI, with a session": SessionMiddleware(session_fastapi(), auth=auth),
    }


def _with_a_dependency() -> FastAPI:
    app = FastAPI()

    async def nothing() -> str:
        return "bench-user"

    @app.get("/")
    async def anybody(user: Annotated[str, Depends(nothing)]) -> dict[str, str]:
        return {"hello": user}

    return app


async def _called(app: AsgiApp, scopes: list[dict[str, Any]], requests: int) -> float:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Any) -> None:  # noqa: ANN401 (ASGI)
        return

    start = time.perf_counter()
    for number in range(requests):
        await app({**scopes[number % len(scopes)], "state": {}}, receive, send)
    return (time.perf_counter() - start) / requests * 1e6


def _scope(token: str) -> dict[str, Any]:
    headers = [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"bench"), (b"authorization", b"Bearer " + token.encode())]
    where = {"path": "/", "raw_path": b"/", "root_path": "", "scheme": "http", "query_string": b""}
    who = {"client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8000)}
    return (
        {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "headers": headers}
        | where
        | who
    )


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
