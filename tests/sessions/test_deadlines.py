"""Deadlines to the microsecond: both hold from the moment they name."""

from __future__ import annotations

import pytest

from coatcheck.identifiers import SessionId, UserId
from coatcheck.sessions import deadlines
from coatcheck.stores.records import KeyHash, SessionRecord
from coatcheck.tokens import TokenRefusal

SECOND = 1_000_000
CREATED = 1_800_000_000 * SECOND


def session(*, expires_at: int | None = None, unused_for: int | None = None, last_used: int = CREATED) -> SessionRecord:
    return SessionRecord(
        id=SessionId("019bea92-71f5-71cd-84bb-86c3d1c42710"),
        user_id=UserId("u"),
        method="email",
        scopes=frozenset(),
        follows_user=True,
        created_at_us=CREATED,
        last_used_at_us=last_used,
        expires_at_us=expires_at,
        expire_after_unused_for_us=unused_for,
        key=KeyHash(b"", b"", None),
    )


@pytest.mark.parametrize(("offset", "verdict"), [(-1, None), (0, TokenRefusal.EXPIRED), (1, TokenRefusal.EXPIRED)])
def test_a_session_ends_at_its_absolute_deadline(offset: int, verdict: TokenRefusal | None) -> None:
    """S6."""
    assert deadlines.ended(session(expires_at=CREATED + 10), CREATED + 10 + offset) is verdict


@pytest.mark.parametrize(("offset", "verdict"), [(-1, None), (0, TokenRefusal.INACTIVE), (1, TokenRefusal.INACTIVE)])
def test_a_session_ends_when_it_was_not_used_for_its_timeout(offset: int, verdict: TokenRefusal | None) -> None:
    """S7."""
    used = CREATED + 5 * SECOND
    assert deadlines.ended(session(unused_for=SECOND, last_used=used), used + SECOND + offset) is verdict


def test_a_session_without_deadlines_does_not_end() -> None:
    assert deadlines.ended(session(), CREATED + 10**18) is None


def test_either_deadline_is_enough_and_the_absolute_one_is_named_first() -> None:
    both = session(expires_at=CREATED + 10, unused_for=5)
    assert deadlines.ended(both, CREATED + 7) is TokenRefusal.INACTIVE
    assert deadlines.ended(both, CREATED + 20) is TokenRefusal.EXPIRED


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
    one = session(unused_for=unused_for)
    assert deadlines.touch_resolution_us(one) == resolution
    assert not deadlines.is_touch_due(one, CREATED + resolution - 1)
    assert deadlines.is_touch_due(one, CREATED + resolution)


def test_a_use_is_written_late_by_a_second_or_the_resolution_at_most() -> None:
    assert deadlines.touch_delay_us(session()) == SECOND
    assert deadlines.touch_delay_us(session(unused_for=SECOND)) == SECOND // 10


def test_a_last_use_ahead_of_the_clock_is_written_anew() -> None:
    assert deadlines.is_touch_due(session(last_used=CREATED + 1), CREATED)
    assert not deadlines.is_touch_due(session(last_used=CREATED), CREATED)


@pytest.mark.parametrize(("before_deadline", "urgent"), [(SECOND + 1, False), (SECOND, True), (1, True)])
def test_a_touch_is_urgent_where_the_idle_deadline_is_nearer_than_the_delay(
    before_deadline: int, *, urgent: bool
) -> None:
    one = session(unused_for=100 * SECOND)
    assert deadlines.is_touch_urgent(one, CREATED + 100 * SECOND - before_deadline) is urgent


def test_no_touch_is_urgent_without_an_idle_deadline() -> None:
    assert not deadlines.is_touch_urgent(session(expires_at=CREATED + 1), CREATED)
