"""A value for each event loop, for an object that is used in several, one after the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class InEachLoop(Generic[T]):
    """Makes a value when a loop asks for the first time. Connections and limits of one loop cannot be used in another.

    The first value is made at once. Code outside of a loop gets it, and so does the first loop.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        """Values are made by `make`."""
        self._make = make
        self._latest = make()
        self._is_taken = False
        self._values: WeakKeyDictionary[object, T] = WeakKeyDictionary()

    def get(self) -> T:
        """The value of the running loop; outside of a loop the value that was made last."""
        try:
            loop = anyio.lowlevel.current_token().native_token
        except RuntimeError:  # anyio's NoEventLoopError, or asyncio's where sniffio still names a loop that has ended
            return self._latest
        found = self._values.get(loop)
        if found is not None:
            return found
        if self._is_taken:
            self._latest = self._make()
        self._is_taken = True
        self._forget_closed_loops()
        self._values[loop] = self._latest
        return self._latest

    def _forget_closed_loops(self) -> None:
        """Connections know their loop, so a weak reference to it would never be cleared."""
        for loop in list(self._values):
            if isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed():
                del self._values[loop]
