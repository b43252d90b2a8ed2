"""What `import coatcheck` costs: a name is imported from its module when it is first asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest

import coatcheck
from tests.pages import ROOT

SMALL = {
    "coatcheck": 40,  # of which a bare interpreter's `typing` brings 25
    "coatcheck.errors": 40,
    "coatcheck.scope": 60,
    "coatcheck.wire": 90,
}
"""Modules that programs import at their start, and how many others each may import."""

HEAVY = {
    "sqlalchemy", "alembic", "aiosqlite", "asyncpg", "redis", "yaml", "starlette", "fastapi", "pydantic", "httpx",
    "httpx2", "requests", "anyio", "typer", "rich", "matplotlib", "asyncio", "sqlite3", "ssl", "email", "logging",
}  # fmt: skip


def imported_by(module: str) -> list[str]:
    program = f"import sys, json; had = set(sys.modules); import {module}; print(json.dumps([*set(sys.modules) - had]))"
    done = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True, timeout=60)
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("module", SMALL)
def test_a_module_that_programs_import_first_imports_few_others_and_no_library(module: str) -> None:
    names = imported_by(module)
    assert {name.partition(".")[0] for name in names} & HEAVY == set()
    assert len(names) <= SMALL[module], sorted(names)


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert coatcheck.__version__ == version("coatcheck") == project["version"]
    assert "__version__" in dir(coatcheck)
