"""The page on the architecture names files that are there, and the modules that the client really imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src/coatcheck"
PAGE = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"(?<![\w./(])(?:\w+/)*\w+\.(?:py|lua|js)\b|(?<=`)(?:\w+/)+(?=`)", PAGE)))


@pytest.mark.parametrize("path", PATHS)
def test_every_path_leads_to_a_file_or_a_folder(path: str) -> None:
    is_bare_name = "/" not in path  # of a file that was named with its folder in the line, or that each engine has
    assert (SOURCE / path).exists() or (ROOT / path).exists() or (is_bare_name and any(SOURCE.rglob(path)))


def test_the_client_imports_the_modules_that_the_page_names() -> None:
    (sentence,) = re.findall(r"`client/` stands apart: it imports (.*?), and nothing", PAGE, flags=re.DOTALL)
    modules = [
        node.module
        for file in (SOURCE / "client").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("coatcheck.")
    ]
    outside = {module for module in modules if not module.startswith("coatcheck.client.")} - {"coatcheck.client"}
    assert {f"coatcheck.{name}" for name in re.findall(r"`(\w+)\.py`", sentence)} == outside
