"""The benchmark of live connections runs, small, so that it cannot rot. No figure is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("store", [pytest.param("postgresql", marks=pytest.mark.postgres), "sqlite"])
def test_every_connection_ends_and_is_measured(tmp_path: Path, store: str) -> None:
    """The driver itself waits for the end of each, and fails where a WebSocket is closed with another code."""
    results = tmp_path / "results.json"
    command = [sys.executable, "bench/live.py", "--stores", store, "--connections", "2", "--rounds", "1"]
    environ = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}"}
    done = subprocess.run(
        [*command, "--results", str(results)],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (measured,) = json.loads(results.read_text())["live"][store]
    assert {name: figures["ended"] for name, figures in measured.items()} == {
        f"{kind}, {where}": 2
        for kind in ("WebSocket", "event stream")
        for where in ("where it was revoked", "on the other server")
    }
