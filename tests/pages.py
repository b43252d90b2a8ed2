"""The Python code on the pages, to be run as it stands."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

Names = dict[str, Any]


def blocks_of(page: str, language: str = "python") -> list[str]:
    """The code blocks of a page, those within a list too."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def run(page: str, given: Names, blocks: slice = slice(None)) -> Names:
    """Run blocks of a page one after the other, with the names that the page takes as given; return all names."""
    names = dict(given)
    for block in blocks_of(page)[blocks]:
        exec(compile(block, page, "exec", dont_inherit=True), names)  # noqa: S102 (our own pages)
        assert unknown_names(block, names) == []
    return names


async def run_async(page: str, given: Names, blocks: slice = slice(None)) -> Names:
    """The same for blocks with an `await` outside of any function."""
    names = dict(given)
    for block in blocks_of(page)[blocks]:
        code = compile(block, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        running = eval(code, names)  # noqa: S307 (our own pages)
        if inspect.iscoroutine(running):
            await running
        assert unknown_names(block, names) == []
    return names


def unknown_names(block: str, names: Names) -> list[str]:
    """The names that the block uses, in functions that nobody has called too, and that nothing defines."""
    nodes = list(ast.walk(ast.parse(block)))
    bound = {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound |= {node.name for node in nodes if isinstance(node, ast.MatchAs) and node.name is not None}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return sorted(used - bound - names.keys() - set(dir(builtins)))
