"""The benchmark of pruning runs with small numbers, so that it stays correct. No figure is judged here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.bench.test_over_http import run

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.extended


@pytest.mark.parametrize("store", [pytest.param("postgresql", marks=pytest.mark.postgres), "sqlite"])
def test_validations_are_measured_beside_each_part_of_a_prune(tmp_path: Path, store: str) -> None:
    """The program fails if a live session is refused, or if signing out everywhere leaves one."""
    results = tmp_path / "results.json"
    small = ("--sessions", "2000", "--many", "10", "--rounds", "2", "--seconds", "0.1", "--concurrency", "3")
    run("bench/pruning.py", "--stores", store, *small, "--results", str(results))
    measured = json.loads(results.read_text())["stores"][store]
    assert [len(runs) for runs in measured.values()] == [2, 2, 2, 2, 2]
    assert all(one["per_second"] > 0 for one in measured["deleting expired"])
