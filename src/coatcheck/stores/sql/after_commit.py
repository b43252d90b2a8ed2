"""Doing something once a transaction of the application's has committed."""

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
    """Call `callback` soon after the connection's transaction has committed; never if it is rolled back."""
    outcome = _Outcome(callback)
    event.listen(connection, "commit", outcome.commits)
    event.listen(connection, "rollback", outcome.rolls_back)


class _Outcome:
    """Follows one connection to its first commit or rollback."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def commits(self, connection: Connection) -> None:
        """SQLAlchemy calls this just before it sends COMMIT and has no event for when it is done; hence the wait."""
        callback, self._callback = self._callback, None
        if callback is not None:
            task = asyncio.get_running_loop().create_task(_call_when_done(connection, callback))
            _waiting.add(task)
            task.add_done_callback(_waiting.discard)

    def rolls_back(self, _connection: Connection) -> None:
        self._callback = None


async def _call_when_done(connection: Connection, callback: Callable[[], None]) -> None:
    while not connection.closed and connection.in_transaction():  # noqa: ASYNC110 (there is no event to wait for)
        await asyncio.sleep(_POLL_SECONDS)
    callback()
