"""The tables of docs/performance.md from results: `python bench/markdown.py RESULTS.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NAMES = {"validate": "validations", "sign_in": "sign-ins"}
HTTP_COLUMNS = ("application", "store", "requests/s", "p50 µs", "p99 µs", "of the same without a session")
PRUNING_COLUMNS = ("store", "meanwhile", "validations/s", "p50 µs", "p99 µs", "p99 against alone")
JWT_COLUMNS = ("candidate", "µs", "per second", "Coatcheck on SQLite takes", "on PostgreSQL", "on Redis")
LIVE_COLUMNS = ("store", "connections", "what the client sees", "p50 ms", "p99 ms", "last ms")
LIVE_COST_COLUMNS = ("store", "connections", "server", "CPU µs for each end", "longest pause ms")
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


def http_rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The medians of whole requests, in HTTP_COLUMNS."""
    rates = {
        (app["name"], app["store"]): median(run["operations"] / run["seconds"] for run in app["runs"])
        for app in document["applications"]
    }
    for app in document["applications"]:
        name, store = app["name"], app["store"]
        without = rates[name.partition("-")[0] + "-open", store]
        share = "" if name.endswith("-open") else f"{rates[name, store] / without:.2f}"
        times = (f"{median(run[key] for run in app['runs']):,.0f}" for key in ("p50_us", "p99_us"))
        yield name, store, f"{rates[name, store]:,.0f}", *times, share


def pruning_rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The medians of validations beside a prune, in PRUNING_COLUMNS."""
    for store, measured in document["stores"].items():
        alone = median(run["p99_us"] for run in measured["alone"])
        for phase, runs in measured.items():
            if "p99_us" in runs[0]:
                rate, p50, p99 = (median(run[key] for run in runs) for key in ("per_second", "p50_us", "p99_us"))
                yield store, phase, f"{rate:,.0f}", f"{p50:,.0f}", f"{p99:,.0f}", f"{p99 / alone:.2f}"


def jwt_rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The medians of validations and decodings, in JWT_COLUMNS. The factors are Coatcheck's time by the candidate's."""
    times = {name: median(runs) for name, runs in document["jwt"].items()}
    for name, time in times.items():
        ours = (times.get(f"Coatcheck, {store}") for store in ("sqlite", "postgresql", "redis"))
        factors = ("" if one is None or name.startswith("Coatcheck") else f"{one / time:.2f}x" for one in ours)
        yield name, f"{time:,.1f}", f"{1e6 / time:,.0f}", *factors


def live_rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The times of the ends of connections, in LIVE_COLUMNS: medians of the rounds."""
    for store, scenario, rounds in _live_scenarios(document):
        for name in rounds[0]["ends"]:
            figures = (median(one["ends"][name][key] for one in rounds) for key in ("p50_ms", "p99_ms", "last_ms"))
            yield store, scenario, name, *(f"{value:,.0f}" for value in figures)


def live_cost_rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The cost of the ends for the servers, in LIVE_COST_COLUMNS: medians of the rounds."""
    for store, scenario, rounds in _live_scenarios(document):
        for place in rounds[0]["cpu_us"]:
            figures = (median(one[key][place] for one in rounds) for key in ("cpu_us", "longest_pause_ms"))
            yield store, scenario, place, *(f"{value:,.0f}" for value in figures)


def _live_scenarios(document: dict[str, Any]) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    for store, scenarios in document["live"].items():
        for scenario, rounds in scenarios.items():
            yield store, scenario, rounds


def _key(candidate: dict[str, Any]) -> tuple[str, str, int]:
    return candidate["name"], candidate["store"], candidate["sessions"]


def tables(document: dict[str, Any]) -> Iterator[str]:
    """Each table of a document of results, with its title: for `compare.py` one for each number of callers."""
    if "applications" in document:
        yield _table(HTTP_COLUMNS, http_rows(document))
    elif "live" in document:
        yield _table(LIVE_COLUMNS, live_rows(document))
        yield _table(LIVE_COST_COLUMNS, live_cost_rows(document))
    elif "jwt" in document:
        yield _table(JWT_COLUMNS, jwt_rows(document))
    elif "stores" in document:
        yield f"{document['sessions']:,} sessions:\n\n" + _table(PRUNING_COLUMNS, pruning_rows(document))
    else:
        for level in levels(document):
            title = f"{NAMES[document['call']].capitalize()}, {level} at a time:\n\n"
            yield title + _table(COLUMNS, rows(document, level))


def main() -> None:
    """Print the tables."""
    sys.stdout.write("\n".join(tables(json.loads(Path(sys.argv[1]).read_text()))))


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (columns, ("---",) * len(columns), *lines))


if __name__ == "__main__":
    main()
