"""The two parts of sessions that depend on an event loop, as protocols. `TouchChannel` and `Finisher` implement them.

Everything else in this folder awaits only the store and the application's own hooks. Over a store that blocks, nothing
is awaited, and one `send(None)` runs a call from its beginning to its end. A blocking API therefore needs only other
implementations of these two.
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
        """The number of writes that were lost so far."""
        ...

    def note_use(self, use: SessionUse, *, delay_us: int) -> None:
        """Write this use within `delay_us`; a later use of the same session takes its place."""
        ...

    def note_rehash(self, rehash: Rehash) -> None:
        """Replace a stored hash soon."""
        ...

    async def flush(self) -> None:
        """Write everything that is waiting. If the store cannot answer, the writes are lost and no error is raised."""
        ...

    async def close(self) -> None:
        """Write what is waiting and stop."""
        ...


class FinishesCalls(Protocol):
    """Runs a revocation to its end, also when its caller is cancelled."""

    async def run(self, revocation: Coroutine[Any, Any, T]) -> T:
        """Run a revocation to its end and return its result.

        Raises:
            RevocationIndeterminate: it took too long; it goes on in the background.
        """
        ...

    async def close(self) -> None:
        """Wait for the revocations that are still under way."""
        ...
