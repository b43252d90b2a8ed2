"""Measures the CPU of a validation on PostgreSQL, with and without the driver: `bench/validation_profile.py`.

Both run the same code with the same number of callers. Without the driver, rows that asyncpg has made before come from
memory in the next step of the event loop; only Coatcheck and the event loop are left. The profile of that run shows the
functions that take the time. A profiler slows each call down, so read the profile as an order, not as times.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import time
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any
from unittest.mock import patch

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.bench.filling import Population, fill
from coatcheck.stores.sql.postgresql.batches import READ_MANY, READ_ONE
from coatcheck.stores.sql.postgresql.prepared_connections import Fetching, PreparedConnection
from coatcheck.stores.sql.postgresql.store import PostgresStore
from contract import sample_of
from tests.servers import signals
from tests.servers.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    import asyncpg

PEPPER = "a pepper of the benchmark, 32 bytes"
SHOWN = 12

console = Console()


def main(
    sessions: Annotated[int, typer.Option(min=100, help="how many are stored")] = 100_000,
    concurrency: Annotated[int, typer.Option(min=1, help="validations at a time")] = 64,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    seconds: Annotated[float, typer.Option(min=0.05, help="how long each time")] = 1.0,
) -> None:
    """Measure the CPU of a validation, with the driver and without."""
    server = PostgresServer(durable=True)
    try:
        uvloop.run(_measured(server.dsn(), sessions, concurrency, rounds, seconds))
    finally:
        server.remove()


async def _measured(dsn: str, sessions: int, concurrency: int, rounds: int, seconds: float) -> None:
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
    store = PostgresStore(dsn)
    reader = store._readers[0]  # noqa: SLF001 (nobody else asks it while the rows are read)
    pod = Pod(store, environ={}, config_dir="no-such-folder", prune_interval=None)
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    population = Population(sessions, config.key_hasher())
    async with pod:
        await fill(dsn, population, lambda _: None)
        numbers = list(sample_of(sessions))
        tokens = cycle([str(population.token(number)) for number in numbers])
        without = patch.object(PreparedConnection, "fetch", await _from_memory(reader, population, numbers))
        times: dict[str, list[float]] = {"with the driver": [], "without the driver": []}
        call = auth.token_manager.validate_token
        for _ in range(rounds):
            times["with the driver"].append(await _cpu(call, tokens, concurrency, seconds))
            with without:
                times["without the driver"].append(await _cpu(call, tokens, concurrency, seconds))
        profile = cProfile.Profile()
        with without, profile:
            await _cpu(call, tokens, concurrency, seconds)
    table = Table()
    table.add_column(f"CPU of a validation, {concurrency} at a time")
    table.add_column("µs", justify="right")
    for name, runs in times.items():
        table.add_row(name, f"{median(runs):.1f}")
    console.print(table)
    _show(pstats.Stats(profile))


async def _from_memory(
    reader: Fetching, population: Population, numbers: Sequence[int]
) -> Callable[..., Awaitable[object]]:
    """A `PreparedConnection.fetch` that answers the reads of these sessions with the driver's own rows."""
    rows: dict[str, asyncpg.Record] = {}
    for start in range(0, len(numbers), 1000):
        ids = [population.session_id(number) for number in numbers[start : start + 1000]]
        rows |= {str(row[0]): row for row in await reader.fetch(READ_MANY, ids)}

    async def fetch(_: PreparedConnection, statement: str, asked: Any) -> list[asyncpg.Record]:  # noqa: ANN401 (one or many)
        await asyncio.sleep(0)
        return [rows[asked]] if statement == READ_ONE else [rows[one] for one in asked]

    return fetch


async def _cpu(
    call: Callable[[str], Awaitable[object]], tokens: Iterator[str], concurrency: int, seconds: float
) -> float:
    done = 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            if await call(next(tokens)) is None:
                raise AssertionError("a live session is refused")
            done += 1

    start = time.process_time()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return (time.process_time() - start) / done * 1e6


def _show(stats: Any) -> None:  # noqa: ANN401 (its attributes are not typed)
    table = Table(title="own time of the functions, without the driver")
    for column in ("%", "calls per validation", "function"):
        table.add_column(column, justify="left" if column == "function" else "right")
    total = stats.total_tt
    validations = next(count for (_, _, name), (count, *_) in stats.stats.items() if name == "parse_token")
    by_time = sorted(stats.stats.items(), key=lambda item: -item[1][2])
    for (file, _line, name), (_, calls, own, *_rest) in by_time[:SHOWN]:
        where = "" if file == "~" else f"{Path(file).name}: "
        table.add_row(f"{own / total * 100:.1f}", f"{calls / validations:.2f}", f"{where}{name}".replace("[", r"\["))
    console.print(table)


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
