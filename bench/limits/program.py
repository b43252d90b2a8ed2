"""The lines of `contract.py` for a limit: a foreign program that reads without checking."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def serve(
    fill: Callable[[int], dict[str, str]],
    measured: Callable[[int, int, float], dict[str, float]],
) -> None:
    """Follow the orders on standard input.

    `fill` creates the rows and returns the versions to report with the figures; `measured` is one run, by the number of
    rows, of clients and of seconds.
    """
    sessions = 0
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        if order["do"] == "quit":
            return
        try:
            if order["do"] == "fill":
                sessions = order["sessions"]
                answer: dict[str, Any] = {"filled": sessions, "versions": fill(sessions)}
            elif order["call"] != "validate":
                raise ValueError("only reads are measured")
            else:
                answer = measured(sessions, order["concurrency"], order["seconds"])
        except Exception as error:  # noqa: BLE001 (the driver says which candidate it was)
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def output(command: Sequence[str]) -> str:
    """The standard output of a program."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own commands)
    if done.returncode != 0:
        raise AssertionError(f"{command[0]} failed: {done.stderr or done.stdout}")
    return done.stdout


def found(pattern: str, text: str) -> str:
    """The group of `pattern` in a program's output."""
    match = re.search(pattern, text)
    if match is None:
        raise AssertionError(f"the program says something else than it did: {text}")
    return match[1]
