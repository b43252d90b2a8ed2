"""When the use of a session has to be written. Pure arithmetic on the store's clock, in microseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coatcheck.stores.records import SessionReading

_SECOND_US = 1_000_000
MAX_TOUCH_RESOLUTION_US = 60 * _SECOND_US
MAX_TOUCH_DELAY_US = _SECOND_US


def touch_resolution_us(unused_for_us: int | None) -> int:
    """The resolution of recorded uses: a minute, or a tenth of the idle timeout if that is shorter."""
    return MAX_TOUCH_RESOLUTION_US if unused_for_us is None else min(MAX_TOUCH_RESOLUTION_US, unused_for_us // 10)


def touch_delay_us(unused_for_us: int | None) -> int:
    """The longest time that a use may wait before it is written."""
    return min(MAX_TOUCH_DELAY_US, touch_resolution_us(unused_for_us))


def is_touch_due(reading: SessionReading) -> bool:
    """Whether this use has to be written.

    A last use in the future, after the clock was set back, is written again: it would extend the session's life.
    """
    unused_us = reading.now_us - reading.last_used_at_us
    return unused_us < 0 or unused_us >= touch_resolution_us(reading.expire_after_unused_for_us)


def is_touch_urgent(reading: SessionReading) -> bool:
    """Whether the idle deadline may come before a delayed write."""
    unused_for_us = reading.expire_after_unused_for_us
    if unused_for_us is None:
        return False
    return reading.last_used_at_us + unused_for_us - reading.now_us <= touch_delay_us(unused_for_us)
