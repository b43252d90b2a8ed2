"""A browser ends with its test, and nothing of it is left, whatever the run was told to do with signals."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers import programs
from tests.servers.webdriver.browsers import STARTS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.extended

KINDS = [
    pytest.param("firefox", marks=pytest.mark.firefox),
    pytest.param("webkit", marks=pytest.mark.webkit),
    pytest.param("chromium", marks=pytest.mark.chromedriver),
]


def of_folder(folder: Path) -> list[str]:
    """The processes whose homes are below it, by name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
            name = (process / "comm").read_text().strip()
        except OSError:  # it has ended
            continue
        if f"HOME={folder}/".encode() in environ:
            found.append(name)
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's, whose path is too long for the sockets that Chromium makes below it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_browser_leaves_no_process_and_no_folder(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(KeyboardInterrupt), STARTS[kind]() as device:
        device.go("data:text/html,<h1>Good day</h1>")
        assert device.text("h1") == "Good day"
        assert of_folder(folder)
        os.kill(os.getpid(), signal.SIGINT)
        device.until(lambda: False, "the interruption comes")
    assert of_folder(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_so_it_does_in_a_run_that_was_started_with_sigint_ignored(kind: str, request: pytest.FixtureRequest) -> None:
    """As it is where a script starts the run with `&` or `nohup`, or CI does."""
    interrupted = test_an_interrupted_browser_leaves_no_process_and_no_folder
    test = f"{__file__}::{interrupted.__name__}[{kind}]"
    run = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", test]
    ignoring = ["sh", "-c", 'trap "" INT HUP; exec "$@"', "sh", *run]
    done = programs.run(ignoring, cwd=request.config.rootpath, env=os.environ)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
