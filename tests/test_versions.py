"""The versions that the documentation names are those that `pyproject.toml` allows and that the tests run with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.servers import postgres

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGE = (ROOT / "docs/reference/versions.md").read_text(encoding="utf-8")
PYTHONS = re.findall(r"Programming Language :: Python :: ([\d.]+)", "\n".join(PROJECT["classifiers"]))
LOWEST_PINS = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(
        r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements/lowest.txt").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
}


def rows(heading: str) -> dict[str, list[str]]:
    """The table below a heading, by its first column."""
    table = PAGE.split(heading)[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]
    return {first: others for first, *others in lines}


def requirements(extra: str | None) -> list[Requirement]:
    """What an extra names of others; None is what is always installed."""
    named = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return [one for one in map(Requirement, named) if one.name != "coatcheck"]


def floor(requirement: Requirement) -> Version:
    (lowest,) = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
    return lowest


def test_the_page_names_the_pythons_of_the_classifiers_and_the_lowest_that_is_required() -> None:
    allowed, tested = rows("# Versions that are tested")["Python"]
    assert tested.split(", ") == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert allowed == f"{PYTHONS[0]} or newer"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_other_pages_name_the_oldest_and_the_newest_python(page: str) -> None:
    said = re.findall(r"Python (3\.\d+) to (3\.\d+)", (ROOT / page).read_text(encoding="utf-8"))
    assert set(said) == {(PYTHONS[0], PYTHONS[-1])}


def test_ci_requires_each_python_and_each_postgresql() -> None:
    required = re.findall(r'COATCHECK_REQUIRE\+?="(.*)"', (ROOT / ".ci/run").read_text(encoding="utf-8"))
    wanted = {*(f"python{one}" for one in PYTHONS), *(f"postgres{one}" for one in postgres.OTHER_VERSIONS)}
    assert wanted - set(" ".join(required).split()) == set()


def test_the_page_names_the_versions_of_postgresql_that_tests_run_on() -> None:
    tested = rows("# Versions that are tested")["PostgreSQL"][1].split(", ")
    assert tested[1:] == list(postgres.OTHER_VERSIONS)


def test_the_page_names_the_lowest_version_of_each_dependency_of_an_application() -> None:
    extras = (None, "postgres", "redis", "starlette", "fastapi", "client")
    allowed = {one.name.lower(): str(floor(one)) for extra in extras for one in requirements(extra)}
    named = {name.split(" ")[0].lower(): cells[0] for name, cells in rows("## The lowest versions").items()}
    del named["dependency"], named["uvicorn"]
    assert named == allowed


@pytest.mark.parametrize("extra", [None, *sorted({*PROJECT["optional-dependencies"]} - {"dev", "frameworks"})])
def test_the_lowest_version_of_each_dependency_is_the_one_that_is_tested(extra: str | None) -> None:
    """The lowest release that is allowed: 0.28.0 for `>=0.28`, so what is pinned begins with the floor."""
    for one in requirements(extra):
        lowest, pinned = floor(one), LOWEST_PINS[canonicalize_name(one.name)]
        assert pinned.release[: len(lowest.release)] == lowest.release, f"run `make lock`: {one} is pinned to {pinned}"
