"""The kinds of transactions that an application can hand to a store."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from coatcheck.stores.store import Transaction


class ChangedMindError(Exception):
    """Rolls a transaction back."""


@dataclass(frozen=True, slots=True)
class TransactionKind:
    """A way in which transactions are begun: an isolation level, a driver's option, a BEGIN by hand."""

    name: str
    """The name of the kind, in the names of tests."""

    begin: Callable[[], AbstractAsyncContextManager[Transaction]]
    """A new transaction, as the application begins it: committed at the end of the block, rolled back if it raises."""

    is_accepted: bool = True
    """The store writes in it. In any other it refuses to, before it has written anything."""

    lets_others_write: bool = True
    """While it is open and has only read, others commit."""

    may_come_too_late: bool = False
    """It may be too late to write if others have committed since it first read; the call or the COMMIT refuses."""


def in_savepoint(kind: TransactionKind, *, is_accepted: bool | None = None) -> TransactionKind:
    """The same transactions of SQLAlchemy's, in a SAVEPOINT. `is_accepted` None: if they are without."""

    @asynccontextmanager
    async def begin() -> AsyncIterator[Transaction]:
        async with kind.begin() as transaction:
            savepoint = await transaction.begin_nested()
            try:
                yield transaction
            except ChangedMindError:
                await savepoint.commit()  # the SAVEPOINT is released, and the transaction is rolled back afterwards
                raise
            await savepoint.commit()

    return TransactionKind(
        f"{kind.name}, in a savepoint",
        begin,
        is_accepted=kind.is_accepted if is_accepted is None else is_accepted,
        lets_others_write=kind.lets_others_write,
        may_come_too_late=kind.may_come_too_late,
    )
