"""Writes that a request causes but does not wait for: touches and rehashes.

Both may be lost without harm. They are collected and written in order of id, and are dropped when they would slow
requests down. Sign-ins, revocations and changes of scopes never come here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from coatcheck.errors import NotOpenError, StoreUnavailable
from coatcheck.stores.records import SessionUse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from coatcheck.identifiers import SessionId
    from coatcheck.stores.records import Rehash
    from coatcheck.stores.store import Store

_log = logging.getLogger(__name__)

_BATCH = 1000
_REHASH_DELAY_US = 1_000_000

W = TypeVar("W", SessionUse, "Rehash")


class TouchChannel:
    """Collects touches and rehashes and writes them in the background. `dropped` counts the lost ones.

    Lost writes are logged in one line when the channel writes: a line for each of them would slow requests down.
    """

    def __init__(self, store: Store, *, capacity: int = 100_000) -> None:
        """Hold the touches of at most `capacity` sessions, and as many rehashes."""
        self._store = store
        self._capacity = capacity
        self._uses: dict[SessionId, SessionUse] = {}
        self._rehashes: dict[SessionId, Rehash] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self._writing: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the timer, the writer and the lock
        self.dropped: int = 0
        self._overflowed = 0

    def note_use(self, use: SessionUse, *, delay_us: int) -> None:
        """Write this use within `delay_us`; a later use of the same session takes its place."""
        self._note(self._uses, use, delay_us)

    def note_rehash(self, rehash: Rehash) -> None:
        """Replace a stored hash soon."""
        self._note(self._rehashes, rehash, _REHASH_DELAY_US)

    async def flush(self) -> None:
        """Write everything that is waiting. If the store cannot answer, the writes are lost and no error is raised.

        Raises:
            NotOpenError: the store is not open here; the writes wait on.
        """
        async with self._lock():
            if self._overflowed:
                overflowed, self._overflowed = self._overflowed, 0
                self._log_drop(overflowed, "the channel is full")
            while self._uses or self._rehashes:
                uses, self._uses = self._uses, {}
                rehashes, self._rehashes = self._rehashes, {}
                try:
                    await self._write(self._store.touch_sessions, sorted(uses.values(), key=_session_id))
                    await self._write(self._store.rehash_sessions, sorted(rehashes.values(), key=_session_id))
                except NotOpenError:
                    self._uses, self._rehashes = uses | self._uses, rehashes | self._rehashes
                    raise

    async def close(self) -> None:
        """Write everything that is waiting, and stop."""
        self._enter_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.flush()

    def _note(self, waiting: dict[SessionId, W], item: W, delay_us: int) -> None:
        if item.session_id not in waiting and len(waiting) >= self._capacity:
            self.dropped += 1
            self._overflowed += 1
            return
        waiting[item.session_id] = item
        loop = self._enter_loop()
        due = loop.time() + delay_us / 1_000_000
        if self._timer is None or due < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(due, self._start_writing)

    def _enter_loop(self) -> asyncio.AbstractEventLoop:
        """The running event loop. What belongs to another one is left behind: it may have ended without a word."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._timer, self._writer, self._writing = loop, None, None, None
        return loop

    def _lock(self) -> asyncio.Lock:
        self._enter_loop()
        if self._writing is None:
            self._writing = asyncio.Lock()
        return self._writing

    def _start_writing(self) -> None:
        self._timer = None
        if self._writer is None or self._writer.done():  # a running writer also writes what has come since it began
            self._writer = asyncio.get_running_loop().create_task(self.flush())

    async def _write(self, write: Callable[[Sequence[W]], Awaitable[object]], items: Sequence[W]) -> None:
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            try:
                await write(batch)
            except StoreUnavailable as error:
                self.dropped += len(batch)
                self._log_drop(len(batch), str(error))

    def _log_drop(self, count: int, why: str) -> None:
        _log.warning("dropped %d touches or rehashes (%d so far): %s", count, self.dropped, why)


def _session_id(item: SessionUse | Rehash) -> SessionId:
    return item.session_id
