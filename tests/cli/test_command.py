"""The command `coatcheck` itself."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

COATCHECK = Path(sys.executable).with_name("coatcheck")

WITHOUT = """
import sys
sys.modules["typer"] = None
sys.argv = ["coatcheck", "--version"]
from coatcheck.cli import run
run()
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("command", [[COATCHECK], [sys.executable, "-m", "coatcheck"]], ids=["script", "module"])
def test_both_ways_to_call_it_have_the_commands_and_the_version(command: list[str | Path]) -> None:
    assert run(*command, "--version").stdout == f"coatcheck {version('coatcheck')}\n"
    helped = run(*command, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "bench" in helped.stdout
    assert "--version" in helped.stdout
    assert run(*command, "no-such-command").returncode == 2


def test_the_version_may_stand_before_a_command() -> None:
    assert run(COATCHECK, "--version", "bench").stdout == f"coatcheck {version('coatcheck')}\n"


def test_the_version_needs_no_package() -> None:
    done = run(sys.executable, "-c", WITHOUT)
    assert (done.stdout, done.stderr) == (f"coatcheck {version('coatcheck')}\n", "")


def test_a_chart_without_its_package_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    arguments = ["bench", "--sessions", "100", "--seconds", "0.01", "--chart", str(tmp_path / "chart.png")]
    program = (
        "import sys, importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'matplotlib' else find(name, *more)\n"
        f"sys.argv = ['coatcheck', *{arguments!r}]\nimport coatcheck.cli as cli; cli.run()"
    )
    done = run(sys.executable, "-c", program)
    assert done.returncode == 1
    assert done.stdout == "ConfigurationError: --chart needs the package matplotlib; install coatcheck[charts]\n"
