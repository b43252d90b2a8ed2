"""A clock that a test moves by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.clock import SystemClock, duration_us, from_us, to_us

if TYPE_CHECKING:
    from datetime import datetime, timedelta


class ManualClock:
    """Stands still until it is moved. For `MemoryStore(clock=...)` and `Pod(clock=...)`.

    clock = ManualClock()
    clock.advance(timedelta(minutes=31))
    """

    def __init__(self, now: datetime | None = None) -> None:
        """Start at `now`, an aware datetime. None: at the present moment."""
        self._now_us = SystemClock().now_us() if now is None else to_us(now, name="now")

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 00:00 UTC."""
        return self._now_us

    def now(self) -> datetime:
        """The time as an aware UTC datetime."""
        return from_us(self._now_us)

    def advance(self, duration: timedelta) -> None:
        """Move forward, or back where the duration is negative."""
        self._now_us += duration_us(duration)
