"""The public names: each module says which they are, and an editor has something to show of each field."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

import coatcheck
from tests.pages import ROOT, blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = ["README.md", *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
EXAMPLES = [file.read_text(encoding="utf-8") for file in (ROOT / "examples").rglob("*.py")]


def imported() -> dict[str, set[str]]:
    """The names that the pages and the examples import from each of our modules."""
    found: dict[str, set[str]] = {}
    for code in [*(block for page in PAGES for block in blocks_of(page)), *EXAMPLES]:
        if "from coatcheck" not in code:  # an excerpt within a class cannot be parsed by itself
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "coatcheck":
                found.setdefault(node.module or "", set()).update(alias.name for alias in node.names)
    return found


IMPORTED = imported()
MODULES = sorted(
    {
        *IMPORTED,
        "coatcheck.auth",
        "coatcheck.errors",
        "coatcheck.sessions",
        "coatcheck.stores.announcement",
        "coatcheck.stores.records",
        "coatcheck.stores.store",
        "coatcheck.tokens",
        "coatcheck.web.starlette",
    }
)


@pytest.mark.parametrize("module", MODULES)
def test_a_public_module_says_which_names_are_public(module: str) -> None:
    names = import_module(module).__all__
    assert len(set(names)) == len(names)
    assert IMPORTED.get(module, set()) <= set(names)
    assert all(hasattr(import_module(module), name) for name in names)


def records() -> Iterator[type]:
    """The public dataclasses, named tuples and enumerations, and what the session routes answer with."""
    for module in [*MODULES, "coatcheck.web.routes.sessions"]:
        home = import_module(module)
        for name in getattr(home, "__all__", None) or vars(home):
            found = getattr(home, name)
            if inspect.isclass(found) and found.__module__.startswith("coatcheck."):
                is_tuple = issubclass(found, tuple) and hasattr(found, "_fields")
                if dataclasses.is_dataclass(found) or is_tuple or issubclass(found, enum.Enum):
                    yield found


def without_docstring(record: type) -> list[str]:
    """The public fields and members after which no docstring stands in the source."""
    (node,) = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(import_module(record.__module__))))
        if isinstance(node, ast.ClassDef) and node.name == record.__name__
    ]
    found = []
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            name = ast.unparse(target)
            has_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if not name.startswith("_") and not has_text:
                found.append(name)
    return found


RECORDS = sorted(set(records()), key=lambda record: f"{record.__module__}.{record.__qualname__}")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_each_field_of_a_public_record_has_a_docstring(record: type) -> None:
    assert without_docstring(record) == []


def test_the_records_that_one_meets_first_are_among_them() -> None:
    assert {coatcheck.AuthenticationInfo, coatcheck.AuthSuccess, coatcheck.SessionInfo, coatcheck.TokenRefusal} <= set(
        RECORDS
    )
