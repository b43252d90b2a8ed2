"""The author of a store writes this so that the suite can run against it: its data, its clock, its outages."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import pytest

from coatcheck.clock import duration_us
from coatcheck.errors import NotOpenError
from coatcheck.testing.transaction_kinds import TransactionKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from coatcheck.identifiers import SessionId
    from coatcheck.stores.store import Store


class StoreHarness(ABC):
    """Empty data of its own, one opened store over it, and control over what is around them.

    Used as `async with MyHarness() as harness`, one for each test; where setting up is slow, one for all tests that
    is given out with `await harness.renew()` before each. Abstract methods must be written; the others may be.
    """

    has_transactions: ClassVar[bool] = True
    """The store has transactions that span several calls. Without, the tests that hold one open are skipped."""

    locks_single_rows: ClassVar[bool] = False
    """A transaction of the store's keeps others from its own rows only, not from every write."""

    def __init__(self) -> None:
        """Set up without connecting."""
        self._opened: list[Store] = []
        self._began_us = 0

    async def __aenter__(self) -> Self:
        """Make the data ready and open a store."""
        await self.start()
        try:
            await self.second_store()
            self._began_us = await self.now_us()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every store that was opened, and clean up."""
        await self._end()

    # --- what has to be written ---

    @abstractmethod
    def make_store(self) -> Store:
        """A new store object on this harness's data, not opened."""

    @abstractmethod
    async def now_us(self) -> int:
        """The time on the store's clock. It stands still until it is moved."""

    @abstractmethod
    async def set_clock_us(self, now_us: int) -> None:
        """Set the clock of every store of this harness, forward or back."""

    @abstractmethod
    async def reset(self) -> None:
        """Remove all sessions, users and locks. The stores stay open."""

    @abstractmethod
    def outage(self) -> AbstractAsyncContextManager[None]:
        """Inside this block the stores cannot answer. Afterwards they can, and their data is untouched."""

    # --- what may be written ---

    async def start(self) -> None:  # noqa: B027 (most have nothing to do here)
        """Called once, before the first store is opened."""

    async def stop(self) -> None:  # noqa: B027 (as above)
        """Called once, after the last store was closed."""

    async def corrupt_scopes(self, session_id: SessionId) -> None:
        """Overwrite what is stored as the session's scopes with something that is not a set of scopes."""
        pytest.skip(f"{type(self).__name__} does not damage rows (session {session_id})")

    async def transaction_kinds(self) -> Sequence[TransactionKind]:
        """Every kind of transaction that an application can hand to the store, those that it refuses included.

        A database has isolation levels, a driver has modes, and an engine sets both in several places. Without, the
        tests know the store's own transactions alone.
        """
        return [TransactionKind("its own", self.store.transaction, lets_others_write=self.locks_single_rows)]

    async def until_blocked(self, call: asyncio.Task[object]) -> None:
        """Return when `call` waits for a transaction that the test holds, or is done.

        The tests hold in any order; a store that can tell lets them choose the order they are after. Without, the
        call is merely started.
        """
        if not call.done():
            await asyncio.sleep(0)

    # --- what the tests use ---

    @property
    def store(self) -> Store:
        """The store under test, opened."""
        if not self._opened:
            raise NotOpenError("use the harness inside `async with`")
        return self._opened[0]

    async def second_store(self) -> Store:
        """Another store object on the same data, opened: what a second process or server would use."""
        store = self.make_store()
        self._opened.append(store)
        await store.open()
        return store

    async def renew(self) -> None:
        """Make the harness as it was, for another test: no data, one store, the first time on the clock."""
        await self._close_stores(keep=1)
        await self.reset()
        await self.set_clock_us(self._began_us)

    async def advance(self, duration: timedelta) -> int:
        """Move the clock, and return the new time in microseconds."""
        now_us = await self.now_us() + duration_us(duration)
        await self.set_clock_us(now_us)
        return now_us

    async def _end(self) -> None:
        try:
            await self._close_stores(keep=0)
        finally:
            await self.stop()

    async def _close_stores(self, *, keep: int) -> None:
        while len(self._opened) > keep:
            await self._opened.pop().close()
