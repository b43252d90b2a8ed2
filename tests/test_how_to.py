"""The pages on testing do what they say: their programs are run, and their excerpts are those of the files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.pages import ROOT, blocks_of

if TYPE_CHECKING:
    from pathlib import Path

TEST_YOUR_APPLICATION = "docs/how-to/test-your-application.md"
WRITE_A_STORE = "docs/how-to/write-a-store.md"
EXCERPTS = re.findall(
    r"\(in\s\[`memory/\w+\.py`\]\(([^)]+)\)\)[.:]\n\n```python\n(.*?)```",
    (ROOT / WRITE_A_STORE).read_text(encoding="utf-8"),
    flags=re.DOTALL,
)
"""Those of the memory store, each with the file that the sentence before it names."""


def files_of(page: str) -> dict[str, str]:
    """The blocks that are whole files: they begin with their name."""
    blocks = blocks_of(page) + blocks_of(page, "toml")
    named = [(re.match(r"# (\w+\.(?:py|toml))\n", block), block) for block in blocks]
    return {name[1]: block for name, block in named if name is not None}


def run_tests(folder: Path, *options: str) -> str:
    """Run pytest in a process of its own, as a reader of the page does, and return what it prints."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    done = subprocess.run(
        command, cwd=folder, env=_without_our_options(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _without_our_options() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != "__pycache__"}


def test_the_tests_of_the_application_pass_and_leave_no_file(tmp_path: Path) -> None:
    files = files_of(TEST_YOUR_APPLICATION)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert "11 passed" in run_tests(tmp_path)
    assert files_in(tmp_path) == set(files)


def test_the_tests_of_the_application_pass_on_a_file_of_the_test_too(tmp_path: Path) -> None:
    files = files_of(TEST_YOUR_APPLICATION)
    files["conftest.py"] = files.pop("conftest_on_sqlite.py")
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert "7 passed" in run_tests(tmp_path, "test_app.py", "test_async.py")
    assert files_in(tmp_path) == set(files)


def test_every_block_of_the_page_is_a_file_that_was_run() -> None:
    blocks = blocks_of(TEST_YOUR_APPLICATION) + blocks_of(TEST_YOUR_APPLICATION, "toml")
    assert list(files_of(TEST_YOUR_APPLICATION).values()) == blocks


def test_the_suite_runs_with_the_harness_of_the_page(tmp_path: Path) -> None:
    for name, text in files_of(WRITE_A_STORE).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    # The whole suite has run on this store elsewhere. These are enough to see that the page's harness works.
    printed = run_tests(tmp_path, "-k", "transaction or outage or deadline or hook")
    passed = re.search(r"(\d+) passed", printed)
    assert passed is not None
    assert int(passed[1]) > 50


@pytest.mark.parametrize(("file", "excerpt"), EXCERPTS)
def test_each_excerpt_stands_in_the_file_that_the_page_names(file: str, excerpt: str) -> None:
    assert excerpt in ((ROOT / WRITE_A_STORE).parent / file).read_text(encoding="utf-8")


def test_each_block_is_a_whole_file_or_an_excerpt_with_the_name_of_its_file() -> None:
    excerpts = [excerpt for _, excerpt in EXCERPTS]
    assert [*files_of(WRITE_A_STORE).values(), *excerpts] == blocks_of(WRITE_A_STORE)
