"""`coatcheck bench`."""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coatcheck.bench.filling import Population, fill
from coatcheck.bench.load import MIXES, Figures, Workload
from coatcheck.bench.report import can_draw, draw, table_of, write_json
from coatcheck.bench.scratch import scratch
from coatcheck.errors import CoatcheckError, ConfigurationError
from coatcheck.pod import Pod
from coatcheck.sessions.config import ServerSideSessionsConfig

_PEPPER = "made for a benchmark, guards nothing"


def bench(
    postgresql: Annotated[
        str | None, typer.Option(help="URL of a server on which a database may be created; default: a SQLite file")
    ] = None,
    redis: Annotated[str | None, typer.Option(help="URL of a Redis or Valkey server instead")] = None,
    sessions: Annotated[
        int,
        typer.Option(min=100, help="number of stored sessions; a quarter is for touches, a quarter for revocations"),
    ] = 100_000,
    mixes: Annotated[
        str, typer.Option(help=f"kinds of calls, separated by commas, out of {', '.join(MIXES)}")
    ] = ",".join(MIXES),
    concurrency: Annotated[
        str, typer.Option(help="numbers of concurrent callers, separated by commas")
    ] = "1,16,64,256",
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="seconds for each measurement")] = 2.0,
    json: Annotated[Path | None, typer.Option(help="write the figures to this file")] = None,
    chart: Annotated[
        Path | None, typer.Option(help="draw the figures into this file, .png or .svg; with the extra charts")
    ] = None,
) -> None:
    """Measure validations, touches, sign-ins and revocations on a new store, which is removed afterwards."""
    console = Console(width=None if Console().is_terminal else 110)
    try:
        levels = [_level(text) for text in concurrency.split(",")]
        wanted = mixes.split(",")
        for mix in wanted:
            if mix not in MIXES:
                raise ConfigurationError(f"--mixes: {mix!r} is unknown; allowed are {', '.join(MIXES)}")
        _check_chart(chart)
        for option, path in (("--json", json), ("--chart", chart)):  # before anything is measured
            if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
                raise ConfigurationError(f"{option}: a file cannot be written at {path}")
        if postgresql is not None and redis is not None:
            raise ConfigurationError("give --postgresql or --redis, not both: one store is measured at a time")
        scratched = scratch(postgresql=postgresql, redis=redis)
        figures = asyncio.run(_measured(console, scratched, sessions, wanted, levels, seconds))
        store = "PostgreSQL" if postgresql is not None else "SQLite" if redis is None else "Redis"
        title = f"Coatcheck on {store}, {sessions:,} sessions stored"
        console.print(table_of(figures, title=title))
        if json is not None:
            write_json(json, figures, store=store, sessions=sessions)
        if chart is not None:
            draw(chart, figures, title=title)
    except (CoatcheckError, OSError) as error:
        console.print(f"[red]{type(error).__name__}[/red]: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None


async def _measured(
    console: Console,
    scratched: AbstractAsyncContextManager[str],
    sessions: int,
    mixes: list[str],
    levels: list[int],
    seconds: float,
) -> list[Figures]:
    config = ServerSideSessionsConfig(session_key_hash_pepper=_PEPPER)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        async with scratched as url:
            pod = Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None)
            auth = pod.initialize_auth_services(token_manager_builders=[config])
            async with pod:
                filling = progress.add_task("storing sessions", total=sessions)
                population = Population(sessions, config.key_hasher(), unused_from=sessions // 2)
                await fill(url, population, lambda stored: progress.advance(filling, stored))
                workload = Workload(auth.token_manager, population, runs=len(mixes) * len(levels))
                measuring = progress.add_task("measuring", total=len(mixes) * len(levels))
                figures: list[Figures] = []
                for mix in mixes:
                    for level in levels:
                        figures.append(await workload.run(mix, concurrency=level, seconds=seconds))
                        progress.advance(measuring)
    return figures


def _check_chart(chart: Path | None) -> None:
    if chart is not None and chart.suffix not in {".png", ".svg"}:
        raise ConfigurationError("--chart must end in .png or .svg")
    if chart is not None and not can_draw():
        raise ConfigurationError("--chart needs the package matplotlib; install coatcheck[charts]")


def _level(text: str) -> int:
    with suppress(ValueError):
        if 1 <= int(text) <= 10_000:
            return int(text)
    raise ConfigurationError(f"--concurrency: {text!r} is not a number from 1 to 10000")
