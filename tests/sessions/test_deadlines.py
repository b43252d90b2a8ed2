"""Deadlines to the microsecond: both hold from the moment they name."""

from __future__ import annotations

import pytest

from coatcheck.identifiers import SessionId, UserId
from coatcheck.sessions import deadlines
from coatcheck.stores.records import KeyHash, SessionReading
from coatcheck.tokens import TokenRefusal

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


@pytest.mark.parametrize(("offset", "verdict"), [(-1, None), (0, TokenRefusal.EXPIRED), (1, TokenRefusal.EXPIRED)])
def test_a_session_ends_at_its_absolute_deadline(offset: int, verdict: TokenRefusal | None) -> None:
    """S6."""
    assert deadlines.ended(reading(CREATED + 10 + offset, expires_at=CREATED + 10)) is verdict


@pytest.mark.parametrize(("offset", "verdict"), [(-1, None), (0, TokenRefusal.INACTIVE), (1, TokenRefusal.INACTIVE)])
def test_a_session_ends_when_it_was_not_used_for_its_timeout(offset: int, verdict: TokenRefusal | None) -> None:
    """S7."""
    used = CREATED + 5 * SECOND
    assert deadlines.ended(reading(used + SECOND + offset, unused_for=SECOND, last_used=used)) is verdict


def test_a_session_without_deadlines_does_not_end() -> None:
    assert deadlines.ended(reading(CREATED + 10**18)) is None


def test_either_deadline_is_enough_and_the_absolute_one_is_named_first() -> None:
    deadline = CREATED + 10
    assert deadlines.ended(reading(CREATED + 7, expires_at=deadline, unused_for=5)) is TokenRefusal.INACTIVE
    assert deadlines.ended(reading(CREATED + 20, expires_at=deadline, unused_for=5)) is TokenRefusal.EXPIRED


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
    """S8."""
    assert deadlines.touch_resolution_us(unused_for) == resolution
    assert not deadlines.is_touch_due(reading(CREATED + resolution - 1, unused_for=unused_for))
    assert deadlines.is_touch_due(reading(CREATED + resolution, unused_for=unused_for))


def test_a_use_is_written_late_by_a_second_or_the_resolution_at_most() -> None:
    assert deadlines.touch_delay_us(None) == SECOND
    assert deadlines.touch_delay_us(SECOND) == SECOND // 10


def test_a_last_use_ahead_of_the_clock_is_written_anew() -> None:
    assert deadlines.is_touch_due(reading(CREATED, last_used=CREATED + 1))
    assert not deadlines.is_touch_due(reading(CREATED, last_used=CREATED))


@pytest.mark.parametrize(("before_deadline", "urgent"), [(SECOND + 1, False), (SECOND, True), (1, True)])
def test_a_touch_is_urgent_where_the_idle_deadline_is_nearer_than_the_delay(
    before_deadline: int, *, urgent: bool
) -> None:
    now = CREATED + 100 * SECOND - before_deadline
    assert deadlines.is_touch_urgent(reading(now, unused_for=100 * SECOND)) is urgent


def test_no_touch_is_urgent_without_an_idle_deadline() -> None:
    assert not deadlines.is_touch_urgent(reading(CREATED, expires_at=CREATED + 1))
