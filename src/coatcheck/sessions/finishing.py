"""Running each revocation to its end, also when its caller is cancelled."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from coatcheck.errors import NotOpenError, RevocationIndeterminate
from coatcheck.opening import running_loop

if TYPE_CHECKING:
    from collections.abc import Coroutine

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Finisher:
    """Runs revocations in tasks of their own: a caller that is cancelled, or no longer waits, does not stop them.

    A revocation must not be cancelled half-way. While PostgreSQL waits for a standby, it reports a cancelled COMMIT as
    success, although the commit has happened on the primary only.
    """

    def __init__(self, *, patience_seconds: float = 10.0) -> None:
        """Wait for each revocation for at most `patience_seconds`."""
        self._patience_seconds = patience_seconds
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, revocation: Coroutine[Any, Any, T]) -> T:
        """Run a revocation to its end and return its result.

        Raises:
            RevocationIndeterminate: it took too long; it goes on in the background.
        """
        loop = running_loop()
        if loop is None:
            return await revocation  # nothing can cancel it, and a store that needs a loop refuses it
        task = loop.create_task(revocation)
        self._running.add(task)
        task.add_done_callback(self._done)
        done, _ = await asyncio.wait({task}, timeout=self._patience_seconds)
        if not done:
            raise RevocationIndeterminate(
                f"a revocation was not confirmed within {self._patience_seconds:g} s; it goes on, but until it is "
                "confirmed treat the sessions as live"
            )
        return task.result()

    async def close(self) -> None:
        """Wait for the revocations that are still under way, for `patience_seconds` at most."""
        loop = asyncio.get_running_loop()
        running = {task for task in self._running if task.get_loop() is loop}  # one of another loop cannot be awaited
        if running:
            _, unfinished = await asyncio.wait(running, timeout=self._patience_seconds)
            if unfinished:
                _log.error("%d revocations were not confirmed before the pod closed; repeat them", len(unfinished))

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        # The caller may have been cancelled; then nobody else looks at the exception.
        if not task.cancelled() and not isinstance(task.exception(), NotOpenError | None):  # the former did nothing
            _log.warning("a revocation failed: %s", type(task.exception()).__name__)
