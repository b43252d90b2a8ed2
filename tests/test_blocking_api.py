"""The calls of `auth.from_threads` are written from the asynchronous ones, by a program that needs ruff."""

from __future__ import annotations

import subprocess
import sys

from tests.pages import ROOT


def test_the_blocking_calls_are_in_step_with_the_asynchronous_ones() -> None:
    command = [sys.executable, "scripts/blocking-api", "check"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
