"""When the use of a session has to be written. Pure arithmetic on the store's clock, in microseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coatcheck.stores.records import SessionReading

_SECOND_US = 1_000_000
MAX_TOUCH_RESOLUTION_US = 60 * _SECOND_US
MAX_TOUCH_DELAY_US = _SECOND_US


def touch_resolution_us(unused_for_us: int | None) -> int:
    """How exactly uses are recorded: a minute, or a tenth of a shorter idle timeout."""
    return MAX_TOUCH_RESOLUTION_US if unused_for_us is None else min(MAX_TOUCH_RESOLUTION_US, unused_for_us // 10)


def touch_delay_us(unused_for_us: int | None) -> int:
    """How late a use may be written."""
    return min(MAX_TOUCH_DELAY_US, touch_resolution_us(unused_for_us))


def is_touch_due(reading: SessionReading) -> bool:
    """Whether this use has to be written.

    A last use that lies ahead of the clock (it was set back) is written anew, or it would extend the session's life.
    """
    unused_us = reading.now_us - reading.last_used_at_us
    return unused_us < 0 or unused_us >= touch_resolution_us(reading.expire_after_unused_for_us)


def is_touch_urgent(reading: SessionReading) -> bool:
    """Whether the idle deadline may come before a delayed write would."""
    unused_for_us = reading.expire_after_unused_for_us
    if unused_for_us is None:
        return False
    return reading.last_used_at_us + unused_for_us - reading.now_us <= touch_delay_us(unused_for_us)
