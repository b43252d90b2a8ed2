"""The table of the promises is true: each promise has a row, and each row says where its tests run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.where_tests_run import ANYWHERE, BEGINS_WITH

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/explanation/promises.md").read_text(encoding="utf-8")
PROMISES, TABLE = PAGE.split("## What the store promises")[0].split("## Where each promise was run")

EXTENDED = "†"
"""Behind a place: only `make test-all` runs tests there. Behind a test: only `make test-all` runs it."""

ALL_STORES = {"SQLite", "PostgreSQL", "Redis", "a Redis Cluster", "Valkey", f"a Valkey Cluster{EXTENDED}"}
STORES = {store.rstrip(EXTENDED) for store in ALL_STORES}
BROWSERS = {"Chromium", "Firefox", "WebKit"}
FRAMEWORKS = {
    "plain ASGI": r"async def \w+\(_?scope: AsgiScope, _?receive",
    "Starlette": r"\bstarlette\.applications\b",
    "FastAPI": r"\bfrom fastapi\b|\btests\.browser\.spa\b|\bnotes_server\b",
    "Litestar": r"\bwith_litestar\b",
    "Quart": r"\bwith_quart\b",
    "Django": r"\bwith_django\b",
}
"""The text by which a test file of each is known."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    promise: str
    stores: str
    processes: str
    loops: str
    transactions: str
    frameworks: str
    browsers: str
    tests: str

    @property
    def named_tests(self) -> dict[str, bool]:
        """Files, or classes in them, and whether `make test` runs them."""
        return {name: not mark for name, mark in re.findall(rf"`(tests/[^`]+)`({EXTENDED}?)", self.tests)}

    @property
    def named_places(self) -> set[str]:
        """The stores, the frameworks and the browsers."""
        cells = f"{self.stores},{self.frameworks},{self.browsers}".replace(";", ",").split(",")
        parts = {cell.strip() for cell in cells}
        known = {*STORES, *FRAMEWORKS, *BROWSERS}
        return {part for part in parts if part.rstrip(EXTENDED) in known} | (
            ALL_STORES if self.stores == "all" else set()
        )


ROWS = [
    Row(*(cell.strip() for cell in line.strip("|").split("|")))
    for line in TABLE.splitlines()
    if line.startswith("| ") and not line.startswith("| promise |")
]


def places_of(named: Iterable[str]) -> dict[str, dict[str, bool]]:
    """Where pytest runs these tests, and whether `make test` does. The text of a file shows frameworks and SQLite."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "tests.where_tests_run", *{name.partition("::")[0] for name in named}],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(BEGINS_WITH)]
    collected: dict[str, dict[str, bool]] = json.loads(line.removeprefix(BEGINS_WITH))
    in_text = {name: _places_in_the_text(name.partition("::")[0]) for name in named}
    return {name: dict.fromkeys(in_text[name], collected[name][ANYWHERE]) | collected[name] for name in named}


def _places_in_the_text(file: str) -> set[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    signs = {**FRAMEWORKS, "SQLite": r"(?i)sqlite"}
    return {place for place, sign in signs.items() if re.search(sign, text)}


def test_every_promise_has_a_row_in_their_order() -> None:
    promises = [name.rstrip(".") for name in re.findall(r"^\*\*(.+?)\*\*", PROMISES, flags=re.MULTILINE | re.DOTALL)]
    assert [row.promise for row in ROWS] == promises


def test_every_file_that_the_page_names_is_there_and_every_row_names_one() -> None:
    named = set(re.findall(r"\b(?:tests|src|chaos)/[\w/]+(?:\.\w+)?", PAGE))
    assert [file for file in sorted(named) if not (ROOT / file).exists()] == []
    assert [row.promise for row in ROWS if not row.named_tests] == []


def test_each_row_names_the_stores_frameworks_and_browsers_in_which_its_tests_run() -> None:
    places = places_of(sorted({name for row in ROWS for name in row.named_tests}))
    said, run = {}, {}
    for row in ROWS:
        in_make_test: dict[str, bool] = {}
        for name in row.named_tests:
            for place, is_in_make_test in places[name].items():
                in_make_test[place] = in_make_test.get(place, False) or is_in_make_test
        del in_make_test[ANYWHERE]
        said[row.promise] = sorted(row.named_places)
        run[row.promise] = sorted(place if it_is else place + EXTENDED for place, it_is in in_make_test.items())
    assert said == run
    said_of_tests = {name: it_is for row in ROWS for name, it_is in row.named_tests.items()}
    assert said_of_tests == {name: places[name][ANYWHERE] for name in said_of_tests}
