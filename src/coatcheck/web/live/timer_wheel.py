"""One timer for many things that come due: each waits in a slot of a tenth of a second."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

_TICK_SECONDS = 0.1

Item = TypeVar("Item", bound="Hashable")


class TimerWheel(Generic[Item]):
    """Calls `due` with what has come due, all of a slot at once. No timer runs while there is nothing in it."""

    def __init__(self, due: Callable[[Sequence[Item]], None]) -> None:
        """Begin with nothing in it."""
        self._due = due
        self._slots: dict[int, set[Item]] = {}
        self._slot_of: dict[Item, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def put(self, item: Item, seconds: float) -> None:
        """Have it come due in so many seconds, up to two ticks later; instead of when it would have before."""
        self.discard(item)
        loop = asyncio.get_running_loop()
        slot = math.ceil((loop.time() + seconds) / _TICK_SECONDS)
        self._slots.setdefault(slot, set()).add(item)
        self._slot_of[item] = slot
        if self._timer is None:
            self._timer = loop.call_later(_TICK_SECONDS, self._tick)

    def discard(self, item: Item) -> None:
        """Have it not come due, if it is in here."""
        slot = self._slot_of.pop(item, None)
        if slot is None:
            return
        self._slots[slot].discard(item)
        if not self._slots[slot]:
            del self._slots[slot]
        if not self._slots and self._timer is not None:
            self._timer.cancel()  # it would never go off if this event loop ends, and another may follow
            self._timer = None

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time() / _TICK_SECONDS
        items = [item for slot in [slot for slot in self._slots if slot <= now] for item in self._slots.pop(slot)]
        for item in items:
            del self._slot_of[item]
        self._timer = loop.call_later(_TICK_SECONDS, self._tick) if self._slots else None
        if items:
            self._due(items)
