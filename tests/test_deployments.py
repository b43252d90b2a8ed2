"""The tables in docs/reference/deployments.md are true: the tests are there, and what is refused is refused so."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.starts.postgresql import POSTGRES
from tests.starts.redis import REDIS, SENTINEL
from tests.starts.sqlite import SQLITE

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/reference/deployments.md").read_text("utf-8")
SUPPORTED, STARTS = PAGE.split("## Starts that fail")
STORES = {"redis": REDIS, "sentinel": SENTINEL, "postgresql": POSTGRES, "sqlite": SQLITE}

_ANYTHING = "…"
_ANSWERS = ("supported", "supported with this limit: ", "refused: ")


class Line(NamedTuple):
    """One line of a table; `url` is what stands in front of the answer."""

    url: str
    answer: str
    test: str


LINES = [
    Line(cells[-3].strip("`"), cells[-2], cells[-1].strip("`"))
    for line in SUPPORTED.splitlines()
    if line.startswith("| ") and "`tests/" in line
    for cells in [[cell.strip() for cell in line.strip("|").split(" | ")]]
]
HOSTERS = LINES[: SUPPORTED.split("## Topologies")[0].count("| `tests/")]
REFUSED = [line for line in LINES if line.answer.startswith("refused: ")]


@cache
def names_in(file: Path) -> frozenset[str]:
    """The functions and classes of a module."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, definitions))


@cache
def sentences() -> frozenset[str]:
    """All texts in the code, with a sign for what is put into them."""
    found: set[str] = set()
    for file in (ROOT / "src/coatcheck/stores").rglob("*.py"):
        module = ast.parse(file.read_text("utf-8"))
        constants = dict(map(_constant_in, module.body))
        found.update(_text_of(node, constants) for node in ast.walk(module) if isinstance(node, ast.expr))
    return frozenset(found)


def _constant_in(statement: ast.stmt) -> tuple[str, str]:
    """The name and the text of a constant; nothing for another statement."""
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, _text_of(statement.value, {})
    return "", ""


def _text_of(node: ast.expr, constants: Mapping[str, str]) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text_of(part, constants) for part in parts)
        case ast.FormattedValue(value=ast.Name(id=name)):
            return constants.get(name) or _ANYTHING
        case _:
            return _ANYTHING


def answers_elsewhere() -> dict[str, str]:
    """What the tables of store URLs say of each URL or option."""
    pages = [(ROOT / "docs/reference" / name).read_text("utf-8") for name in ("store-urls.md", "redis-urls.md")]
    rows = re.findall(r"^\| `([^`]*)` \| [^|]* \| ([^|]*) \|$", "\n".join(pages), flags=re.MULTILINE)
    return dict(rows)


def test_the_tables_are_read_whole() -> None:
    rows = [line for line in SUPPORTED.splitlines() if line.startswith("| ")]
    heads = [line for line in rows if line.endswith("| test |")]
    assert len(LINES) == len(rows) - len(heads)
    assert [line for line in LINES if not line.answer.startswith(_ANSWERS)] == []
    assert len(HOSTERS) > 20


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.url)
def test_the_test_that_a_line_names_is_there(line: Line) -> None:
    file, _, name = line.test.partition("::")
    assert (ROOT / file).is_file()
    assert not name or name in names_in(ROOT / file)


@pytest.mark.parametrize("line", REFUSED, ids=lambda line: line.url)
def test_a_sentence_with_which_something_is_refused_is_the_codes(line: Line) -> None:
    sentence = line.answer.removeprefix("refused: ")
    assert [text for text in sentences() if sentence in text] != []


@pytest.mark.parametrize("line", HOSTERS, ids=lambda line: line.url)
def test_a_hosters_line_says_what_the_tables_of_urls_say(line: Line) -> None:
    elsewhere = answers_elsewhere()[line.url]
    if line.answer.startswith("supported"):
        assert elsewhere.startswith("works")
    else:
        said = line.answer.removeprefix("refused: ").replace(_ANYTHING, "").strip()
        assert elsewhere.startswith("refused: ")
        assert said in elsewhere


@pytest.mark.parametrize("store", STORES)
def test_each_way_in_which_a_start_fails_has_a_line_and_the_words_of_its_test(store: str) -> None:
    said = [line for line in STARTS.splitlines() if line.startswith(f"| {store} |")]
    assert said == [f"| {store} | {way.name} | `{way.error.__name__}` | {_words(way.says)} |" for way in STORES[store]]


def test_every_line_of_a_start_is_of_one_of_these_stores() -> None:
    assert {line.split(" | ")[0].removeprefix("| ") for line in STARTS.splitlines() if line.startswith("| ")} == {
        "store",
        *STORES,
    }


def _words(says: tuple[str, ...]) -> str:
    return ", ".join(f"“{words}”" for words in says)
