"""Refuses a position of another kind of store, before it reaches a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.errors import InvalidArgumentError

if TYPE_CHECKING:
    import re

    from coatcheck.stores.records import Position

NUMBER = r"[0-9]{1,18}"
"""A position that is a number, or a part of one; it fits into 63 bits."""


def check_position(position: Position | None, form: re.Pattern[str]) -> None:
    """Check that a position has the form that this store gives them.

    Raises:
        InvalidArgumentError: it has not.
    """
    if position is not None and (not isinstance(position, str) or form.fullmatch(position) is None):
        raise InvalidArgumentError(
            "the attempt was begun with another kind of store; begin a sign-in with the token manager that issues its "
            "token"
        )
