"""One value for each event loop, for an object that outlives its loops: a module-level application in a test suite."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One `T` for each event loop, so that no timer, task or future of one is met in another.

    A value that was made for a loop that has ended is forgotten, also where that loop ended without a word.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        """`make` makes one, in the event loop that it is for."""
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, T] = {}

    def here(self) -> T:
        """That of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._made.get(loop)
        if found is None:
            self._forget_ended()
            found = self._made[loop] = self._make()
        return found

    def all(self) -> list[tuple[asyncio.AbstractEventLoop, T]]:
        """Those of all event loops that have not ended, each with its loop."""
        self._forget_ended()
        return list(self._made.items())

    def _forget_ended(self) -> None:
        for loop in [loop for loop in list(self._made) if loop.is_closed()]:
            self._made.pop(loop, None)
