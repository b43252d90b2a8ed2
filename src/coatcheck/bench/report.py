"""Figures as a table, as JSON and as a chart."""

from __future__ import annotations

import json
import platform
import sqlite3
import sys
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from coatcheck.bench.load import Figures


def table_of(figures: Sequence[Figures], *, title: str) -> Table:
    """The figures as a table for a terminal."""
    table = Table(title=title)
    table.add_column("mix")
    for column in ("callers", "per second", "p50 µs", "p99 µs", "CPU µs per call"):
        table.add_column(column, justify="right")
    previous = ""
    for one in figures:
        if previous and one.mix != previous:
            table.add_section()
        table.add_row(
            one.mix if one.mix != previous else "",
            str(one.concurrency),
            f"{one.per_second:,.0f}",
            f"{one.p50_us:,.0f}",
            f"{one.p99_us:,.0f}",
            f"{one.cpu_us:,.1f}",
        )
        previous = one.mix
    return table


def write_json(path: Path, figures: Sequence[Figures], *, store: str, sessions: int) -> None:
    """Write the figures, with the versions and the machine that they were measured on."""
    document = {
        "store": store,
        "sessions": sessions,
        "machine": {"system": platform.platform(), "python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version},
        "versions": {name: version(name) for name in ("coatcheck", "sqlalchemy")},
        "figures": [asdict(one) | {"per_second": one.per_second} for one in figures],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def can_draw() -> bool:
    """Whether matplotlib is installed. It is not imported: that takes a second."""
    return find_spec("matplotlib") is not None


def draw(path: Path, figures: Sequence[Figures], *, title: str) -> None:
    """Draw calls per second and latency by the number of callers, as PNG or SVG, as the ending of `path` says."""
    import matplotlib as mpl  # noqa: PLC0415 (takes a second to load, and only a chart needs it)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    chart, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for mix in dict.fromkeys(one.mix for one in figures):
        runs = [one for one in figures if one.mix == mix]
        callers = [one.concurrency for one in runs]
        (line,) = left.plot(callers, [one.per_second for one in runs], marker="o", label=mix)
        right.plot(callers, [one.p50_us / 1000 for one in runs], marker="o", color=line.get_color(), label=mix)
        right.plot(callers, [one.p99_us / 1000 for one in runs], linestyle=":", color=line.get_color())
    levels = sorted({one.concurrency for one in figures})
    for axes, label in ((left, "calls per second"), (right, "milliseconds: p50, dotted p99")):
        axes.set(xscale="log", yscale="log", xlabel="callers at a time", title=label)
        axes.set_xticks(levels, [str(level) for level in levels])
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
    left.legend(frameon=False)
    chart.suptitle(title)
    chart.savefig(path, dpi=140)
    plt.close(chart)
