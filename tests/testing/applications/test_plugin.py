"""The plugin for pytest, as a reader of the page has it: in a project and a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.pages import blocks_of

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "SERVERPOD_PASSWORD_serverSideSessionKeyHashPepper"
PYPROJECT = """
[tool.pytest.ini_options]
addopts = ["-p", "coatcheck.testing.plugin"]
anyio_mode = "auto"
"""
CONFTEST = """
import pytest

from app import app, cookie, pod
from coatcheck.testing import AppTesterOptions


@pytest.fixture
def app_tester_options() -> AppTesterOptions:
    return {"app": app, "pod": pod, "cookie": cookie}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
"""
TESTS = """
def test_one(app_tester):
    phone = app_tester.device()
    app_tester.signed_in(phone, scopes={"notes:read"}, mode="cookie")
    assert phone.get("/notes").status_code == 200


async def test_two(async_app_tester):
    phone = async_app_tester.device()
    await async_app_tester.signed_in(phone, scopes={"notes:read"}, mode="cookie")
    assert (await phone.get("/notes")).status_code == 200
    assert len(await async_app_tester.auth.auth_users.list()) == 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The README's application and its tests."""
    files = {"pyproject.toml": PYPROJECT, "app.py": blocks_of("README.md")[0], "conftest.py": CONFTEST}
    for name, text in (files | {"test_app.py": TESTS}).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run_tests(project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SERVERPOD_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.run(
        command, cwd=project, env=kept | variables, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_readmes_application_is_tested_without_a_pepper_and_leaves_no_file(project: Path) -> None:
    before = {path.name for path in project.iterdir()}
    done = run_tests(project)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert {path.name for path in project.iterdir()} - before <= {"__pycache__"}


def test_the_plugin_is_told_which_application_it_is_about(project: Path) -> None:
    (project / "conftest.py").unlink()
    done = run_tests(project)
    assert done.returncode != 0
    assert "define the fixture app_tester_options in conftest.py" in done.stdout


def test_a_pepper_that_is_there_stays(project: Path) -> None:
    (project / "test_app.py").write_text(
        f"import os\ndef test(): assert os.environ[{VARIABLE!r}] == 'mine, of thirty-two bytes or more'\n",
        encoding="utf-8",
    )
    done = run_tests(project, **{VARIABLE: "mine, of thirty-two bytes or more"})
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_without_the_plugin_nothing_is_set(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\n", encoding="utf-8")
    (project / "conftest.py").unlink()
    (project / "test_app.py").write_text(
        f"import os\nimport coatcheck.testing\ndef test(): assert {VARIABLE!r} not in os.environ\n", encoding="utf-8"
    )
    done = run_tests(project)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
