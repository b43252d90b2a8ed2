"""A test that goes on after its time limit fails by name, and ends with the children that it waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process_ends import has_ended

LIMITS = """
from tests.time_limit import TimeLimit

def pytest_configure(config):
    config.pluginmanager.register(TimeLimit(grace_seconds=1))
"""

CHILD = """
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

def child():
    started = subprocess.Popen(["cat"], stdin=subprocess.PIPE)  # it ends when nobody can write to it
    Path("child").write_text(str(started.pid))
    return started

def test_other():
    pass
"""

IN_A_FINALLY = """
def test_it():
    waited_for = child()
    try:
        waited_for.wait()
    finally:
        waited_for.wait()
"""

IN_A_THREAD = """
def test_it():
    with ThreadPoolExecutor() as threads:
        threads.submit(child().wait).result()
"""

IN_THE_TEARDOWN_OF_A_TEST_THAT_FAILED = """
@pytest.fixture
def server():
    started = child()
    yield
    started.wait()

def test_it(server):
    raise AssertionError
"""

WAITS = [IN_A_FINALLY, IN_A_THREAD, IN_THE_TEARDOWN_OF_A_TEST_THAT_FAILED]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makeini("[pytest]\ntimeout = 1")
    pytester.makeconftest(LIMITS)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return pytester


@pytest.mark.parametrize("waits", WAITS, ids=["in a finally", "in a thread", "in a teardown"])
def test_a_wait_for_a_child_ends_with_the_run_that_says_which_test_it_was(project: pytest.Pytester, waits: str) -> None:
    project.makepyfile(test_waits=CHILD + waits)
    result = project.runpytest_subprocess("-n0", timeout=60)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stderr.fnmatch_lines(["!!! test_waits.py::test_it still runs 1 s after its limit of 1 s*"])
    assert has_ended(int((project.path / "child").read_text()))


def test_in_one_of_several_processes_it_fails_the_test_and_the_others_run(project: pytest.Pytester) -> None:
    project.makepyfile(test_waits=CHILD + IN_A_FINALLY + "\n\ndef test_later():\n    pass\n")
    result = project.runpytest_subprocess("-n1", timeout=60)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["worker 'gw0' crashed while running 'test_waits.py::test_it'"])
    assert has_ended(int((project.path / "child").read_text()))


def test_a_test_that_ends_within_the_grace_is_left_to_pytest_timeout(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_waits=CHILD + "def test_it():\n    with child() as waited_for:\n        waited_for.wait()\n"
    )
    result = project.runpytest_subprocess("-n0", timeout=60)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Timeout (>1.0s) from pytest-timeout.*"])
