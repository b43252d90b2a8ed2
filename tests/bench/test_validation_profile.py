"""The profile of a validation runs with small numbers, so that it stays correct. No figure is judged here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.servers.programs import run

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]


@pytest.mark.postgres
def test_a_validation_is_measured_with_and_without_the_driver() -> None:
    environ = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}", "COLUMNS": "120"}
    small = ("--sessions", "300", "--concurrency", "3", "--rounds", "1", "--seconds", "0.05")
    command = [sys.executable, "bench/validation_profile.py", *small]
    done = run(command, cwd=ROOT, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without the driver" in done.stdout
    assert "parse_token" in done.stdout
