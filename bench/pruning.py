"""Measures validations during a prune, and the time to sign one user out everywhere, in a large table.

`make bench-pruning`, or `python bench/pruning.py --help`. Half of the sessions have expired. In each round validations
are measured alone, while the pod prunes as it does in the background, and while an operator deletes expired sessions,
or searches for idle ones, as fast as possible (`admin.delete_expired_sessions`); all in one process. Then users with
10 000 sessions each are signed out everywhere.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import ExitStack, closing, suppress
from itertools import cycle
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import asyncpg
import typer
import uvloop
from rich.progress import track

import markdown
from coatcheck import Pod, ServerSideSessionsConfig, ServerSideSessionsTokenManager
from coatcheck.background.pruner import Pruner
from coatcheck.bench.filling import Population, fill
from stage import console, new_store, show
from tests.servers import signals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from coatcheck import AuthServices

PEPPER = "a pepper of the benchmark, 32 bytes"
PHASES = ("alone", "the pod prunes", "deleting expired", "searching for idle")
LIVE_FROM = "8"  # by the last digit of the id; half of them


def main(
    stores: Annotated[str, typer.Option(help="postgresql, sqlite, with commas")] = "postgresql,sqlite",
    sessions: Annotated[int, typer.Option(min=1000, help="how many are stored")] = 1_000_000,
    concurrency: Annotated[int, typer.Option(min=1, help="validations at a time")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="how often each phase is measured")] = 5,
    seconds: Annotated[float, typer.Option(min=0.05, help="how long each time")] = 2.0,
    many: Annotated[int, typer.Option(min=1, help="sessions of each user who is signed out everywhere")] = 10_000,
    results: Annotated[Path | None, typer.Option(help="write everything that was measured here, as JSON")] = None,
) -> None:
    """Measure validations beside a prune."""
    document: dict[str, Any] = {"sessions": sessions, "concurrency": concurrency, "many": many, "stores": {}}
    for store in stores.split(","):
        with ExitStack() as stack:
            url = new_store(store, stack)
            document["stores"][store] = uvloop.run(_measured(url, sessions, concurrency, rounds, seconds, many))
    _show(document)
    if results is not None:
        results.write_text(json.dumps(document, indent=1) + "\n")


async def _measured(
    url: str, sessions: int, concurrency: int, rounds: int, seconds: float, many: int
) -> dict[str, list[dict[str, float]]]:
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
    pod = Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None)
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    population = Population(sessions, config.key_hasher())
    async with pod:
        console.print(f"filling {url.partition(':')[0]} ...")
        await fill(url, population, lambda _: None)
        await _prepare(url, many, rounds)
        live = (number for number in range(sessions) if population.session_id(number)[-1] >= LIVE_FROM)
        sample = [str(population.token(number)) for number, _ in zip(live, range(20_000), strict=False)]
        tokens = cycle(sample)
        manager = auth.get_token_manager(ServerSideSessionsTokenManager)
        admin = manager.server_side_sessions.admin
        work: dict[str, Callable[[], Awaitable[int | None]]] = {
            "the pod prunes": Pruner(pod.store, pod.events).prune,
            "deleting expired": lambda: admin.delete_expired_sessions(inactive=False),
            "searching for idle": lambda: admin.delete_expired_sessions(expired=False),
        }
        measured: dict[str, list[dict[str, float]]] = {phase: [] for phase in PHASES}
        for _ in track(range(rounds), "measuring", console=console):
            for phase in PHASES:
                measured[phase].append(await _beside(work.get(phase), auth, tokens, concurrency, seconds))
        measured["signing out everywhere"] = [await _signed_out(auth, f"many-{user}", many) for user in range(rounds)]
        return measured


async def _beside(
    work: Callable[[], Awaitable[int | None]] | None,
    auth: AuthServices,
    tokens: Iterator[str],
    concurrency: int,
    seconds: float,
) -> dict[str, float]:
    """Validate for so many seconds, while `work` goes on."""
    latencies: list[float] = []
    clock, validate = time.perf_counter, auth.token_manager.validate_token
    end = clock() + seconds

    async def caller() -> None:
        now = clock()
        while now < end:
            await asyncio.sleep(
                0
            )  # as for a request that has just arrived; otherwise SQLite's callers would never let `work` run
            if await validate(next(tokens)) is None:
                raise AssertionError("a live session is refused")
            before, now = now, clock()
            latencies.append(now - before)

    async def endless() -> None:
        while work is not None:
            if not await work():
                await asyncio.sleep(0)

    beside = asyncio.create_task(endless())
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    beside.cancel()
    with suppress(asyncio.CancelledError):
        await beside
    latencies.sort()
    number = len(latencies)
    return {
        "per_second": number / seconds,
        "p50_us": latencies[number // 2] * 1e6,
        "p99_us": latencies[number * 99 // 100] * 1e6,
    }


async def _signed_out(auth: AuthServices, user: str, many: int) -> dict[str, float]:
    start = time.perf_counter()
    ended = await auth.token_manager.revoke_all_tokens(auth_user_id=user)
    if len(ended) != many:
        raise AssertionError(f"{len(ended)} sessions were ended, and not {many}")
    return {"seconds": time.perf_counter() - start}


async def _prepare(url: str, many: int, users: int) -> None:
    """Let half of the sessions expire, and give some of these to users who have many."""
    expired = f"substr(CAST(id AS text), 36) < '{LIVE_FROM}'"
    past = "1000" if url.startswith("sqlite") else "now() - interval '1 day'"
    statements = [f"UPDATE coatcheck_sessions SET expires_at = {past} WHERE {expired}"]  # noqa: S608 (constants only)
    for user in range(users):
        chosen = f"SELECT id FROM coatcheck_sessions WHERE {expired} AND user_id NOT LIKE 'many-%' ORDER BY id DESC"  # noqa: S608 (constants only)
        statements.append(
            f"UPDATE coatcheck_sessions SET user_id = 'many-{user}', expires_at = NULL "  # noqa: S608 (constants only)
            f"WHERE id IN ({chosen} LIMIT {many})"
        )
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as database:
            for statement in [*statements, "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"]:
                database.execute(statement)
        return
    connection = await asyncpg.connect(url)
    for statement in [*statements, "VACUUM ANALYZE coatcheck_sessions", "CHECKPOINT"]:
        await connection.execute(statement)
    await connection.close()


def _show(document: dict[str, Any]) -> None:
    title = f"{document['sessions']:,} sessions, {document['concurrency']} validations at a time"
    show(title, markdown.PRUNING_COLUMNS, markdown.pruning_rows(document), named_by=2)
    for store, measured in document["stores"].items():
        seconds = median(run["seconds"] for run in measured["signing out everywhere"])
        console.print(f"{store}: a user with {document['many']:,} sessions signed out everywhere in {seconds:.2f} s")


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
