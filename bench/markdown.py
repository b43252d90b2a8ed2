"""The tables of docs/performance.md from the results of `compare.py`: `python bench/markdown.py RESULTS.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAMES = {"validate": "validations", "sign_in": "sign-ins"}
COLUMNS = ("candidate", "sessions", "per second", "p50 µs", "p99 µs", "CPU µs", "Coatcheck is faster by")


def levels(document: dict[str, Any]) -> Sequence[str]:
    """The numbers of callers that were measured."""
    return sorted({level for one in document["candidates"] for level in one["runs"]}, key=int)


def rows(document: dict[str, Any], level: str) -> Iterator[tuple[str, ...]]:
    """The medians at one number of callers, in COLUMNS; the factor is against Coatcheck, same store, same number."""
    measured = [one for one in document["candidates"] if level in one["runs"]]
    rates = {_key(one): median(run["operations"] / run["seconds"] for run in one["runs"][level]) for one in measured}
    for one in measured:
        name, store, sessions = _key(one)
        rate, ours = rates[name, store, sessions], rates.get(("coatcheck", store, sessions))
        factor = "" if ours is None or name == "coatcheck" else f"{ours / rate:.2f}"
        medians = (median(run[key] for run in one["runs"][level]) for key in ("p50_us", "p99_us", "cpu_us"))
        times = (f"{value:,.1f}" for value in medians)
        yield f"{name}, {store}", f"{sessions:,}", f"{rate:,.0f}", *times, factor


def _key(candidate: dict[str, Any]) -> tuple[str, str, int]:
    return candidate["name"], candidate["store"], candidate["sessions"]


def main() -> None:
    """Print a table for each number of callers."""
    document = json.loads(Path(sys.argv[1]).read_text())
    for level in levels(document):
        lines = [COLUMNS, ("---",) * len(COLUMNS), *rows(document, level)]
        sys.stdout.write(f"\n{NAMES[document['call']]}, {level} at a time:\n\n")
        sys.stdout.writelines(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
