"""Pages of a listing: a bounded sequence and where the next one starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar, overload

from coatcheck.errors import InvalidArgumentError
from coatcheck.hidden import shown_when_made

T = TypeVar("T")

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


class Page(Sequence[T], Generic[T]):
    """One page of a listing, used like a list.

    `next_after` is the `after` argument that continues the listing, or None on the last page.
    """

    __slots__ = ("_items", "next_after")

    def __init__(self, items: Sequence[T], next_after: str | None = None) -> None:
        """Make a page of `items`; `next_after` is None where nothing follows."""
        self._items = tuple(items)
        self.next_after: str | None = next_after

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """The item, or the items, at `index`."""
        return self._items[index]

    def __len__(self) -> int:
        """How many items this page holds."""
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        """Whether the items and the continuation are equal; a page also equals a list of its items."""
        if isinstance(other, Page):
            return self._items == other._items and self.next_after == other.next_after
        if isinstance(other, list | tuple):
            return self._items == tuple(other)
        return NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # compares equal to lists, which have no hash

    @shown_when_made
    def __repr__(self) -> str:
        """Show the items and the continuation."""
        return f"Page({list(self._items)!r}, next_after={self.next_after!r})"


def page_size(limit: int, *, name: str = "limit") -> int:
    """Check the `limit` of a listing.

    Raises:
        InvalidArgumentError: it is not a whole number from 1 to 1000.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE_SIZE:
        raise InvalidArgumentError(f"{name} must be a whole number from 1 to {MAX_PAGE_SIZE}")
    return limit
