"""When a session ends, and when its use has to be written. Pure arithmetic on the store's clock, in microseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.tokens import TokenRefusal

if TYPE_CHECKING:
    from coatcheck.stores.records import SessionRecord

_SECOND_US = 1_000_000
MAX_TOUCH_RESOLUTION_US = 60 * _SECOND_US
MAX_TOUCH_DELAY_US = _SECOND_US


def ended(session: SessionRecord, now_us: int) -> TokenRefusal | None:
    """Which deadline the session has reached, if any. Both hold from the very microsecond they name."""
    if session.expires_at_us is not None and now_us >= session.expires_at_us:
        return TokenRefusal.EXPIRED
    idle_deadline_us = _idle_deadline_us(session)
    if idle_deadline_us is not None and now_us >= idle_deadline_us:
        return TokenRefusal.INACTIVE
    return None


def touch_resolution_us(session: SessionRecord) -> int:
    """How exactly uses are recorded: a minute, or a tenth of a shorter idle timeout."""
    if session.expire_after_unused_for_us is None:
        return MAX_TOUCH_RESOLUTION_US
    return min(MAX_TOUCH_RESOLUTION_US, session.expire_after_unused_for_us // 10)


def touch_delay_us(session: SessionRecord) -> int:
    """How late a use may be written."""
    return min(MAX_TOUCH_DELAY_US, touch_resolution_us(session))


def is_touch_due(session: SessionRecord, now_us: int) -> bool:
    """Whether this use has to be written.

    A last use that lies ahead of the clock (it was set back) is written anew, or it would extend the session's life.
    """
    unused_us = now_us - session.last_used_at_us
    return unused_us < 0 or unused_us >= touch_resolution_us(session)


def is_touch_urgent(session: SessionRecord, now_us: int) -> bool:
    """Whether the idle deadline may come before a delayed write would."""
    idle_deadline_us = _idle_deadline_us(session)
    return idle_deadline_us is not None and idle_deadline_us - now_us <= touch_delay_us(session)


def _idle_deadline_us(session: SessionRecord) -> int | None:
    if session.expire_after_unused_for_us is None:
        return None
    return session.last_used_at_us + session.expire_after_unused_for_us
