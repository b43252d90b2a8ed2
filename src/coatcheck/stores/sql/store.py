"""The store over a SQL database: each call of the protocol as a transaction around its statements.

The statements are in `session_statements`, `user_statements`, `user_cascades` and `upkeep_statements`. What differs
between the databases, the hot read among it, is in `sqlite/` and `postgresql/`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from coatcheck.clock import duration_us
from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.stores.announcement import Announcement, from_others
from coatcheck.stores.failures import driver_error_in
from coatcheck.stores.given_positions import check_position
from coatcheck.stores.records import (
    Change,
    EndedSession,
    ExpiredSweep,
    IdleSweep,
    Insertion,
    InsertRefusal,
    ListedSession,
    NewSession,
    PepperCount,
    PepperRecord,
    Position,
    Rehash,
    ScopeChange,
    SessionFilter,
    SessionReading,
    SessionUse,
    UserChange,
    UserRecord,
    epoch_step,
)
from coatcheck.stores.sql import migrate, session_statements, upkeep_statements, user_cascades, user_statements
from coatcheck.stores.sql.group_commit import plain_deletion, plain_insertion
from coatcheck.stores.sql.startup_checks import check_tables
from coatcheck.stores.sql.transactions import (
    CallersOwnError,
    Transactions,
    run_callers_own,
)
from coatcheck.stores.starting import telling_what_failed
from coatcheck.to_its_end import to_its_end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.pages import Page
    from coatcheck.scope import Scope
    from coatcheck.stores.guarantee import Guarantee
    from coatcheck.stores.sql.dialect import SqlDialect
    from coatcheck.stores.sql.group_commit import Batches, PlainDeletion, PlainInsertion
    from coatcheck.stores.store import InsideTransaction, Transaction


class SqlStore(ABC):
    """The common part of the SQL stores: the `Store` protocol save for the path of every request."""

    has_transactions = True

    def __init__(
        self,
        dialect: SqlDialect,
        transactions: Transactions,
        *,
        insertions: Batches[PlainInsertion, Insertion] | None,
        deletions: Batches[PlainDeletion, EndedSession] | None,
        migrates: bool,
    ) -> None:
        """Set up without connecting.

        By way of `insertions` and `deletions` go the writes that share a transaction with others; None: each has its
        own.
        """
        self._opening = transactions.opening
        self._dialect = dialect
        self._transactions = transactions
        self._insertions = insertions
        self._deletions = deletions
        self._migrates = migrates

    # --- what a database has to add ---

    async def _prepare(self) -> None:  # noqa: B027 (only one has something to do here)
        """Make ready what an engine needs."""

    @abstractmethod
    def _create_engine(self) -> AsyncEngine:
        """An engine whose transactions write durably, and see what is committed when a statement starts."""

    @abstractmethod
    async def _open_direct(self) -> None:
        """Connect what does not go through SQLAlchemy."""

    @abstractmethod
    async def _close_direct(self) -> None:
        """Disconnect what does not go through SQLAlchemy."""

    @abstractmethod
    def _announced(self) -> AsyncGenerator[str | None, None]:
        """The texts of all announcements from now on, our own too; None where some may have been missed."""

    @abstractmethod
    async def guarantee(self) -> Guarantee: ...

    @abstractmethod
    def read_session(self, session_id: SessionId) -> Awaitable[SessionReading | None]: ...

    @abstractmethod
    async def touch_sessions(self, uses: Sequence[SessionUse]) -> frozenset[SessionId]: ...

    @abstractmethod
    def _read_user(self, user_id: UserId) -> Awaitable[UserRecord | None]:
        """Read a user's row outside of any transaction."""

    async def _read_position(self) -> Position:
        """Read the position outside of any transaction of the caller's."""
        async with self._transactions.read(None) as connection:
            return await self._dialect.position(connection)

    @abstractmethod
    async def _read_position_inside(self, connection: AsyncConnection) -> Position:
        """Read a position for a sign-in that goes on inside of an application's transaction.

        No ending is before it that the transaction does not see, and none of the transaction's own: a sign-in that has
        begun after one of these would be good again when they are undone and others come in their place.
        """

    async def _setup_mistake(self, error: BaseException) -> str | None:  # noqa: ARG002 (for the databases that have an answer)
        """The mistake in the set-up that this error of the driver shows; None for an outage."""
        return None

    # --- lifespan ---

    async def open(self) -> None:
        if self._opening.is_here:
            return
        self._opening.begin()
        try:
            with telling_what_failed(self), self._transactions.answering():
                async with self._naming_mistakes():
                    await self._prepare()
                    engine = self._transactions.engine = self._create_engine()
                    if self._migrates:
                        await migrate.upgrade(engine)
                    await check_tables(engine, self._dialect)
                    await self._open_direct()
                    for batches in (self._insertions, self._deletions):
                        if batches is not None:
                            batches.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if not self._opening.stop():
            return
        await to_its_end(self._close())

    async def _close(self) -> None:
        engine, self._transactions.engine = self._transactions.engine, None
        async with AsyncExitStack() as parts:  # each is closed, whatever another one raises, in the reverse order
            parts.callback(self._opening.end)
            if engine is not None:
                parts.push_async_callback(self._transactions.dispose, engine)
            parts.push_async_callback(self._close_direct)
            for batches in (self._deletions, self._insertions):
                if batches is not None:
                    parts.push_async_callback(batches.close)

    @asynccontextmanager
    async def _naming_mistakes(self) -> AsyncIterator[None]:
        """Say of an error at the start what has to be changed, where no waiting will help."""
        try:
            yield
        except Exception as error:
            unavailable = isinstance(error, StoreUnavailable) and error.__cause__
            mistake = await self._setup_mistake(driver_error_in(unavailable or error))
            if mistake is None:
                raise
            raise ConfigurationError(mistake) from error

    async def __aenter__(self) -> Self:
        """Open the store."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        await self.close()

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """See `Store.transaction`. The connection may also be used for statements of the application's own."""
        return self._transactions.begin(is_in_other_hands=True)

    def read_tables(self, transaction: Transaction | None = None) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._transactions.read_tables(transaction)

    async def connection_of(self, transaction: Transaction) -> AsyncConnection:
        async with self._transactions.write(transaction) as connection:  # the hook will write in it, and so shall we
            return connection

    def announcements(self) -> AsyncGenerator[Announcement | None, None]:
        self._opening.check()
        return from_others(self._announced(), self._opening.name)

    # --- sign-in ---

    async def read_user(self, user_id: UserId, *, transaction: Transaction | None = None) -> UserRecord | None:
        if transaction is None:
            return await self._read_user(user_id)
        async with self._transactions.read(transaction) as connection:
            return await user_statements.read_user(connection, user_id)

    async def insert_session(
        self,
        session: NewSession,
        *,
        expected_revocations: int,
        expected_rescopes: int | None,
        began_at: Position | None = None,
        user_scopes: frozenset[Scope] | None = None,
        inside_transaction: InsideTransaction | None = None,
        transaction: Transaction | None = None,
    ) -> Insertion | InsertRefusal:
        check_position(began_at, self._dialect.position_form)
        if self._insertions is not None and transaction is None and inside_transaction is None:
            plain = plain_insertion(
                session,
                expected_revocations=expected_revocations,
                expected_rescopes=expected_rescopes,
                began_at=began_at,
                user_scopes=user_scopes,
            )
            inserted = None if plain is None else await self._insertions.submit(plain)
            if inserted is not None:
                return inserted
        try:
            async with self._transactions.write(transaction) as connection:
                outcome = await session_statements.insert_session(
                    connection,
                    self._dialect,
                    session,
                    expected_revocations=expected_revocations,
                    expected_rescopes=expected_rescopes,
                    began_at=began_at,
                    user_scopes=user_scopes,
                )
                if isinstance(outcome, InsertRefusal):
                    return outcome
                await self._announce(connection, outcome, transaction)
                if inside_transaction is not None:
                    await run_callers_own(inside_transaction, connection)
                return outcome
        except CallersOwnError as own:
            raise own.error from own.error.__cause__

    # --- ending and changing sessions ---

    async def delete_sessions(
        self, which: SessionFilter, *, limit: int | None = None, transaction: Transaction | None = None
    ) -> Change:
        if self._deletions is not None and transaction is None:
            plain = plain_deletion(which, limit=limit)
            ended = None if plain is None else await self._deletions.submit(plain)
            if ended is not None:
                return Change(ended=(ended,), announced=(Announcement(ended.user_id, ended.session_id),))
        async with self._transactions.write(transaction, ends_sessions=True) as connection:
            change = await session_statements.delete_sessions(
                connection, which, limit=limit, more_may_follow=transaction is not None
            )
            await self._announce(connection, change if change.ended else None, transaction)
            return change

    async def end_user_sessions(
        self,
        user_id: UserId,
        *,
        method: str | None = None,
        except_session_id: SessionId | None = None,
        transaction: Transaction | None = None,
    ) -> Change:
        async with self._transactions.write(transaction, ends_sessions=True) as connection:
            change = await session_statements.end_user_sessions(
                connection,
                self._dialect,
                user_id,
                method=method,
                except_session_id=except_session_id,
                step=epoch_step(),
            )
            await self._announce(connection, change, transaction)
            return change

    async def set_session_scopes(
        self,
        session_id: SessionId,
        scopes: frozenset[Scope] | None,
        *,
        user_id: UserId | None = None,
        transaction: Transaction | None = None,
    ) -> ScopeChange | None:
        async with self._transactions.write(transaction) as connection:
            which = SessionFilter(user_id=user_id, session_id=session_id)
            change = await session_statements.set_session_scopes(connection, self._dialect, which, scopes)
            await self._announce(connection, change, transaction)
            return change

    async def set_user_scopes(
        self, user_id: UserId, scopes: frozenset[Scope], *, transaction: Transaction | None = None
    ) -> UserChange:
        async with self._transactions.write(transaction) as connection:
            change = await user_cascades.set_user_scopes(connection, self._dialect, user_id, scopes, step=epoch_step())
            await self._announce(connection, change, transaction)
            return change

    # --- reading lists ---

    async def list_sessions(
        self,
        which: SessionFilter,
        *,
        expired: bool | None = None,
        after: SessionId | None = None,
        limit: int = 100,
        transaction: Transaction | None = None,
    ) -> Page[ListedSession]:
        async with self._transactions.read(transaction) as connection:
            return await session_statements.list_sessions(
                connection, self._dialect, which, expired=expired, after=after, limit=limit
            )

    # --- pruning ---

    async def prune_expired(self, limit: int) -> ExpiredSweep:
        async with self._transactions.write(None) as connection:
            return await upkeep_statements.prune_expired(connection, self._dialect, limit)

    async def prune_idle(self, after: SessionId | None, window: int) -> IdleSweep:
        async with self._transactions.write(None) as connection:
            return await upkeep_statements.prune_idle(connection, self._dialect, after, window)

    async def try_lock(self, name: str, holder: str, duration: timedelta) -> bool:
        async with self._transactions.write(None) as connection:
            return await upkeep_statements.try_lock(
                connection, self._dialect, name=name, holder=holder, duration_us=duration_us(duration)
            )

    async def count_by_pepper(self) -> Sequence[PepperCount]:
        async with self._transactions.read(None) as connection:
            return await upkeep_statements.count_by_pepper(connection)

    async def rehash_sessions(self, rehashes: Sequence[Rehash]) -> None:
        async with self._transactions.write(None) as connection:
            for rehash in sorted(rehashes, key=lambda one: one.session_id):
                await session_statements.rehash_session(connection, rehash)

    # --- peppers ---

    async def read_peppers(self) -> Sequence[PepperRecord]:
        async with self._transactions.read(None) as connection:
            return await upkeep_statements.read_peppers(connection)

    async def register_peppers(self, peppers: Sequence[PepperRecord]) -> None:
        async with self._transactions.write(None) as connection:
            for pepper in sorted(peppers, key=lambda one: one.id):
                await upkeep_statements.register_pepper(connection, self._dialect, pepper)

    # --- users kept in the store ---

    async def read_position(self, *, transaction: Transaction | None = None) -> Position:
        if transaction is None:
            return await self._read_position()
        async with self._transactions.read(transaction) as connection:
            return await self._read_position_inside(connection)

    async def insert_user(
        self, user_id: UserId, *, scopes: frozenset[Scope], blocked: bool, transaction: Transaction | None = None
    ) -> UserRecord | None:
        async with self._transactions.write(transaction) as connection:
            return await user_statements.register_user(
                connection, self._dialect, user_id, scopes=scopes, blocked=blocked
            )

    async def list_users(
        self, *, after: UserId | None = None, limit: int = 100, transaction: Transaction | None = None
    ) -> Page[UserRecord]:
        async with self._transactions.read(transaction) as connection:
            return await user_statements.list_users(connection, after=after, limit=limit)

    async def update_user(
        self,
        user_id: UserId,
        *,
        scopes: frozenset[Scope] | None = None,
        blocked: bool | None = None,
        transaction: Transaction | None = None,
    ) -> UserChange | None:
        async with self._transactions.write(transaction, ends_sessions=bool(blocked)) as connection:
            change = await user_cascades.update_user(
                connection, self._dialect, user_id, scopes=scopes, blocked=blocked, step=epoch_step()
            )
            await self._announce(connection, change, transaction)
            return change

    async def delete_user(self, user_id: UserId, *, transaction: Transaction | None = None) -> Change | None:
        async with self._transactions.write(transaction, ends_sessions=True) as connection:
            change = await user_cascades.delete_user(connection, self._dialect, user_id, step=epoch_step())
            await self._announce(connection, change, transaction)
            return change

    async def _announce(
        self, connection: AsyncConnection, change: Change | None, transaction: Transaction | None
    ) -> None:
        """Have the change be announced with the transaction. None: there was nothing to end or to change."""
        if change is None:
            await self._dialect.wait_for_what_was_seen(connection)
        elif change.announced:
            origin = self._opening.name
            if transaction is not None:
                # Another one, which `announcements` does not leave out: only the database learns whether a caller's
                # transaction is committed, so that this process too has to hear of it from there.
                origin = f"{origin}-transaction"
            await self._dialect.announce(connection, change.announced, origin=origin)
