"""Scopes: the things that a session may do. They are compared exactly, never by prefix or wildcard."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from coatcheck.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

__all__ = [
    "MAX_SCOPE_LENGTH",
    "Scope",
    "scope_set",
]

MAX_SCOPE_LENGTH = 255

# RFC 6749 section 3.3: printable ASCII without space, double quote and backslash.
_ALLOWED = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,255}")


class Scope(str):
    r"""One capability, for example `Scope("notes:read")`.

    A scope is its text: it equals, hashes and sorts as that text, so `"notes:read" in info.scopes` works.
    1 to 255 characters of printable ASCII without space, `"` and `\` (RFC 6749 section 3.3).

    Raises:
        InvalidArgumentError: the text is not a scope.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check `text` and make it a scope."""
        if not isinstance(text, Scope) and (not isinstance(text, str) or _ALLOWED.fullmatch(text) is None):
            raise InvalidArgumentError(
                f"not a scope: {_shown(text)}; allowed are 1 to {MAX_SCOPE_LENGTH} printable ASCII characters "
                'without space, " and \\ (RFC 6749 section 3.3)'
            )
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        """Show the scope as it is written in code."""
        return f"Scope({str.__repr__(self)})"


def scope_set(scopes: Iterable[str], *, name: str = "scopes") -> frozenset[Scope]:
    """Check a collection of scopes and make it a set.

    Raises:
        InvalidArgumentError: one of them is not a scope, or `scopes` is a plain string or the set of its letters,
            `set("notes:read")`.
    """
    if isinstance(scopes, str | bytes):
        raise InvalidArgumentError(f"{name} must be a collection of scopes, not one text; write {{Scope(...)}}")
    checked = frozenset(Scope(scope) for scope in scopes)
    if isinstance(scopes, AbstractSet) and _are_the_letters_of_a_text(scopes):
        raise InvalidArgumentError(
            f"{name} has {len(checked)} scopes of one letter each, as in set('notes:read'); write {{'notes:read'}}, or "
            "{Scope('r'), Scope('w'), Scope('x')} where such scopes are meant"
        )
    return checked


def _are_the_letters_of_a_text(scopes: AbstractSet[str]) -> bool:
    """Three at least, as "r" and "w" are names of scopes. A `Scope` was written as one, or has been checked before."""
    return len(scopes) >= 3 and all(len(scope) == 1 and not isinstance(scope, Scope) for scope in scopes)


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."
