"""The tables and results of the programs in this folder."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from chaos.checker import Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from chaos.failover import Figures

console = Console(width=None if sys.stdout.isatty() else 160)

_COLUMNS = (
    "rounds",
    "calls",
    "revocations acknowledged",
    "of these undone",
    "indeterminate",
    "never confirmed",
    "signed out wrongly",
    "other promises broken",
    "s without writes",
)

_LEGEND = (
    "acknowledged: revocations, before the old primary was gone; undone: of these, accepted at the last look; "
    "indeterminate: said so at least once; never confirmed: of these, when the caller gave up; s: median (longest)"
)


def show(title: str, runs: Mapping[str, Sequence[Figures]]) -> None:
    """Show a table of failovers: one row for each way, the sum of its rounds."""
    table = Table(title=title)
    table.add_column("standby, and what happens", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for name, rounds in runs.items():
        if rounds:
            table.add_row(name, *_row(rounds))
    console.print(table)
    console.print(_LEGEND)


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar of `total` steps. The function that it gives goes on to the next step, whose name it takes."""
    with Progress(console=console) as bar:
        task = bar.add_task("failing over", total=total)
        names: list[str] = []

        def advance(name: str) -> None:
            bar.update(task, description=name, completed=len(names))
            names.append(name)

        yield advance
        bar.update(task, completed=total)


def bound(undone: int, acknowledged: int) -> str:
    """The bound that these counts allow: if nothing was undone, the rule of three."""
    if undone or not acknowledged:
        return f"{undone} of {acknowledged:,} acknowledged revocations were undone"
    return (
        f"0 of {acknowledged:,} acknowledged revocations were undone; "
        f"95 % upper bound 3/n = {3 / acknowledged:.3%} of those that are acknowledged within seconds of a failover"
    )


def broken(rounds: Sequence[Figures], *promises: Promise) -> int:
    """The number of times that these promises were broken."""
    return sum(one.broken.get(str(promise), 0) for one in rounds for promise in promises)


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write all figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    console.print(f"results: {path}")


def _row(rounds: Sequence[Figures]) -> tuple[str, ...]:
    acknowledged = sum(one.acknowledged for one in rounds)
    others = [promise for promise in Promise if promise is not Promise.NO_FALSE_SIGN_OUT]
    seconds = [one.unavailable_seconds for one in rounds]
    counts = (
        len(rounds),
        sum(one.operations for one in rounds),
        acknowledged,
        acknowledged - sum(one.survived for one in rounds),
        sum(one.indeterminate for one in rounds),
        sum(one.unconfirmed for one in rounds),
        broken(rounds, Promise.NO_FALSE_SIGN_OUT),
        broken(rounds, *others),
    )
    return (*(f"{count:,}" for count in counts), f"{median(seconds):.1f} ({max(seconds):.1f})")
