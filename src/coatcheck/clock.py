"""Time in microseconds since the Unix epoch, and the clock of stores that have none of their own."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from coatcheck.errors import InvalidArgumentError

__all__ = [
    "EPOCH",
    "LATEST",
    "MAX_TIME_US",
    "Clock",
    "SystemClock",
    "duration_us",
    "from_us",
    "to_us",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9998, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
"""The last moment that is stored: drivers use the very last moments of `datetime` for "never"."""
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Tells the time to stores that have no clock of their own. PostgreSQL has one."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 00:00 UTC."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 00:00 UTC."""
        return time.time_ns() // 1000


def to_us(moment: datetime, *, name: str = "the time") -> int:
    """An aware datetime as microseconds since the Unix epoch, exactly (without floating point).

    Raises:
        InvalidArgumentError: `moment` is not a datetime, or has no time zone.
    """
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidArgumentError(f"{name} must be a datetime with a time zone, for example datetime.now(UTC)")
    return (moment - EPOCH) // _MICROSECOND


MAX_TIME_US = to_us(LATEST)


def from_us(moment_us: int) -> datetime:
    """Microseconds since the Unix epoch as an aware UTC datetime."""
    return EPOCH + timedelta(microseconds=moment_us)


def duration_us(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return duration // _MICROSECOND
