"""Deadlines to the microsecond: both hold from the moment they name."""

from __future__ import annotations

import pytest

from coatcheck.identifiers import SessionId, UserId
from coatcheck.stores.deadlines import Deadline, deadline_reached, ends_in_us
from coatcheck.stores.records import KeyHash, SessionReading

SECOND = 1_000_000
CREATED = 1_800_000_000 * SECOND


def reached(session: SessionReading) -> Deadline | None:
    return deadline_reached(session, session.now_us)


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


@pytest.mark.parametrize(("offset", "verdict"), [(-1, None), (0, Deadline.ABSOLUTE), (1, Deadline.ABSOLUTE)])
def test_a_session_ends_at_its_absolute_deadline(offset: int, verdict: Deadline | None) -> None:
    assert reached(reading(CREATED + 10 + offset, expires_at=CREATED + 10)) is verdict


@pytest.mark.parametrize(("offset", "verdict"), [(-1, None), (0, Deadline.IDLE), (1, Deadline.IDLE)])
def test_a_session_ends_when_it_was_not_used_for_its_timeout(offset: int, verdict: Deadline | None) -> None:
    used = CREATED + 5 * SECOND
    assert reached(reading(used + SECOND + offset, unused_for=SECOND, last_used=used)) is verdict


def test_a_session_without_deadlines_does_not_end() -> None:
    assert reached(reading(CREATED + 10**18)) is None


def test_either_deadline_is_enough_and_the_absolute_one_is_named_first() -> None:
    deadline = CREATED + 10
    assert reached(reading(CREATED + 7, expires_at=deadline, unused_for=5)) is Deadline.IDLE
    assert reached(reading(CREATED + 20, expires_at=deadline, unused_for=5)) is Deadline.ABSOLUTE


@pytest.mark.parametrize(
    ("expires_at", "unused_for", "left"),
    [(None, None, None), (CREATED + 7, None, 7), (None, 5, 5), (CREATED + 7, 5, 5), (CREATED + 3, 5, 3)],
)
def test_the_time_that_is_left_is_that_of_the_nearer_deadline(
    expires_at: int | None, unused_for: int | None, left: int | None
) -> None:
    assert ends_in_us(reading(CREATED, expires_at=expires_at, unused_for=unused_for), CREATED) == left
