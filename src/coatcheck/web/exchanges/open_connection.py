"""The protocol of an open connection: all that the verdict and the exchange of a request know of it."""

from __future__ import annotations

from typing import Protocol


class OpenConnection(Protocol):
    """The connection of a signed-in caller, over which something was sent and more may follow."""

    def begin(self) -> None:
        """Note that something was sent, and more may follow."""
        ...

    def note_asked(self) -> None:
        """Note that the application has asked who is calling, maybe in another thread."""
        ...

    def finish(self) -> None:
        """Note that it is over, or that the application has ended."""
        ...

    async def until_left(self) -> None:
        """Wait until the application is to end; not at all, as long as nothing ends."""
        ...

    def was_cancelled_by_us(self) -> bool:
        """Whether a CancelledError in the application's task is ours alone."""
        ...
