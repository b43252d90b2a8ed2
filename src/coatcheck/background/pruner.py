"""Removing expired sessions in the background: in small steps, at irregular times, by one process at a time."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from coatcheck.background.task import BackgroundTask
from coatcheck.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from coatcheck.events import EventBus
    from coatcheck.identifiers import SessionId
    from coatcheck.stores.store import Store

_log = logging.getLogger(__name__)

_LOCK = "prune"
_CHUNK = 500
_PAUSE_SECONDS = 0.1
"""At most 5000 sessions go in a second, so that the p99 of requests stays within its limit (`docs/performance.md`)."""


class Pruner:
    """Prunes a store at intervals while it runs.

    Only the process that holds the store's lock prunes. If that process dies, the lock ends by itself after one
    interval. The pruner pauses between two chunks, so that requests are hardly delayed and other writers get SQLite's
    one lock.
    """

    DEFAULT_INTERVAL = timedelta(minutes=10)

    def __init__(self, store: Store, bus: EventBus, *, interval: timedelta = DEFAULT_INTERVAL) -> None:
        """Prune every `interval`, varied by up to a fifth, so that many processes do not prune at the same moment.

        The observers of `bus` get the ids of the deleted sessions.
        """
        if not isinstance(interval, timedelta) or interval <= timedelta(0):
            raise ConfigurationError("prune_interval must be a timedelta above zero, or None to prune never")
        self._store = store
        self._bus = bus
        self._interval = interval
        self._holder: str | None = None
        self._task = BackgroundTask("pruning")
        self._lock_for = max(interval, timedelta(minutes=1))
        self._renew_at = 0.0

    def start(self) -> None:
        """Begin, in a background task, under a name that no other process has."""
        self._holder = secrets.token_hex(8)
        self._task.start(self._run)

    async def stop(self) -> None:
        """Stop the background task."""
        await self._task.stop()

    async def prune(self) -> int | None:
        """Prune all expired sessions and return their number; None if another process holds the lock."""
        if not await self._has_lock():
            return None
        deleted = 0
        while True:
            expired = await self._store.prune_expired(_CHUNK)
            await self._bus.publish_change(expired)
            deleted += len(expired.ended)
            if expired.is_done:
                break
            if not await self._may_go_on():
                return deleted
        after: SessionId | None = None
        while True:
            idle = await self._store.prune_idle(after, _CHUNK)
            await self._bus.publish_change(idle)
            deleted += len(idle.ended)
            after = idle.next_after
            if after is None or not await self._may_go_on():
                return deleted

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval.total_seconds() * random.uniform(0.8, 1.2))  # noqa: S311 (spreads load, guards nothing)
            try:
                deleted = await self.prune()
            except StoreUnavailable as error:
                _log.warning("pruning put off: %s", error)
                continue
            if deleted:
                _log.info("pruned %d expired sessions", deleted)

    async def _may_go_on(self) -> bool:
        """Pause, and renew the lock when half of its time is over. False if the lock was lost."""
        await asyncio.sleep(_PAUSE_SECONDS)
        return asyncio.get_running_loop().time() < self._renew_at or await self._has_lock()

    async def _has_lock(self) -> bool:
        self._renew_at = asyncio.get_running_loop().time() + self._lock_for.total_seconds() / 2
        if self._holder is None:
            self._holder = secrets.token_hex(8)
        return await self._store.try_lock(_LOCK, self._holder, self._lock_for)
