"""One writer at a time, in tasks of an event loop and in threads without one."""

from __future__ import annotations

import asyncio
import threading

from coatcheck.errors import StoreUnavailable

_PATIENCE_SECONDS = 10.0


class OneWriter:
    """A lock that needs no event loop as long as nobody has to wait.

    `asyncio.Lock` serves one loop only, and a thread without a loop cannot wait for it. Here a task waits in its loop,
    and a thread without a loop is blocked until its turn comes.
    """

    def __init__(self) -> None:
        """Nobody is writing yet."""
        self._lock = threading.Lock()
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """How many tasks wait for their turn."""
        return len(self._waiting)

    async def take(self) -> None:
        """Wait until nobody else writes. Does not suspend the caller where nobody does.

        Raises:
            StoreUnavailable: another was writing for ten seconds.
        """
        if self._lock.acquire(blocking=False):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            is_taken = self._lock.acquire(timeout=_PATIENCE_SECONDS)
        else:
            is_taken = await self._take_in(loop)
        if not is_taken:
            raise StoreUnavailable(
                f"another transaction has been open for {_PATIENCE_SECONDS:g} seconds; "
                "a call inside a transaction has to be given it (transaction=...), or it waits for its own caller"
            )

    def give_back(self) -> None:
        """Let the next one write."""
        self._lock.release()
        for turn in tuple(self._waiting):
            turn.get_loop().call_soon_threadsafe(_wake, turn)

    async def _take_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not await self._took_a_turn(loop):
                    pass
        except TimeoutError:
            return False
        return True

    async def _took_a_turn(self, loop: asyncio.AbstractEventLoop) -> bool:
        turn = loop.create_future()
        self._waiting.append(turn)
        try:
            # Try again now that this task is listed: a turn that was given back in between would wake nobody.
            if self._lock.acquire(blocking=False):
                return True
            await turn
        finally:
            self._waiting.remove(turn)
        return False


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
