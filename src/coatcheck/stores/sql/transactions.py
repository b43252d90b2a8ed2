"""Connections and transactions, and what their failures mean."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from coatcheck.errors import InvalidArgumentError, NotOpenError, RevocationIndeterminate, StoreUnavailable
from coatcheck.opening import NOT_OPEN, Opening
from coatcheck.stores.failures import cannot_answer
from coatcheck.third_party_internals import sqlalchemy_isolation_level

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncEngine

    from coatcheck.stores.store import InsideTransaction, Transaction


Limit: TypeAlias = "Callable[[float | None], AbstractAsyncContextManager[object]]"

_log = logging.getLogger(__name__)

INDETERMINATE = "the outcome of a revocation is not known; treat it as not done and revoke again"
READ_ONLY = (
    "transaction must be one that may write, and this one is read-only ({why}): use one that may write, or "
    "pod.store.transaction()"
)
COMMITS_EACH_STATEMENT = (
    "transaction must be one that the database has open, and this connection commits each statement at once "
    "(AUTOCOMMIT, the like among the driver's arguments, or a COMMIT by hand): let it begin one, or use "
    "pod.store.transaction()"
)


class NotConfirmedError(Exception):
    """A COMMIT was answered in a way that leaves open whether what it did will last."""


class Transactions:
    """Makes transactions on an engine, or takes part in the caller's.

    `opening` is where the store is open. There is no `engine` while it is closed.
    """

    def __init__(
        self,
        *,
        dialect: str,
        driver_errors: tuple[type[Exception], ...],
        timeout_seconds: float,
        join: Callable[[AsyncConnection], Awaitable[None]],
        before_writing: Callable[[AsyncConnection], Awaitable[None]] | None = None,
        begun: Callable[[AsyncConnection], Awaitable[None]] | None = None,
        commit: Callable[[AsyncConnection, float | None], Awaitable[None]] | None = None,
        limit: Limit = asyncio.timeout,
    ) -> None:
        """`dialect` is SQLAlchemy's name for the kind of database.

        `driver_errors` are those of the driver beneath SQLAlchemy, which connecting lets through.
        After `timeout_seconds` without an answer the database counts as unavailable. `join` is called before we write
        in a transaction of the application's: it raises the durability where that is weaker than ours, and refuses
        what is no transaction, or one in which we would overlook what others commit. `before_writing` raises where no
        write can succeed. `begun` is called first in each transaction of ours. `commit` commits within so many seconds
        (None: however long it takes), for a database where cancelling a COMMIT would leave its outcome open. `limit`
        makes a block raise TimeoutError after so many seconds (None: never); without an event loop the driver has to do
        that itself.
        """
        self._dialect = dialect
        self._join = join
        self._before_writing = before_writing
        self._begun = begun
        self._limit = limit
        self._commit = self._commit_in_time if commit is None else commit
        self.opening: Opening = Opening()
        self.engine: AsyncEngine | None = None
        self._no_answer: tuple[type[Exception], ...] = (
            DBAPIError,
            PoolTimeoutError,
            OSError,
            NotConfirmedError,
            *driver_errors,
        )
        self.timeout_seconds = timeout_seconds

    @asynccontextmanager
    async def read(self, transaction: Transaction | None) -> AsyncIterator[AsyncConnection]:
        """For statements that only read."""
        if transaction is not None:
            async with self._callers(transaction) as connection:
                yield connection
            return
        engine = self.opened_engine()
        with self.answering():
            async with self._limit(self.timeout_seconds), engine.connect() as connection:
                await connection.execution_options(coatcheck_reads_only=True)
                if self._begun is not None:
                    await self._begun(connection)
                yield connection

    @asynccontextmanager
    async def read_tables(self, transaction: Transaction | None) -> AsyncIterator[AsyncConnection]:
        """For the application's own statements that only read: its errors inside the block are left as they are."""
        if transaction is not None:
            async with self._callers(transaction) as connection:
                yield connection
            return
        engine = self.opened_engine()
        async with AsyncExitStack() as stack:
            with self.answering():
                async with self._limit(self.timeout_seconds):
                    connection = await stack.enter_async_context(engine.connect())
                    await connection.execution_options(coatcheck_reads_only=True)
                    if self._begun is not None:
                        await self._begun(connection)
            with self._losing_the_connection():
                yield connection

    @asynccontextmanager
    async def write(
        self, transaction: Transaction | None, *, ends_sessions: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """For statements of ours that write: committed and durable at the end of the block."""
        if transaction is not None:
            async with self._callers(transaction) as connection:
                await self._join(connection)
                yield connection
            return
        async with self.begin(ends_sessions=ends_sessions) as connection:
            with self.answering():
                async with self._limit(self.timeout_seconds):
                    yield connection

    @asynccontextmanager
    async def begin(
        self, *, ends_sessions: bool = False, is_in_other_hands: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction that the application may have a hand in: its own errors inside the block are left as they are.

        Until COMMIT is sent nothing has happened. A COMMIT that fails leaves open whether it has. That of a
        revocation is given all the time it takes: see `sessions.finishing`.
        """
        engine = self.opened_engine()
        async with AsyncExitStack() as stack:
            with self.answering():
                async with self._limit(self.timeout_seconds):
                    connection = await stack.enter_async_context(engine.connect())
                    if self._before_writing is not None:
                        await self._before_writing(connection)
                    await connection.begin()
                    if self._begun is not None:
                        await self._begun(connection)
            with self._losing_the_connection():
                yield connection
                if is_in_other_hands:
                    await raise_if_aborted(connection)
            with self.answering(RevocationIndeterminate if ends_sessions else StoreUnavailable):
                await self._commit(connection, None if ends_sessions else self.timeout_seconds)

    async def dispose(self, engine: AsyncEngine) -> None:
        """Close the engine's connections; those that do not answer are left behind rather than waited for."""
        try:
            async with self._limit(self.timeout_seconds):
                await engine.dispose()
        except TimeoutError:
            _log.warning("connections to the store did not close in time")

    @contextmanager
    def answering(self, failure: type[StoreUnavailable] = StoreUnavailable) -> Iterator[None]:
        """Turns a database that does not answer into `failure`. The driver's text stays in the cause."""
        try:
            yield
        except self._no_answer as error:
            message = INDETERMINATE if failure is RevocationIndeterminate else cannot_answer(error)
            raise failure(message) from error

    @asynccontextmanager
    async def _callers(self, transaction: Transaction) -> AsyncIterator[AsyncConnection]:
        self.opening.check_not_elsewhere()
        with self._losing_the_connection():
            connection = await connection_of(transaction)
            if connection.dialect.name != self._dialect:
                raise InvalidArgumentError(
                    f"transaction must be on the database of this store, which is {self._dialect}, not "
                    f"{connection.dialect.name}"
                )
            yield connection

    @contextmanager
    def _losing_the_connection(self) -> Iterator[None]:
        """Like `answering`, for a transaction in other hands: a conflict in it, or a wrong statement, is no outage."""
        try:
            yield
        except DBAPIError as error:
            if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
                with self.answering():
                    raise
            raise

    async def _commit_in_time(self, connection: AsyncConnection, timeout_seconds: float | None) -> None:
        async with self._limit(timeout_seconds):
            await connection.commit()

    def is_on_own_engine(self, connection: AsyncConnection) -> bool:
        """Whether the connection is one of ours, as `pod.store.transaction()` gives it, and so on our database."""
        inner = connection.sync_connection
        return self.engine is not None and inner is not None and inner.engine is self.engine.sync_engine

    def opened_engine(self) -> AsyncEngine:
        """The engine.

        Raises:
            NotOpenError: the store is closed, or is open in another event loop or process.
        """
        self.opening.check()
        if self.engine is None:  # it is being opened
            raise NotOpenError(NOT_OPEN)
        return self.engine


async def raise_if_aborted(connection: AsyncConnection) -> None:
    """Find out whether an error was swallowed: PostgreSQL answers COMMIT with a silent ROLLBACK then."""
    await connection.exec_driver_sql("SELECT 1")


async def connection_of(transaction: Transaction) -> AsyncConnection:
    """The connection a transaction of the caller's runs on.

    Raises:
        InvalidArgumentError: it is none.
    """
    if isinstance(transaction, AsyncConnection):
        connection = transaction
    elif isinstance(transaction, AsyncSession):
        connection = await transaction.connection()
    else:
        raise InvalidArgumentError(
            f"transaction must be a SQLAlchemy AsyncConnection or AsyncSession, not {type(transaction).__name__}"
        )
    if _is_autocommit(connection):
        raise InvalidArgumentError("transaction must not be in AUTOCOMMIT: its locks would end with each statement")
    return connection


def _is_autocommit(connection: AsyncConnection) -> bool:
    inner = connection.sync_connection
    return inner is not None and sqlalchemy_isolation_level(inner) == "AUTOCOMMIT"


class CallersOwnError(Exception):
    """Carries an error of the application's out of a transaction, so that it is not taken for one of the database's."""

    def __init__(self, error: Exception) -> None:
        """Carry `error`."""
        self.error = error
        super().__init__()


async def run_callers_own(inside_transaction: InsideTransaction, connection: AsyncConnection) -> None:
    """Run code of the application's inside a transaction of ours.

    Raises:
        CallersOwnError: it raised; the error is inside.
    """
    try:
        await inside_transaction(connection)
        await raise_if_aborted(connection)
    except Exception as error:
        raise CallersOwnError(error) from error
