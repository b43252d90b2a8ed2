"""Doing something once a transaction on an engine of the application's has committed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

_POLL_SECONDS = 0.001

# The loop itself keeps only a weak reference to its tasks.
_waiting: set[asyncio.Task[None]] = set()


def after_commit(connection: Connection, callback: Callable[[], None]) -> None:
    """Call `callback` soon after the connection's transaction has committed; not if it is rolled back.

    A COMMIT that fails together with its connection, which is then closed at once, can be taken for one that succeeded:
    whoever is called back looks at the store again before relying on it.
    """
    outcome = _Outcome(callback)
    event.listen(connection, "commit", outcome.commits)
    event.listen(connection, "rollback", outcome.rolls_back)


class _Outcome:
    """Follows one connection to the end of its transaction."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback
        self._is_committing = False

    def commits(self, connection: Connection) -> None:
        """SQLAlchemy calls this just before it sends COMMIT and has no event for when it is done; hence the wait."""
        if self._callback is not None and not self._is_committing:
            self._is_committing = True
            task = asyncio.get_running_loop().create_task(self._call_when_done(connection))
            _waiting.add(task)
            task.add_done_callback(_waiting.discard)

    def rolls_back(self, _connection: Connection) -> None:
        """Also called where the COMMIT has failed."""
        self._callback = None

    async def _call_when_done(self, connection: Connection) -> None:
        while not connection.closed and not connection.invalidated and connection.in_transaction():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(_POLL_SECONDS)
        callback, self._callback = self._callback, None
        if callback is not None and not connection.invalidated:
            callback()
