"""Counts the functions of Coatcheck that one signed-in request calls, on each store: `bench/calls.py`.

One warmed request with a bearer token through `SessionMiddleware` around a bare ASGI application that reads the body
and requires a scope. Each time that a function of `src/coatcheck` is entered, or goes on after it has waited, counts,
as `sys.setprofile` sees it. Unlike a time this figure is the same on every machine that has the same Python, so a test
holds it to `LIMITS`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import coatcheck
from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.web import SessionMiddleware, require
from stage import new_store, show
from tests.servers import signals

if TYPE_CHECKING:
    from types import FrameType

    from coatcheck.web.asgi import AsgiApp, AsgiMessage, AsgiScope, Receive, Send

LIMITS = {"sqlite": 40, "postgresql": 60, "redis": 85}
"""The most calls that a request may make on each store. Lower them with the figures."""

WARM_UP = 50
COUNTED = 20
"""Of so many requests the one with the fewest calls counts.

Others may have a few more: where one of the pod's own tasks runs in between, or an answer arrives in two pieces.
"""

SOURCE = str(Path(coatcheck.__file__).parent)


def main(
    stores: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(LIMITS)}; all of them if none")] = None,
    names: Annotated[bool, typer.Option("--names", help="list the functions too")] = False,
) -> None:
    """Count the calls of one request. The exit status is 1 where they are more than `LIMITS` allows."""
    if unknown := set(stores or ()) - LIMITS.keys():
        raise typer.BadParameter(f"{' '.join(sorted(unknown))} is no store; there are {', '.join(LIMITS)}")
    is_too_much = False
    for store in stores or LIMITS:
        with ExitStack() as stack:
            calls = asyncio.run(calls_of_a_request(new_store(store, stack)))
        typer.echo(f"{store}: {calls.total()} calls (at most {LIMITS[store]})")
        is_too_much |= calls.total() > LIMITS[store]
        if names:
            show(store, ("function", "calls"), [(name, str(count)) for name, count in calls.most_common()])
    raise typer.Exit(int(is_too_much))


async def calls_of_a_request(url: str) -> Counter[str]:
    """The functions that one request calls, and how often, with sessions in the store at `url`."""
    config = ServerSideSessionsConfig(session_key_hash_pepper="a pepper of the benchmark, 32 bytes")
    pod = Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None)
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    async with pod:
        user = await auth.auth_users.create(scopes={"notes:read"})
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="bench")
        app = SessionMiddleware(_lists_notes, auth=auth)
        for _ in range(WARM_UP):
            await _request(app, success.token)
        return min([await _counted(app, success.token) for _ in range(COUNTED)], key=Counter.total)


async def _counted(app: AsgiApp, token: str) -> Counter[str]:
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:  # noqa: ANN401 (what is called or returned)
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(SOURCE):
            calls[f"{code.co_filename[len(SOURCE) + 1 :]}: {code.co_qualname}"] += 1

    sys.setprofile(count)
    try:
        await _request(app, token)
    finally:
        sys.setprofile(None)
    return calls


async def _lists_notes(scope: AsgiScope, receive: Receive, send: Send) -> None:
    require(scope, "notes:read")
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"no notes"})


async def _request(app: AsgiApp, token: str) -> None:
    sent: list[AsgiMessage] = []

    async def receive() -> AsgiMessage:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/notes",
        "query_string": b"",
        "scheme": "http",
        "client": ("192.0.2.7", 50000),
        "headers": [(b"host", b"example.org"), (b"authorization", b"Bearer " + token.encode())],
    }
    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        raise AssertionError(f"a signed-in request was answered with {sent[0]['status']}")


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
