"""Takes part in a transaction of the application's, or refuses it before anything is written.

Two things pass for a transaction and are none. A connection without BEGIN commits each statement. A SAVEPOINT without
BEGIN opens a transaction by itself, which RELEASE commits, although a ROLLBACK is still to come.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy.exc import OperationalError

from coatcheck.errors import InvalidArgumentError, StoreUnavailable
from coatcheck.stores.sql.transactions import COMMITS_EACH_STATEMENT, READ_ONLY
from coatcheck.third_party_internals import aiosqlite_autocommit, sqlalchemy_begin_has_listeners

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import RootTransaction
    from sqlalchemy.ext.asyncio import AsyncConnection

# Changes nothing, so that it may be committed. It takes the file's write lock, which a transaction that has read before
# another one wrote does not get any more; and it has sqlite3 send the BEGIN that it puts off until the first write.
_TAKE_THE_LOCK = "UPDATE coatcheck_users SET revocations = revocations WHERE 0"
_PRIMARY_CODE = 0xFF  # of an extended one, as SQLITE_BUSY_SNAPSHOT

_TOO_LATE = (
    "the transaction cannot write, because another one writes or has written since this one first read: roll it back "
    "and repeat it, begun with BEGIN IMMEDIATE (as pod.store.transaction() does)"
)
_MAY_LACK_A_BEGIN = (
    "transaction must not be in a SAVEPOINT that sqlite3 may have sent without BEGIN, so that its RELEASE commits: "
    'send BEGIN IMMEDIATE in a listener of SQLAlchemy\'s event "begin", or use pod.store.transaction()'
)

_begun: WeakSet[RootTransaction] = WeakSet()
_files: WeakKeyDictionary[object, list[str]] = WeakKeyDictionary()
"""The files of each of the application's connections that we have seen: they stay the same."""


async def check_file(connection: AsyncConnection, path: Path) -> None:
    """Check that the transaction is on the store's file: that is the connection's, or one that it has attached.

    Raises:
        InvalidArgumentError: it is on another file, or on a database in memory.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    files = _files.get(driver)
    if files is None or not any(_is_same(file, path) for file in files):
        files = list(map(str, (await connection.exec_driver_sql("PRAGMA database_list")).scalars("file")))
        _files[driver] = files
    if not any(_is_same(file, path) for file in files):
        raise InvalidArgumentError(
            f"transaction must be on the file of this store, {str(path)!r}, not on {files[0] or ':memory:'!r}"
        )


def _is_same(file: str, path: Path) -> bool:
    try:
        return bool(file) and path.samefile(file)
    except OSError:
        return False


async def join(connection: AsyncConnection) -> None:
    """Take the file's write lock, from which on the transaction sees all that is committed.

    Raises:
        InvalidArgumentError: the transaction is none, may not write, or may be committed by the end of its SAVEPOINT.
        StoreUnavailable: another transaction writes, or has written since this one first read.
    """
    try:
        await connection.exec_driver_sql(_TAKE_THE_LOCK)
    except OperationalError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & _PRIMARY_CODE
        if code == sqlite3.SQLITE_BUSY:
            raise StoreUnavailable(_TOO_LATE) from error
        if code == sqlite3.SQLITE_READONLY:
            why = "PRAGMA query_only, mode=ro, or a file that this process may not write"
            raise InvalidArgumentError(READ_ONLY.format(why=why)) from error
        raise
    driver = (await connection.get_raw_connection()).driver_connection
    autocommit = await aiosqlite_autocommit(driver)
    # With autocommit=True `commit()` does nothing, even where a BEGIN was sent.
    if driver is None or not driver.in_transaction or autocommit is True:
        raise InvalidArgumentError(COMMITS_EACH_STATEMENT)
    if not _has_begun(connection, autocommit=autocommit):
        raise InvalidArgumentError(_MAY_LACK_A_BEGIN)


def _has_begun(connection: AsyncConnection, *, autocommit: bool | None) -> bool:
    """Whether the transaction was opened by BEGIN, and not by a SAVEPOINT. SQLite does not tell."""
    inner = connection.sync_connection
    transaction = None if inner is None else inner.get_transaction()
    if inner is None or transaction is None:
        return False
    if not inner.in_nested_transaction():
        _begun.add(transaction)  # for a SAVEPOINT that comes later
        return True
    return autocommit is False or transaction in _begun or sqlalchemy_begin_has_listeners(inner)
