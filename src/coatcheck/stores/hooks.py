"""Runs a hook of the application's inside a transaction, which the hook must not end.

After a ROLLBACK in a hook, whatever is done next opens another transaction: its COMMIT would succeed, and the call
would return a token whose session is gone. A savepoint that is set before the hook shows it, however the transaction
was ended: `connection.rollback()`, `commit()`, `close()`, a session of SQLAlchemy's ORM, or SQL by hand, with a BEGIN
or without.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection

from coatcheck.errors import ConfigurationError
from coatcheck.in_time import hook_in_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

T = TypeVar("T")

_MARK = "coatcheck_hook"
_HAS_ENDED = frozenset({"3B001", "25P01"})  # SQLSTATEs: there is no such savepoint, and there is no transaction


async def run_hook(name: str, connection: AsyncConnection, call: Callable[[], Awaitable[T]]) -> T:
    """The answer of the hook of this name, which runs on `connection`.

    Raises:
        StoreUnavailable: it took too long, so that its transaction must not be committed.
        ConfigurationError: it has ended the transaction.
    """
    async with _left_open(connection, name):
        return await hook_in_time(call(), name)


@asynccontextmanager
async def _left_open(connection: AsyncConnection, name: str) -> AsyncIterator[None]:
    if not isinstance(connection, AsyncConnection):  # a MemoryStore's, which only the store itself can end
        yield
        return
    await connection.exec_driver_sql(f"SAVEPOINT {_MARK}")
    yield
    try:
        await connection.exec_driver_sql(f"RELEASE SAVEPOINT {_MARK}")
    except (DBAPIError, InvalidRequestError) as error:
        if isinstance(error, DBAPIError) and not _has_ended(error):
            raise
        raise ConfigurationError(
            f"{name} has ended the transaction that it was given (by a rollback or a commit), so that the call has "
            "failed: leave the transaction open, and raise an error where nothing is to be stored"
        ) from error


def _has_ended(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in _HAS_ENDED or "no such savepoint" in str(error.orig)
