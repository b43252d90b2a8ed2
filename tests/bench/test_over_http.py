"""The benchmarks of whole requests run with small numbers, so that they stay correct. No figure is judged here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.bench.programs import need
from tests.servers import programs

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]


def run(*command: str) -> str:
    environ = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}"}
    done = programs.run([sys.executable, *command], cwd=ROOT, env=environ, seconds=230)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(240)
@pytest.mark.parametrize("store", [pytest.param("postgresql", marks=pytest.mark.postgres), "sqlite"])
def test_each_application_admits_a_signed_in_caller_and_is_measured(tmp_path: Path, store: str) -> None:
    """The driver fails if a stranger is let in, or if an answer to a signed-in caller is not a success."""
    need("wrk")
    results = tmp_path / "results.json"
    small = ("--sessions", "300", "--connections", "3", "--rounds", "1", "--seconds", "1")
    shown = run("bench/over_http.py", "--stores", store, *small, "--results", str(results))
    assert "fastapi-session" in shown
    measured = json.loads(results.read_text())["applications"]
    assert len(measured) == 6
    assert all(run["operations"] > 0 and run["failures"] == 0 for one in measured for run in one["runs"])


def test_the_layers_of_a_request_are_measured() -> None:
    assert "FastAPI, with a session" in run("bench/web_layers.py", "--rounds", "1", "--requests", "20")
