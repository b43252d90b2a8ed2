"""The programs that the benchmarks run, which `make test` installs."""

from __future__ import annotations

import os
import shutil

import pytest


def need(program: str) -> None:
    """Skip the test if the program is missing; fail it if components are required, as in CI."""
    if shutil.which(program) is None:
        assert "COATCHECK_REQUIRE" not in os.environ, f"{program} is missing; `make test` installs it"
        pytest.skip(f"{program} is not installed")
