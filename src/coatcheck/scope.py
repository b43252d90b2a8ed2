"""Scopes: the things that a session may do. They are compared exactly, never by prefix or wildcard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coatcheck.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

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
        InvalidArgumentError: one of them is not a scope, or `scopes` is a plain string, which would otherwise become
            a set of one-letter scopes.
    """
    if isinstance(scopes, str | bytes):
        raise InvalidArgumentError(f"{name} must be a collection of scopes, not one text; write {{Scope(...)}}")
    return frozenset(Scope(scope) for scope in scopes)


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."
