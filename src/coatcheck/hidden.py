"""Values that a traceback with local variables, a debugger or a log does not show."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Generic, SupportsIndex, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

T = TypeVar("T")
S = TypeVar("S")


def shown_when_made(show: Callable[[S], str]) -> Callable[[S], str]:
    """A `__repr__` for an object that may be half made: error reporters show those whose `__init__` has failed."""

    @wraps(show)
    def shown(one: S) -> str:
        try:
            return show(one)
        except AttributeError:
            return f"{type(one).__name__}(...)"

    return shown


class HiddenText(str):
    """A text that its repr does not show. A plain string in every other way; `str()` and formatting give the text.

    Its parts are hidden too: a URL is taken apart in places that fail, and `rich` cuts a long text before it takes the
    repr.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Say that this is a hidden text, not which."""
        return f"{type(self).__name__}('...')"

    def __getitem__(self, key: SupportsIndex | slice) -> Self:
        """A part of the text, hidden as well."""
        return type(self)(super().__getitem__(key))

    def __add__(self, other: str) -> Self:
        """Both texts, hidden as well."""
        return type(self)(super().__add__(other))

    def partition(self, separator: str) -> tuple[Self, Self, Self]:
        """See `str.partition`; the parts are hidden as well."""
        before, found, after = super().partition(separator)
        return type(self)(before), type(self)(found), type(self)(after)

    def rpartition(self, separator: str) -> tuple[Self, Self, Self]:
        """See `str.rpartition`; the parts are hidden as well."""
        before, found, after = super().rpartition(separator)
        return type(self)(before), type(self)(found), type(self)(after)

    def split(self, separator: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """See `str.split`; the parts are hidden as well."""
        return [*map(type(self), super().split(separator, maxsplit))]

    def removeprefix(self, prefix: str) -> Self:
        """See `str.removeprefix`; the rest is hidden as well."""
        return type(self)(super().removeprefix(prefix))


class Hidden(Generic[T]):
    """A box around a value that its repr does not show: the environment, or the sections of a passwords file.

    It has no length and cannot be iterated: error reporters look into mappings and sequences.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        """Hide `value`."""
        self._value = value

    def __repr__(self) -> str:
        """Say that something is hidden, not what."""
        return "Hidden(...)"

    def __reduce__(self) -> str | tuple[object, ...]:
        """Refuse, because a pickle would contain the value."""
        raise TypeError("a hidden value cannot be pickled")

    def reveal(self) -> T:
        """The value. Use it within an expression, and do not keep it in a local variable."""
        return self._value
