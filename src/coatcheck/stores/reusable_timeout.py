"""A time limit for one step after another of a task, with one timer for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class ReusableTimeout:
    """Does what `asyncio.timeout_at` does, for a task that works without end and whose deadlines never move back.

    `asyncio.timeout_at` sets a timer and removes it each time, which costs a twentieth of a read by itself. Here a
    timer that goes off checks whether the step that it was set for still runs, and is set again for the step that runs
    then.
    """

    def __init__(self) -> None:
        """For the running task."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a ReusableTimeout is made in the task that it limits")
        self._task = task
        self._loop = task.get_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._is_over = False
        self._cancelling = 0

    def until(self, deadline: float) -> Self:
        """The next limit, by the clock of the loop: `with limit.until(loop.time() + 5): ...`.

        Raises:
            TimeoutError: at the end of the block, which was cancelled because the time was over.
        """
        self._deadline = deadline
        return self

    def __enter__(self) -> None:
        """Begin."""
        self._cancelling = self._task.cancelling()
        if self._timer is None and self._deadline is not None:
            self._timer = self._loop.call_at(self._deadline, self._check)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End: a block that was cancelled by the timer, and by nothing else, raises TimeoutError."""
        self._deadline = None
        if not self._is_over:
            return
        self._is_over = False
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def close(self) -> None:
        """Set no more timers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check)
            return
        self._is_over = True
        self._task.cancel()
