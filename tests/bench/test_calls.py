"""A signed-in request calls no more of our functions than `bench/calls.py` allows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers import programs

if TYPE_CHECKING:
    import subprocess

ROOT = Path(__file__).parents[2]

STRICTER = "import sys, typer, calls; calls.LIMITS[sys.argv[1]] = 1; typer.run(calls.main)"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}:{ROOT / 'bench'}"}
    return programs.run([sys.executable, *command], cwd=ROOT, env=environ)


@pytest.mark.parametrize(
    "store",
    [
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("redis", marks=pytest.mark.redis),
    ],
)
def test_a_signed_in_request_makes_no_more_calls_than_its_limit(store: str) -> None:
    done = run("bench/calls.py", store)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{store}: " in done.stdout


def test_a_request_that_makes_more_calls_than_its_limit_fails_the_program() -> None:
    done = run("-c", STRICTER, "sqlite")
    assert "calls (at most 1)" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
