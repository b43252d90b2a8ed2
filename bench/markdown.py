"""The tables of docs/performance.md from the results of `compare.py`: `python bench/markdown.py RESULTS.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COLUMNS = ("candidate", "per second", "p50 µs", "p99 µs", "CPU µs", "Coatcheck is faster by")


def levels(document: dict[str, Any]) -> Sequence[str]:
    """The numbers of callers that were measured."""
    return sorted({level for one in document["candidates"] for level in one["runs"]}, key=int)


def rows(document: dict[str, Any], level: str) -> Iterator[tuple[str, ...]]:
    """The medians at one number of callers, in COLUMNS; the factor is against Coatcheck on the same store."""
    rates = {
        (one["name"], one["store"]): median(run["operations"] / run["seconds"] for run in one["runs"][level])
        for one in document["candidates"]
        if level in one["runs"]
    }
    for one in document["candidates"]:
        name, store = one["name"], one["store"]
        if level not in one["runs"]:
            continue
        ours = rates.get(("coatcheck", store))
        factor = "" if ours is None or name == "coatcheck" else f"{ours / rates[name, store]:.2f}"
        medians = (median(run[key] for run in one["runs"][level]) for key in ("p50_us", "p99_us", "cpu_us"))
        yield f"{name}, {store}", f"{rates[name, store]:,.0f}", *(f"{value:,.1f}" for value in medians), factor


def main() -> None:
    """Print a table for each number of callers."""
    document = json.loads(Path(sys.argv[1]).read_text())
    for level in levels(document):
        lines = [COLUMNS, ("---",) * len(COLUMNS), *rows(document, level)]
        sys.stdout.write(f"\n{level} at a time, {document['sessions']:,} sessions:\n\n")
        sys.stdout.writelines(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
