"""One background task of a pod, whose errors are logged."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_log = logging.getLogger(__name__)


class BackgroundTask:
    """One task, from `start` to `stop`. Nobody awaits it, so its errors are logged."""

    def __init__(self, name: str) -> None:
        """`name` is the task's name in the log, for example "pruning"."""
        self._name = name
        self._task: asyncio.Task[None] | None = None

    @property
    def has_started(self) -> bool:
        """Whether the task was started and not stopped since."""
        return self._task is not None

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin `work`. Does nothing if the task was started already."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(work))

    async def stop(self) -> None:
        """Cancel the task, and wait until it has ended."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception:  # noqa: BLE001 (nobody awaits the task, so the error would be lost)
            _log.exception("%s has failed and does not go on", self._name)
