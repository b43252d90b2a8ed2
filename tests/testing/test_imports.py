"""What applications test with and what stores are held to: neither asks for the other's packages."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

OF_APPLICATIONS = {"starlette", "fastapi", "httpx", "httpx2"}
OF_THE_SUITE = {"pytest", "hypothesis"}
PROGRAM = """
import json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
{statement}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def run(statement: str, *, missing: set[str]) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(missing=missing, statement=statement)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ("in_memory, on_store, MemoryStore, ManualClock, PausingStore", OF_THE_SUITE | OF_APPLICATIONS),
        ("AsyncAppTester, AppTesterOptions", OF_THE_SUITE | OF_APPLICATIONS),
        ("AppTester", OF_THE_SUITE | {"fastapi"}),
        ("acting_as", OF_THE_SUITE),
        ("StoreConformance, StoreHarness, StoreMachine, check_store_against_model", OF_APPLICATIONS),
        ("TransactionKind, in_savepoint", OF_APPLICATIONS),
    ],
)
def test_a_name_is_imported_where_the_packages_of_the_others_are_not_installed(names: str, missing: set[str]) -> None:
    done = run(
        f"import warnings; warnings.simplefilter('ignore'); from coatcheck.testing import {names}", missing=missing
    )
    assert done.returncode == 0, done.stderr
    assert missing.isdisjoint(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("name", "missing", "advice"),
    [
        ("StoreMachine", {"hypothesis"}, "needs the package hypothesis; install coatcheck[testing]"),
        ("StoreConformance", {"pytest"}, "needs the package pytest; install coatcheck[testing]"),
        ("AppTester", {"starlette"}, "needs the package starlette; install coatcheck[starlette]"),
        ("acting_as", {"fastapi"}, "needs the package fastapi; install coatcheck[fastapi]"),
    ],
)
def test_a_package_that_is_missing_is_named_with_what_brings_it(name: str, missing: set[str], advice: str) -> None:
    done = run(f"from coatcheck.testing import {name}", missing=missing)
    assert advice in done.stderr.splitlines()[-1]


def test_a_name_that_is_not_there_is_an_error_as_ever() -> None:
    done = run("from coatcheck.testing import NoSuchName", missing=set())
    assert done.stderr.splitlines()[-1].startswith("ImportError: cannot import name 'NoSuchName'")
