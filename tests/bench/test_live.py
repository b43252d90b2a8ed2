"""The benchmark of live connections runs with small numbers, so that it stays correct. No figure is judged here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.servers.programs import run

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]


SEEN = ("WebSocket, close frame", "WebSocket, closed", "event stream, ended")
PLACES = ("where it was revoked", "on the other server")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("store", [pytest.param("postgresql", marks=pytest.mark.postgres), "sqlite"])
def test_only_the_connections_of_the_revoked_user_end(tmp_path: Path, store: str) -> None:
    """The driver waits for the end of each connection, and fails if one ends in another way or another one ends."""
    results = tmp_path / "results.json"
    command = [sys.executable, "bench/live.py", "--stores", store, "--rounds", "1"]
    environ = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}"}
    done = run(
        [*command, "--connections", "6", "--users", "3", "--revoked", "2", "--results", str(results)],
        cwd=ROOT,
        env=environ,
        seconds=230,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    scenarios = json.loads(results.read_text())["live"][store]
    for scenario, ended in (("of 3 users", 4), ("half as many, all of one user", 3), ("all of one user", 6)):
        (measured,) = scenarios[scenario]
        assert {name: figures["ended"] for name, figures in measured["ends"].items()} == {
            f"{what}, {place}": ended for what in SEEN for place in PLACES
        }
        assert set(measured["cpu_us"]) == set(measured["longest_pause_ms"]) == set(PLACES)
