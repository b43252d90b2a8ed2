"""When a session ends. Pure arithmetic on the store's clock, in microseconds."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coatcheck.stores.records import SessionReading, SessionRecord


class Deadline(Enum):
    """The deadlines of a session. Both are optional."""

    ABSOLUTE = "so long after it was made"
    IDLE = "so long after it was last used"


def deadline_reached(session: SessionReading | SessionRecord, now_us: int) -> Deadline | None:
    """Which deadline the session has reached, if any. Both hold from the very microsecond they name."""
    if session.expires_at_us is not None and now_us >= session.expires_at_us:
        return Deadline.ABSOLUTE
    unused_for_us = session.expire_after_unused_for_us
    if unused_for_us is not None and now_us >= session.last_used_at_us + unused_for_us:
        return Deadline.IDLE
    return None


def ends_in_us(session: SessionReading | SessionRecord, now_us: int) -> int | None:
    """How long until a deadline comes, if the session is not used before; None where it has none."""
    unused_for_us = session.expire_after_unused_for_us
    deadlines = (session.expires_at_us, None if unused_for_us is None else session.last_used_at_us + unused_for_us)
    return min((deadline - now_us for deadline in deadlines if deadline is not None), default=None)
