"""The benchmark of pods in memory runs with small numbers, so that it stays correct. No figure is judged here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.bench.test_over_http import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.extended


def test_each_kind_of_work_is_measured_as_often(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    run("bench/memory_pods.py", "--rounds", "2", "--results", str(results))
    measured = json.loads(results.read_text())
    assert [len(times) for times in measured.values()] == [2, 2, 2, 2]
    assert all(time > 0 for times in measured.values() for time in times)
