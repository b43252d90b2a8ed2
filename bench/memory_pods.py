"""Measures what a pod in memory costs a test, beside validations on a SQLite file.

`make bench-testing`, or `python bench/memory_pods.py --help`. The three kinds of work take turns, and the shortest time
of each is shown: whatever else the machine does makes them longer and never shorter.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from fastapi import FastAPI

from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.testing import in_memory
from coatcheck.web import SessionMiddleware
from coatcheck.web.fastapi import session_router
from stage import show

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette says that it would rather have httpx2
    from coatcheck.testing import AppTester

if TYPE_CHECKING:
    from coatcheck import AuthServices

VALIDATIONS = 10


def main(
    rounds: Annotated[int, typer.Option(min=1, help="how often each is measured")] = 300,
    results: Annotated[Path | None, typer.Option(help="write everything that was measured here, as JSON")] = None,
) -> None:
    """Measure pods in memory beside validations on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = asyncio.run(_measured(f"sqlite:///{Path(folder) / 'sessions.db'}", rounds))
    seconds["an application in memory: open, a device, signed in, one request, close"] = _with_an_application(rounds)
    shortest = {name: min(times) for name, times in seconds.items()}
    ten = shortest[f"{VALIDATIONS} validations on SQLite, one after the other"]
    rows = [(name, f"{time * 1e6:,.0f} µs", f"{time / ten:.2f}") for name, time in shortest.items()]
    show("What a test pays", ("work", "shortest time", f"in {VALIDATIONS} validations"), rows)
    if results is not None:
        results.write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")


def _new_pod(url: str) -> tuple[Pod, AuthServices]:
    pod = Pod(url, environ={}, config_dir="no-such-folder")
    config = ServerSideSessionsConfig(session_key_hash_pepper="a pepper of the benchmark, 32 bytes")
    return pod, pod.initialize_auth_services(token_manager_builders=[config])


async def _token(auth: AuthServices) -> str:
    user = await auth.auth_users.create(scopes={"notes:read"})
    return (await auth.token_manager.create_token(auth_user_id=user.id, method="test")).token


async def _measured(url: str, rounds: int) -> dict[str, list[float]]:
    pod, auth = _new_pod(url)
    tested_pod, tested_auth = _new_pod("sqlite:///not-opened.db")
    validating: list[float] = []
    opening: list[float] = []
    whole: list[float] = []
    async with pod:
        token = await _token(auth)
        for _ in range(rounds):
            begin = time.perf_counter()
            for _ in range(VALIDATIONS):
                await auth.token_manager.validate_token(token)
            validating.append(time.perf_counter() - begin)

            begin = time.perf_counter()
            with in_memory(tested_pod):
                async with tested_pod:
                    await _token(tested_auth)
                    opening.append(time.perf_counter() - begin)
            whole.append(time.perf_counter() - begin)
    return {
        f"{VALIDATIONS} validations on SQLite, one after the other": validating,
        "a pod in memory: open, a user, a token": opening,
        "a pod in memory: open, a user, a token, close": whole,
    }


def _with_an_application(rounds: int) -> list[float]:
    pod, auth = _new_pod("sqlite:///not-opened.db")
    api = FastAPI(lifespan=pod.lifespan)
    api.include_router(session_router(auth), prefix="/session")
    app = SessionMiddleware(api, auth=auth)
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        with AppTester(app, pod) as tester:
            phone = tester.device()
            tester.signed_in(phone)
            phone.get("/session/status")
        times.append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    typer.run(main)
