"""The tables of docs/performance.md from the results of `compare.py`: `python bench/markdown.py RESULTS.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any


def rows(document: dict[str, Any], level: str) -> list[str]:
    """One table: medians at one number of callers."""
    figures: dict[tuple[str, str], dict[str, float]] = {}
    for one in document["candidates"]:
        runs = one["runs"].get(level)
        if runs:
            rate = median(run["operations"] / run["seconds"] for run in runs)
            figures[one["name"], one["store"]] = {"rate": rate} | {
                name: median(run[name] for run in runs) for name in ("p50_us", "p99_us", "cpu_us")
            }
    lines = [
        "| candidate | store | per second | p50 µs | p99 µs | CPU µs | Coatcheck is faster by |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, store), own in figures.items():
        ours = figures.get(("coatcheck", store))
        factor = "" if ours is None or name == "coatcheck" else f"{ours['rate'] / own['rate']:.2f}"
        numbers = [f"{own['rate']:,.0f}", *(f"{own[key]:,.1f}" for key in ("p50_us", "p99_us", "cpu_us"))]
        lines.append(f"| {name} | {store} | {' | '.join(numbers)} | {factor} |")
    return lines


def main() -> None:
    """Print a table for each number of callers."""
    document = json.loads(Path(sys.argv[1]).read_text())
    levels = sorted({level for one in document["candidates"] for level in one["runs"]}, key=int)
    for level in levels:
        sys.stdout.write(f"\n{level} at a time, {document['sessions']:,} sessions:\n\n")
        sys.stdout.write("\n".join(rows(document, level)) + "\n")


if __name__ == "__main__":
    main()
