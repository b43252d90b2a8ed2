"""Values that a traceback with local variables, a debugger or a log does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, SupportsIndex, TypeVar

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")


class HiddenText(str):
    """A text that its repr does not show. A plain string in every other way; `str()` and formatting give the text.

    A part of it is hidden too: `rich` cuts a long text before it takes the repr.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Say that this is a hidden text, not which."""
        return f"{type(self).__name__}('...')"

    def __getitem__(self, key: SupportsIndex | slice) -> Self:
        """A part of the text, hidden as well."""
        return type(self)(super().__getitem__(key))


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
