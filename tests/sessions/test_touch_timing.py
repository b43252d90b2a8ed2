"""When a use is written: as exactly as the idle timeout needs it, and at once where the deadline is near."""

from __future__ import annotations

import pytest

from coatcheck.identifiers import SessionId, UserId
from coatcheck.sessions import touch_timing
from coatcheck.stores.records import KeyHash, SessionReading

SECOND = 1_000_000
CREATED = 1_800_000_000 * SECOND


def reading(
    now: int, *, expires_at: int | None = None, unused_for: int | None = None, last_used: int = CREATED
) -> SessionReading:
    return SessionReading(
        id=SessionId("019bea92-71f5-71cd-84bb-86c3d1c42710"),
        user_id=UserId("u"),
        scopes=frozenset(),
        last_used_at_us=last_used,
        expires_at_us=expires_at,
        expire_after_unused_for_us=unused_for,
        key=KeyHash(b"", b"", None),
        now_us=now,
    )


@pytest.mark.parametrize(
    ("unused_for", "resolution"),
    [
        (None, 60 * SECOND),
        (3600 * SECOND, 60 * SECOND),
        (600 * SECOND, 60 * SECOND),
        (60 * SECOND, 6 * SECOND),
        (SECOND, SECOND // 10),
    ],
)
def test_uses_are_recorded_to_a_tenth_of_the_timeout_and_at_least_once_a_minute(
    unused_for: int | None, resolution: int
) -> None:
    assert touch_timing.touch_resolution_us(unused_for) == resolution
    assert not touch_timing.is_touch_due(reading(CREATED + resolution - 1, unused_for=unused_for))
    assert touch_timing.is_touch_due(reading(CREATED + resolution, unused_for=unused_for))


def test_a_use_is_written_late_by_a_second_or_the_resolution_at_most() -> None:
    assert touch_timing.touch_delay_us(None) == SECOND
    assert touch_timing.touch_delay_us(SECOND) == SECOND // 10


def test_a_last_use_ahead_of_the_clock_is_written_anew() -> None:
    assert touch_timing.is_touch_due(reading(CREATED, last_used=CREATED + 1))
    assert not touch_timing.is_touch_due(reading(CREATED, last_used=CREATED))


@pytest.mark.parametrize(("before_deadline", "urgent"), [(SECOND + 1, False), (SECOND, True), (1, True)])
def test_a_touch_is_urgent_where_the_idle_deadline_is_nearer_than_the_delay(
    before_deadline: int, *, urgent: bool
) -> None:
    now = CREATED + 100 * SECOND - before_deadline
    assert touch_timing.is_touch_urgent(reading(now, unused_for=100 * SECOND)) is urgent


def test_no_touch_is_urgent_without_an_idle_deadline() -> None:
    assert not touch_timing.is_touch_urgent(reading(CREATED, expires_at=CREATED + 1))
