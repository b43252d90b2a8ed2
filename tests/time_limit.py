"""A test that goes on after its time limit is ended with its process, and so the run fails instead of waiting.

pytest-timeout raises an exception in the test, once. What catches it, or waits again while it passes (for a child in a
`finally`, for a thread at the end of a `with`), waits for ever. And pytest-timeout ends its own timer when a test has
failed, so that the teardown of that test has no limit at all.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_timeout import Settings  # type: ignore[import-untyped]  # it has no types

GRACE_SECONDS = 60
"""How long a test may still tear down what it has started, when its time limit has passed."""


class TimeLimit:
    """The pytest plugin that counts the time of each test."""

    def __init__(self, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace_seconds = grace_seconds
        self._timer: threading.Timer | None = None
        self._stderr = os.dup(2)  # before pytest captures what is written there

    @pytest.hookimpl(wrapper=True)
    def pytest_timeout_set_timer(
        self, item: pytest.Item, settings: Settings
    ) -> Generator[None, bool | None, bool | None]:
        self._stop()
        self._timer = threading.Timer(
            settings.timeout + self._grace_seconds, self._end, (item.nodeid, settings.timeout)
        )
        self._timer.daemon = True
        self._timer.start()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest-timeout
    def pytest_runtest_protocol(self) -> Generator[None, bool | None, bool | None]:
        try:
            return (yield)
        finally:
            self._stop()

    def pytest_enter_pdb(self) -> None:
        self._stop()

    def pytest_unconfigure(self) -> None:
        os.close(self._stderr)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, test: str, limit: float) -> None:
        text = (
            f"\n!!! {test} still runs {self._grace_seconds:g} s after its limit of {limit:g} s: its process ends here\n"
        )
        os.write(self._stderr, text.encode())
        faulthandler.dump_traceback(self._stderr)
        for child in _descendants(os.getpid()):
            with suppress(ProcessLookupError):  # has ended meanwhile
                os.kill(child, signal.SIGKILL)
        os._exit(pytest.ExitCode.TESTS_FAILED)  # pytest-xdist reports the test as failed, and replaces the process


def _descendants(process: int) -> list[int]:
    """The children of a process, theirs and so on, the oldest first: a server's own process before its helpers."""
    children: list[int] = []
    for tasks in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended meanwhile
            children += map(int, tasks.read_text().split())
    return [one for child in children for one in (child, *_descendants(child))]
