"""The program runs, small, so that it cannot rot. What it finds is what the documentation claims."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.postgres
def test_a_synchronous_pair_loses_nothing_and_what_should_be_seen_to_lose_something_does(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "chaos.postgresql_failover", "--rounds", "1", "--contrasts", "1"]
    done = subprocess.run(
        [*command, "--seconds", "0.5", "--callers", "4", "--results", str(results)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(results.read_text())
    assert document["synchronous"]["undone"] == 0
    (asynchronous,) = document["runs"]["asynchronous, lags"]
    assert asynchronous["broken"], "the standby lagged, and nothing that was acknowledged is missing on it"
    assert document["old primary not fenced"]["accepted"] == document["old primary not fenced"]["revoked"]
    assert document["old primary not fenced"]["confirmed"] == 0
