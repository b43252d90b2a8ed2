"""The store over a SQL database: each call of the protocol as a transaction around its statements.

The statements are in `session_statements`, `user_statements` and `pruning`; what differs between the databases, the
hot read among it, is in `sqlite` and `postgresql`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from coatcheck.clock import duration_us
from coatcheck.errors import RevocationIndeterminate
from coatcheck.stores.announcement import Announcement, from_others
from coatcheck.stores.batching import Batcher
from coatcheck.stores.records import (
    EndedSession,
    IdleSweep,
    InsertRefusal,
    ListedSession,
    NewSession,
    PepperCount,
    Rehash,
    ScopeChange,
    SessionFilter,
    SessionReading,
    SessionRecord,
    SessionUse,
    UserChange,
    UserRecord,
)
from coatcheck.stores.sql import migrate, session_statements, upkeep_statements, user_statements
from coatcheck.stores.sql.group_commit import deletion_of, insertion_of
from coatcheck.stores.sql.transactions import (
    INDETERMINATE,
    CallersOwnError,
    Transactions,
    connection_of,
    run_callers_own,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.pages import Page
    from coatcheck.scope import Scope
    from coatcheck.stores.batching import BatchRunner
    from coatcheck.stores.guarantee import Guarantee
    from coatcheck.stores.sql.dialect import Database
    from coatcheck.stores.sql.group_commit import Deletion, Insertion
    from coatcheck.stores.store import InsideTransaction, Transaction


class SqlStore(ABC):
    """What the SQL stores share. It implements the `Store` protocol save for the path of every request."""

    has_transactions = True

    def __init__(
        self,
        database: Database,
        transactions: Transactions,
        *,
        origin: str,
        inserters: Sequence[BatchRunner[Insertion, SessionRecord]],
        deleter: BatchRunner[Deletion, EndedSession],
        migrates: bool,
    ) -> None:
        """Set up without connecting. Over the runners go the writes that share a transaction.

        `origin` is what `database` signs announcements with.
        """
        self._origin = origin
        self._database = database
        self._transactions = transactions
        timeout_seconds = transactions.timeout_seconds
        self._insertions = Batcher(inserters, timeout_seconds=timeout_seconds)
        self._deletions = Batcher(
            [deleter],
            timeout_seconds=timeout_seconds,
            when_cut_off=lambda _: RevocationIndeterminate(INDETERMINATE),
        )
        self._migrates = migrates

    # --- what a database has to add ---

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
    async def guarantee(self) -> Guarantee:
        """See `Store.guarantee`."""

    @abstractmethod
    def read_session(self, session_id: SessionId) -> Awaitable[SessionReading | None]:
        """See `Store.read_session`."""

    @abstractmethod
    async def touch_sessions(self, uses: Sequence[SessionUse]) -> frozenset[SessionId]:
        """See `Store.touch_sessions`."""

    @abstractmethod
    def _read_user(self, user_id: UserId) -> Awaitable[UserRecord | None]:
        """Read a user's row outside of any transaction."""

    # --- lifespan ---

    async def open(self) -> None:
        """See `Store.open`."""
        if self._transactions.engine is not None:
            return
        try:
            with self._transactions.answering():
                self._transactions.engine = self._create_engine()
                if self._migrates:
                    await migrate.upgrade(self._transactions.engine)
                await self._open_direct()
                self._insertions.open()
                self._deletions.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See `Store.close`."""
        engine, self._transactions.engine = self._transactions.engine, None
        await self._insertions.close()
        await self._deletions.close()
        await self._close_direct()
        if engine is not None:
            await self._transactions.dispose(engine)

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

    async def connection_of(self, transaction: Transaction) -> AsyncConnection:
        """See `Store.connection_of`."""
        return await connection_of(transaction)

    async def after_commit(self, transaction: Transaction, callback: Callable[[], None]) -> None:
        """See `Store.after_commit`."""
        await self._transactions.after_commit(transaction, callback)

    def announcements(self) -> AsyncGenerator[Announcement | None, None]:
        """See `Store.announcements`."""
        return from_others(self._announced(), self._origin)

    # --- sign-in ---

    async def read_user(self, user_id: UserId, *, transaction: Transaction | None = None) -> UserRecord | None:
        """See `Store.read_user`."""
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
        user_scopes: frozenset[Scope] | None = None,
        inside_transaction: InsideTransaction | None = None,
        transaction: Transaction | None = None,
    ) -> SessionRecord | InsertRefusal:
        """See `Store.insert_session`."""
        if transaction is None and inside_transaction is None:
            insertion = insertion_of(
                session,
                expected_revocations=expected_revocations,
                expected_rescopes=expected_rescopes,
                user_scopes=user_scopes,
            )
            inserted = None if insertion is None else await self._insertions.submit(insertion)
            if inserted is not None:
                return inserted
        try:
            async with self._transactions.write(transaction) as connection:
                outcome = await session_statements.insert_session(
                    connection,
                    self._database,
                    session,
                    expected_revocations=expected_revocations,
                    expected_rescopes=expected_rescopes,
                    user_scopes=user_scopes,
                )
                if inside_transaction is not None and isinstance(outcome, SessionRecord):
                    await run_callers_own(inside_transaction, connection)
                return outcome
        except CallersOwnError as own:
            raise own.error from own.error.__cause__

    # --- ending and changing sessions ---

    async def delete_sessions(
        self, which: SessionFilter, *, limit: int | None = None, transaction: Transaction | None = None
    ) -> Sequence[EndedSession]:
        """See `Store.delete_sessions`."""
        if transaction is None:
            deletion = deletion_of(which, limit=limit)
            ended = None if deletion is None else await self._deletions.submit(deletion)
            if ended is not None:
                return (ended,)
        async with self._transactions.write(transaction, ends_sessions=True) as connection:
            found = await session_statements.delete_sessions(
                connection, self._database, which, limit=limit, more_may_follow=transaction is not None
            )
            if not found:
                await self._database.wait_for_what_was_seen(connection)
            return found

    async def end_user_sessions(
        self,
        user_id: UserId,
        *,
        method: str | None = None,
        except_session_id: SessionId | None = None,
        transaction: Transaction | None = None,
    ) -> Sequence[EndedSession]:
        """See `Store.end_user_sessions`."""
        async with self._transactions.write(transaction, ends_sessions=True) as connection:
            return await session_statements.end_user_sessions(
                connection, self._database, user_id, method=method, except_session_id=except_session_id
            )

    async def set_session_scopes(
        self,
        session_id: SessionId,
        scopes: frozenset[Scope] | None,
        *,
        user_id: UserId | None = None,
        transaction: Transaction | None = None,
    ) -> ScopeChange | None:
        """See `Store.set_session_scopes`."""
        async with self._transactions.write(transaction) as connection:
            which = SessionFilter(user_id=user_id, session_id=session_id)
            change = await session_statements.set_session_scopes(connection, self._database, which, scopes)
            if change is None:
                await self._database.wait_for_what_was_seen(connection)
            return change

    async def set_user_scopes(
        self, user_id: UserId, scopes: frozenset[Scope], *, transaction: Transaction | None = None
    ) -> UserChange:
        """See `Store.set_user_scopes`."""
        async with self._transactions.write(transaction) as connection:
            return await self._set_user_scopes(connection, user_id, scopes)

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
        """See `Store.list_sessions`."""
        async with self._transactions.read(transaction) as connection:
            return await session_statements.list_sessions(
                connection, self._database, which, expired=expired, after=after, limit=limit
            )

    # --- pruning ---

    async def prune_expired(self, limit: int) -> int:
        """See `Store.prune_expired`."""
        async with self._transactions.write(None) as connection:
            return await upkeep_statements.prune_expired(connection, self._database, limit)

    async def prune_idle(self, after: SessionId | None, window: int) -> IdleSweep:
        """See `Store.prune_idle`."""
        async with self._transactions.write(None) as connection:
            return await upkeep_statements.prune_idle(connection, self._database, after, window)

    async def try_lock(self, name: str, holder: str, duration: timedelta) -> bool:
        """See `Store.try_lock`."""
        async with self._transactions.write(None) as connection:
            return await upkeep_statements.try_lock(
                connection, self._database, name=name, holder=holder, duration_us=duration_us(duration)
            )

    async def count_by_pepper(self) -> Sequence[PepperCount]:
        """See `Store.count_by_pepper`."""
        async with self._transactions.read(None) as connection:
            return await session_statements.count_by_pepper(connection)

    async def rehash_sessions(self, rehashes: Sequence[Rehash]) -> None:
        """See `Store.rehash_sessions`."""
        async with self._transactions.write(None) as connection:
            for rehash in sorted(rehashes, key=lambda one: one.session_id):
                await session_statements.rehash_session(connection, rehash)

    # --- users kept in the store ---

    async def insert_user(
        self, user_id: UserId, *, scopes: frozenset[Scope], blocked: bool, transaction: Transaction | None = None
    ) -> UserRecord | None:
        """See `Store.insert_user`."""
        async with self._transactions.write(transaction) as connection:
            return await user_statements.register_user(
                connection, self._database, user_id, scopes=scopes, blocked=blocked
            )

    async def list_users(
        self, *, after: UserId | None = None, limit: int = 100, transaction: Transaction | None = None
    ) -> Page[UserRecord]:
        """See `Store.list_users`."""
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
        """See `Store.update_user`."""
        async with self._transactions.write(transaction, ends_sessions=bool(blocked)) as connection:
            user = await self._database.lock_user(connection, user_id)
            if user is None or not user.is_registered:
                await self._database.wait_for_what_was_seen(connection)
                return None
            change = UserChange(user)
            if scopes is not None:
                change = await self._set_user_scopes(connection, user_id, scopes)
            if blocked is None:
                return change
            ended = await session_statements.end_user_sessions(connection, self._database, user_id) if blocked else ()
            user = await user_statements.update_user(connection, user_id, blocked=blocked)
            return UserChange(user, removed_scopes=change.removed_scopes, ended=ended)

    async def delete_user(
        self, user_id: UserId, *, transaction: Transaction | None = None
    ) -> Sequence[EndedSession] | None:
        """See `Store.delete_user`."""
        async with self._transactions.write(transaction, ends_sessions=True) as connection:
            user = await self._database.lock_user(connection, user_id)
            if user is None or not user.is_registered:
                await self._database.wait_for_what_was_seen(connection)
                return None
            ended = await session_statements.end_user_sessions(connection, self._database, user_id)
            await user_statements.delete_user(connection, user_id)
            return ended

    async def _set_user_scopes(
        self, connection: AsyncConnection, user_id: UserId, scopes: frozenset[Scope]
    ) -> UserChange:
        before = await user_statements.bump_epochs(connection, self._database, user_id, rescopes=1)
        removed = before.scopes - scopes
        user = await user_statements.update_user(connection, user_id, scopes=scopes)
        await session_statements.apply_user_scopes(connection, user_id, scopes=scopes, removed=removed)
        if removed:
            await self._database.announce(connection, [Announcement(user_id, removed_scopes=removed)])
        return UserChange(user, removed_scopes=removed)
