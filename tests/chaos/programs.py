"""Running the programs of `chaos/`, with small numbers."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.servers.programs import run

ROOT = Path(__file__).parents[2]


def results_of(program: str, folder: Path) -> dict[str, Any]:
    """The results of a program after a round of each kind. No promise that should hold may be broken."""
    results = folder / "results.json"
    command = [sys.executable, "-m", f"chaos.{program}", "--rounds", "1", "--contrasts", "1"]
    done = run(
        [*command, "--seconds", "0.5", "--callers", "4", "--results", str(results)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        seconds=230,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(results.read_text())
    return document
