"""The database that `MemoryStore` stands on: tables, transactions and notifications, in memory.

A transaction works on a copy of the tables, which takes their place when it is committed. One is open at a time, and
the next one waits for its end. A read outside of it sees the committed tables and never waits.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from coatcheck.clock import SystemClock
from coatcheck.errors import InvalidArgumentError, StoreUnavailable
from coatcheck.stores.records import Change
from coatcheck.testing.memory.one_writer import OneWriter
from coatcheck.testing.memory.tables import Tables

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
    from types import TracebackType
    from typing import Self

    from coatcheck.clock import Clock
    from coatcheck.stores.announcement import Announcement

C = TypeVar("C", bound=Change)


class MemoryTransaction:
    """A copy of the tables, and the announcements that its commit will make.

    Hooks of the application get it in the place of a connection. It runs no SQL.
    """

    def __init__(self, database: MemoryDatabase) -> None:
        """Begin with the committed tables."""
        self.database = database
        self.tables: Tables = database.tables.copy()
        self.announced: list[tuple[Announcement, object]] = []
        self.is_open = True

    def begin_nested(self) -> Savepoint:
        """A savepoint, used as SQLAlchemy's: with `async with`, or with `await` and then `rollback()`."""
        return Savepoint(self)

    def __getattr__(self, name: str) -> object:
        """Say clearly that this is no connection to a SQL database."""
        raise AttributeError(f"the transaction of a MemoryStore runs no SQL; it has no {name!r}")


class Savepoint:
    """A moment inside a transaction to which it can be rolled back."""

    def __init__(self, transaction: MemoryTransaction) -> None:
        """Remember how things stand."""
        self._transaction = transaction
        self._tables = transaction.tables.copy()
        self._announced = len(transaction.announced)

    def __await__(self) -> Generator[None, None, Self]:
        """The savepoint itself: it is set already."""
        return self
        yield

    async def commit(self) -> None:
        """Keep the changes since then."""

    async def rollback(self) -> None:
        """Undo the changes since then, and do not announce them."""
        self._transaction.tables = self._tables.copy()
        del self._transaction.announced[self._announced :]

    async def __aenter__(self) -> Self:
        """Nothing more is to be done."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Roll back if the block raises."""
        if error is not None:
            await self.rollback()


class Step:
    """One call inside a transaction. `tables` are those of the transaction."""

    def __init__(self, transaction: MemoryTransaction, *, known_to: object) -> None:
        """`known_to` is the store that need not hear of what the step announces; None: all stores hear of it."""
        self.transaction = transaction
        self.tables: Tables = transaction.tables
        self._known_to = known_to

    def announced(self, change: C) -> C:
        """The same change, which is announced when the transaction is committed, and only then."""
        self.transaction.announced += [(announcement, self._known_to) for announcement in change.announced]
        return change


class MemoryDatabase:
    """Shared by the stores on it: the tables as they are committed, the clock, and the listeners."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Empty. `clock` None: the clock of this machine."""
        self.clock: Clock = clock or SystemClock()
        self.tables: Tables = Tables(self.clock)
        self.writer: OneWriter = OneWriter()
        self._listeners: list[Listener] = []
        self._is_out = False

    def clear(self) -> None:
        """Remove every row, and announce nothing."""
        self.tables = Tables(self.clock)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Inside this block every call of every store raises StoreUnavailable. Afterwards all is as it was."""
        self._is_out = True
        self._tell(None)
        try:
            yield
        finally:
            self._is_out = False
            self._tell(None)

    def read(self, transaction: object) -> Tables:
        """The tables as a transaction sees them. None: as they are committed."""
        self._check_answers()
        return self.tables if transaction is None else self.checked(transaction).tables

    @asynccontextmanager
    async def write(self, transaction: object, *, caller: object) -> AsyncIterator[Step]:
        """A step in this transaction. None: in one of its own, committed at the end unless the block raises.

        The store `caller` does not hear of the step if it is committed when this block ends: it knows already. It hears
        of a step in somebody else's transaction, because it cannot know whether that will be committed.
        """
        if transaction is not None:
            self._check_answers()
            yield Step(self.checked(transaction), known_to=None)
            return
        await self.writer.take()
        own = MemoryTransaction(self)
        try:
            self._check_answers()
            yield Step(own, known_to=caller)
            self._check_answers()
            self.tables = own.tables
            for announcement, known_to in own.announced:
                self._tell(announcement, known_to=known_to)
        finally:
            own.is_open = False
            self.writer.give_back()

    def checked(self, transaction: object) -> MemoryTransaction:
        """The transaction, if it is one of this database.

        Raises:
            InvalidArgumentError: it is none, or has ended.
        """
        if not isinstance(transaction, MemoryTransaction) or transaction.database is not self:
            raise InvalidArgumentError("transaction must come from `transaction()` of a MemoryStore on the same data")
        if not transaction.is_open:
            raise InvalidArgumentError("transaction has ended already")
        return transaction

    async def listen(self, store: object) -> AsyncGenerator[Announcement | None, None]:
        """Announcements from now on that are not known to `store`; None first, and where some may be missing."""
        listener = Listener(store)
        self._listeners.append(listener)
        try:
            yield None
            while True:
                yield await listener.heard.get()
        finally:
            self._listeners.remove(listener)

    def _check_answers(self) -> None:
        if self._is_out:
            raise StoreUnavailable("the store cannot answer: a test simulates an outage")

    def _tell(self, announcement: Announcement | None, *, known_to: object = None) -> None:
        for listener in tuple(self._listeners):
            if known_to is None or listener.store is not known_to:
                listener.hear(announcement)


class Listener:
    """Hears in its own event loop, whatever loop or thread the announcement comes from."""

    def __init__(self, store: object) -> None:
        """Listens for `store`."""
        self.store = store
        self.heard: asyncio.Queue[Announcement | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def hear(self, announcement: Announcement | None) -> None:
        """Put it behind the earlier ones."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.heard.put_nowait, announcement)
