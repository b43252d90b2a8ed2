"""What would be published: it is complete, and each extra brings exactly what it is for."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zipfile import ZipFile

import pytest

from tests.pages import ROOT
from tests.test_public_names import MODULES

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.extended, pytest.mark.timeout(600)]

TOOLS = Path(sys.executable).parent

BENCH = "coatcheck bench --sessions 100 --concurrency 1 --mixes validate --seconds 0.01 --chart chart.png"

NEEDS = {
    "import coatcheck.web.fastapi": "fastapi",
    "import coatcheck.web.starlette": "starlette",
    "import coatcheck.client": "client",
    "import coatcheck.client.requests_auth": "requests",
    "from coatcheck.testing import StoreConformance": "testing",
    "from coatcheck import Pod; Pod(store='postgresql://ada@127.0.0.1/notes')": "postgres",
    "from coatcheck import Pod; Pod(store='redis://127.0.0.1')": "redis",
    "from coatcheck.client import ClientSessionManager as Made; Made('https://notes.example').close()": "client",
    "import sys; sys.argv = ['coatcheck', '--help']; import coatcheck.cli as cli; cli.run()": "cli",
    f"import sys; sys.argv = {BENCH.split()}; import coatcheck.cli as cli; cli.run()": "charts",
    "from coatcheck.client import KeyringStorage; KeyringStorage('notes', 'ada')": "keyring",
}
"""What needs an extra. Every other public module needs none."""

BRINGS = {
    "": set[str](),
    "postgres": {"postgres"},
    "redis": {"redis"},
    "starlette": {"starlette"},
    "fastapi": {"fastapi", "starlette"},
    "client": {"client"},
    "requests": {"requests", "client"},
    "keyring": {"keyring", "client"},
    "devices": {"devices"},
    "cli": {"cli"},
    "charts": {"charts", "cli"},
    "testing": {"testing"},
}
"""The extras for users, and what comes with each."""

NO_KEYRING = "KeyringStorage found no keyring on this system; use FileStorage instead "

NOT_FOR_USERS = {"dev", "demo", "frameworks", "suite"}
"""The extras for working on Coatcheck and for its examples."""

TRY = """
import contextlib, io, json, sys
answers = {}
for code in json.loads(sys.argv[1]):
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            exec(code, {})
        answers[code] = "works"
    except BaseException as error:
        is_well = isinstance(error, SystemExit) and not error.code
        answers[code] = "works" if is_well else f"{type(error).__name__}: {error} {said.getvalue()}"
print(json.dumps(answers))
"""


class Distributions(NamedTuple):
    """The two files that would be published."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist of this checkout, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    run(TOOLS / "uv", "build", "--no-build-isolation", "--python", sys.executable, "--out-dir", out, ROOT)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Distributions(wheel, sdist)


@pytest.fixture(scope="module")
def answers_with(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """Runs the code of NEEDS and imports the other public modules, where one extra is installed and nothing else."""
    codes = [*NEEDS, *(f"import {module}" for module in MODULES if f"import {module}" not in NEEDS)]

    def answers(extra: str) -> dict[str, str]:
        place = tmp_path_factory.mktemp(extra or "bare")
        run(TOOLS / "uv", "venv", "--python", sys.executable, place / "venv")
        what = f"coatcheck[{extra}] @ {built.wheel.as_uri()}" if extra else f"coatcheck @ {built.wheel.as_uri()}"
        python = place / "venv/bin/python"
        # The versions that the tests run with: a release of tomorrow is no reason for this one to fail.
        locked = ROOT / "requirements/dev.txt"
        run(TOOLS / "uv", "pip", "install", "--python", python, "--constraint", locked, what)
        found: dict[str, str] = json.loads(run(python, "-I", "-c", TRY, json.dumps(codes), cwd=place))
        return found

    return answers


def run(*command: str | Path, cwd: Path | None = None) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COATCHECK_"))}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_checks_of_the_index_and_of_wheels_find_nothing(built: Distributions) -> None:
    said = run(TOOLS / "twine", "--no-color", "check", "--strict", built.wheel, built.sdist)
    assert said.count("PASSED") == 2
    assert "OK" in run(TOOLS / "check-wheel-contents", "--config", ROOT / "pyproject.toml", built.wheel)


def test_the_wheel_has_the_types_the_scripts_and_the_served_module(built: Distributions) -> None:
    names = set(ZipFile(built.wheel).namelist())
    sources = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= names
    assert {
        "coatcheck/py.typed",
        "coatcheck/web/browser/coatcheck.min.js",
        "coatcheck/web/browser/coatcheck.min.d.ts",
    } <= names
    assert not [name for name in names if not name.startswith(("coatcheck/", "coatcheck-"))], "and nothing else"


def test_the_sdist_has_what_a_packager_reads(built: Distributions) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "tests/pages.py"} <= names
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name]


def test_the_long_description_has_no_link_into_the_checkout(built: Distributions) -> None:
    metadata = metadata_of(built.wheel)
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = str(metadata.get_payload())
    assert "# Coatcheck" in description
    links = re.findall(r"\]\(([^)\s]+)\)", description)
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    relative = [link for link in re.findall(r"\]\(([^)\s]+)\)", readme) if ":" not in link and link[0] != "#"]
    assert all(any(link.endswith(f"/{one}") for link in links) for one in relative), "each leads to its page"


def test_the_metadata_says_where_the_project_lives_and_which_extras_there_are(built: Distributions) -> None:
    metadata = metadata_of(built.wheel)
    urls = dict(str(one).split(", ", 1) for one in metadata.get_all("Project-URL", []))
    assert {"Repository", "Documentation", "Changelog", "Security"} <= set(urls)
    assert all(url.startswith("https://") for url in urls.values())
    assert set(metadata.get_all("Provides-Extra", [])) == (set(BRINGS) - {""}) | NOT_FOR_USERS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["Version"] == project["version"]


@pytest.mark.parametrize("extra", BRINGS)
def test_an_extra_brings_what_it_is_for_and_without_it_the_error_names_it(
    extra: str, answers_with: Callable[[str], dict[str, str]]
) -> None:
    answers = answers_with(extra)
    for code, answer in answers.items():
        needed = NEEDS.get(code)
        if needed is None or needed in BRINGS[extra]:
            assert answer in {"works", "ConfigurationError: " + NO_KEYRING}, code
        else:
            # An extra that comes with it and is missing as well may be found missing first.
            missing = [one for one in BRINGS[needed] if one not in BRINGS[extra]]
            assert any(re.search(rf"install '?coatcheck\[{one}\]", answer) for one in missing), code


def metadata_of(wheel: Path) -> email.message.Message:
    archive = ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_string(archive.read(name).decode())
