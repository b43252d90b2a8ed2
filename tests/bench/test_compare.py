"""The comparison runs with small numbers, so that it stays correct. No figure is judged here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.bench.programs import need
from tests.servers.programs import run

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]
PROGRAMS = {"redis": "redis-server", "express_session": "npm"}


def compare(results: Path, *options: str) -> dict[str, object]:
    command = [sys.executable, "bench/compare.py", "--results", str(results), *options]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run(command, cwd=ROOT, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, object] = json.loads(results.read_text())
    return document


@pytest.mark.parametrize(
    ("store", "candidates"),
    [
        pytest.param(
            "postgresql",
            ["coatcheck", "fetchrow", "prepared", "core", "pgbench"],
            marks=pytest.mark.postgres,
        ),
        pytest.param(
            "postgresql",
            ["coatcheck", "coatcheck_pgbouncer"],
            marks=[pytest.mark.postgres, pytest.mark.pgbouncer],
            id="pgbouncer",
        ),
        ("sqlite", ["coatcheck", "sqlite"]),
        pytest.param("postgresql", ["express_session"], marks=pytest.mark.postgres, id="node"),
        pytest.param("redis", ["redis_benchmark"], marks=pytest.mark.redis),
    ],
)
def test_candidates_refuse_bad_tokens_and_are_measured(tmp_path: Path, store: str, candidates: list[str]) -> None:
    """A candidate that accepts a wrong secret or an expired session fails before it is measured."""
    for name in {store, *candidates} & PROGRAMS.keys():
        need(PROGRAMS[name])
    document = compare(
        tmp_path / "results.json",
        *("--candidates", ",".join(candidates), "--stores", store, "--sessions", "300"),
        *("--concurrency", "1,3", "--rounds", "1", "--seconds", "0.05"),
    )
    measured = document["candidates"]
    assert isinstance(measured, list)
    assert [one["name"] for one in measured] == candidates
    for one in measured:
        assert all(run["operations"] > 0 for runs in one["runs"].values() for run in runs)


@pytest.mark.parametrize("store", [pytest.param("postgresql", marks=pytest.mark.postgres), "sqlite"])
def test_sign_ins_and_each_size_are_measured(tmp_path: Path, store: str) -> None:
    document = compare(
        tmp_path / "results.json",
        *("--candidates", "coatcheck,insert", "--stores", store, "--call", "sign_in"),
        *("--sessions", "100,200", "--concurrency", "3", "--rounds", "1", "--seconds", "0.05"),
    )
    measured = document["candidates"]
    assert isinstance(measured, list)
    assert [(one["name"], one["sessions"]) for one in measured] == [
        *(("coatcheck", 100), ("coatcheck", 200), ("insert", 100), ("insert", 200))
    ]
    assert all(run["operations"] > 0 for one in measured for run in one["runs"]["3"])


def test_a_candidate_without_sign_ins_says_so(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not measured for sign-ins"):
        compare(tmp_path / "results.json", "--candidates", "core", "--call", "sign_in")


def test_an_unknown_candidate_is_refused_with_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"is no candidate(?s:.)*coatcheck"):
        compare(tmp_path / "results.json", "--candidates", "coatchek")
