"""Every row of the original's behaviour is covered by a test that names it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SUITE = TESTS.parent / "src" / "coatcheck" / "testing"

# Of the design's serverpod.md. F6 and F7 are the tables of the original, for a later store.
ROWS = [
    *("F1", "F2", "F3", "F4", "F5", "F8"),
    *(f"C{number}" for number in range(1, 9)),
    *(f"S{number}" for number in range(1, 19)),
    *(f"T{number}" for number in range(1, 8)),
    *(f"U{number}" for number in range(1, 6)),
    *(f"E{number}" for number in range(1, 5)),
    *(f"K{number}" for number in range(1, 9)),
]


def _rows_named_by_tests() -> set[str]:
    named: set[str] = set()
    for file in [*TESTS.rglob("test_*.py"), *SUITE.rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                named |= set(re.findall(r"\b[FCSTUEK]\d{1,2}\b", ast.get_docstring(node) or ""))
    return named


@pytest.fixture(scope="module")
def named() -> set[str]:
    return _rows_named_by_tests()


@pytest.mark.parametrize("row", ROWS)
def test_the_row_is_named_by_a_test(row: str, named: set[str]) -> None:
    assert row in named
