"""The benchmark beside JWTs runs with small numbers, so that it stays correct. No figure is judged here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.bench.test_over_http import run

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.extended


@pytest.mark.parametrize(
    "store",
    [
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("redis", marks=pytest.mark.redis),
    ],
)
def test_validations_are_measured_beside_two_libraries_with_three_algorithms(tmp_path: Path, store: str) -> None:
    """The program fails if a live session is refused, a claim is another one, or a wrong signature is accepted."""
    results = tmp_path / "results.json"
    small = ("--sessions", "200", "--rounds", "2", "--seconds", "0.02")
    run("bench/jwt_beside.py", "--stores", store, *small, "--results", str(results))
    measured = json.loads(results.read_text())["jwt"]
    libraries = {f"{name}, {algorithm}" for name in ("PyJWT", "joserfc") for algorithm in ("HS256", "RS256", "ES256")}
    assert measured.keys() == {f"Coatcheck, {store}", *libraries}
    assert all(len(runs) == 2 and min(runs) > 0 for runs in measured.values())
    printed = run("bench/markdown.py", str(results))
    assert printed.count("\n| ") == 1 + len(measured)
