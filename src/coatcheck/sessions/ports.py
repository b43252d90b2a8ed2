"""What sessions need of the world they run in. With an event loop that is `TouchChannel` and `Finisher`.

Everything else in this folder awaits only the store and the application's own hooks. Over a store that blocks nothing
is ever waited for, and one step of a coroutine runs a call from its beginning to its end: a blocking API needs no more
than other implementations of these two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from coatcheck.stores.records import Rehash, SessionUse

T = TypeVar("T")


class Touches(Protocol):
    """Takes the writes that a request causes and does not wait for."""

    @property
    def dropped(self) -> int:
        """How many were lost so far."""
        ...

    def note_use(self, use: SessionUse, *, delay_us: int) -> None:
        """Write this use within `delay_us`; a later use of the same session takes its place."""
        ...

    def note_rehash(self, rehash: Rehash) -> None:
        """Replace a stored hash soon."""
        ...

    async def flush(self) -> None:
        """Write everything that is waiting. A store that cannot answer costs what was waiting, and no error."""
        ...

    async def close(self) -> None:
        """Write what is waiting and stop."""
        ...


class FinishesCalls(Protocol):
    """Brings a revocation to its end, whatever becomes of its caller."""

    async def run(self, revocation: Coroutine[Any, Any, T]) -> T:
        """Run it to its end and return its result.

        Raises:
            RevocationIndeterminate: it took too long; it goes on by itself.
        """
        ...

    async def close(self) -> None:
        """Wait for the revocations that are still under way."""
        ...
