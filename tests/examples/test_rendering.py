"""The texts on the pages."""

from __future__ import annotations

from coatcheck.identifiers import UserId, new_session_id
from rendering import ticket_number


def test_the_ticket_numbers_of_one_person_differ() -> None:
    """All ids of one user end in the same two digits."""
    numbers = {ticket_number(new_session_id(UserId("ada"))) for _ in range(20)}
    assert len(numbers) >= 19  # of 65 536
    assert len({number[-2:] for number in numbers}) > 1
