"""Revocations that have begun are brought to their end, whatever becomes of whoever asked for them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from coatcheck.errors import RevocationIndeterminate

if TYPE_CHECKING:
    from collections.abc import Coroutine

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Finisher:
    """Runs revocations in tasks of their own: a caller who is cancelled, or loses patience, does not stop them.

    Cancelling one half-way is worse than useless: while PostgreSQL waits for a standby, a cancelled COMMIT has
    happened on the primary and is reported as success (design/security.md, section 3.4).
    """

    def __init__(self, *, patience_seconds: float = 10.0) -> None:
        """Wait for each revocation for at most `patience_seconds`."""
        self._patience_seconds = patience_seconds
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, revocation: Coroutine[Any, Any, T]) -> T:
        """Run a revocation to its end and return its result.

        Raises:
            RevocationIndeterminate: it took too long; it goes on by itself.
        """
        task = asyncio.get_running_loop().create_task(revocation)
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
        """Wait for the revocations that are still under way, as long as for each of them."""
        if self._running:
            _, unfinished = await asyncio.wait(self._running, timeout=self._patience_seconds)
            if unfinished:
                _log.error("%d revocations were not confirmed before the end; repeat them", len(unfinished))

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        # Taken here too, for a caller who has gone: nobody else will look at it.
        if not task.cancelled() and task.exception() is not None:
            _log.warning("a revocation failed: %s", type(task.exception()).__name__)
