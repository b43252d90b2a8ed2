"""The interface that every store implements, in five parts: a reader of one part needs to see only that part.

| part | what for | its caller |
|---|---|---|
| `SessionReads` | read, touch, rehash | the validator, for every request |
| `Sessions` | insert, list, change, end | sign-ins and revocations |
| `Users` | users and their scopes, and the epochs that stop a sign-in which was overtaken | sign-ins, `AuthUsers` |
| `Upkeep` | prune, lock, count | the pruner and operators |
| `Peppers` | which peppers its sessions are hashed with | the start of a pod |

`Store` is all of them, with a lifespan and transactions. No part is optional.

For all calls:

* A store that cannot answer raises `StoreUnavailable`; it never gives an empty result instead.
* The store's own clock judges deadlines, at `now >= deadline`. Times are microseconds since the Unix epoch, from 0 to
  `clock.MAX_TIME_US`.
* A call that takes `transaction` takes part in it: its effect appears and disappears with it. Without one, its
  effect is durable and visible to every later read when the call returns. SQL stores take a SQLAlchemy
  `AsyncConnection` or `AsyncSession`.
* In a transaction in which it could overlook what others have committed, or which commits each statement, a call that
  writes raises InvalidArgumentError before it has written anything. Calls that only read are named `read_` or `list_`.
* Only `insert_session` makes a session row. Every other write does nothing to a row that is gone.
* A call that ends or shrinks sessions announces it in the same transaction, and returns what it has announced
  (`Change`). What `announcements` yields leaves out what this store object has returned without a transaction: the
  caller has it already. A change in a caller's transaction is not left out, because nobody but the store knows
  whether that transaction is committed.

`coatcheck.testing` has the conformance suite that checks all of this against any store, and `MemoryStore`, the
shortest store that passes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta

    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.pages import Page
    from coatcheck.scope import Scope
    from coatcheck.stores.announcement import Announcement
    from coatcheck.stores.guarantee import Guarantee
    from coatcheck.stores.records import (
        Change,
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
    )

__all__ = [
    "InsideTransaction",
    "SessionReads",
    "Sessions",
    "Store",
    "Transaction",
    "Upkeep",
    "Users",
]

Transaction: TypeAlias = AsyncConnection | AsyncSession
"""The application's transaction, which a call takes part in; from `store.transaction()` or an engine of its own."""

InsideTransaction: TypeAlias = "Callable[[AsyncConnection], Awaitable[None]]"
"""Called inside the transaction of an insertion. If it raises, nothing is inserted."""


class SessionReads(Protocol):
    """The path of every request: all that a validator needs."""

    def read_session(self, session_id: SessionId) -> Awaitable[SessionReading | None]:
        """Read what a validation needs of one session; None where there is no row.

        The read starts after the call and sees everything that was committed before it; reads of many callers may
        share it. Expired sessions are handed out too, because the secret has to be checked before the deadlines. A
        caller that is cancelled never harms another.
        """
        ...

    async def touch_sessions(self, uses: Sequence[SessionUse]) -> frozenset[SessionId]:
        """Write that sessions were used, and say which of them still exist.

        Moves `last_used_at` forward to the given time, or back to it where the stored one lies in the future of
        the store's clock; never past the clock. Writes no other column. Need not be durable. Of several, those whose
        rows are locked may be left out; one alone is written before the call returns.
        """
        ...

    async def rehash_sessions(self, rehashes: Sequence[Rehash]) -> None:
        """Replace stored hashes, each only where the row still holds the old one. Need not be durable."""
        ...


class Sessions(Protocol):
    """Sessions from sign-in to revocation."""

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
        """Insert a session, unless its user's epochs have moved on. Check and insertion are one atomic step.

        With `began_at` it is refused as well where the user's sessions were ended (`end_user_sessions`, blocked,
        deleted) by a transaction that was not committed yet at that position. An older position refuses more.

        The session that it replaces, if any, is deleted in the same step, and stays where the insertion is refused.
        `expected_rescopes` None: the user's rescopes do not matter (the session has scopes of its own).
        `user_scopes` is given where users live in the application: the user's row is made if there is none, and
        notes these scopes. They are added to those it knows, where `expected_rescopes` is given, and never replace
        them: what the user has lost is for `set_user_scopes` to find. Without it there must be a registered row,
        and one that is missing counts as revoked.
        """
        ...

    async def list_sessions(
        self,
        which: SessionFilter,
        *,
        expired: bool | None = None,
        after: SessionId | None = None,
        limit: int = 100,
        transaction: Transaction | None = None,
    ) -> Page[ListedSession]:
        """The sessions that match, ordered by id, at most `limit` after the id `after`; filters come before the limit.

        `expired` True: only those past a deadline; False: only live ones; None: both.
        """
        ...

    async def set_session_scopes(
        self,
        session_id: SessionId,
        scopes: frozenset[Scope] | None,
        *,
        user_id: UserId | None = None,
        transaction: Transaction | None = None,
    ) -> ScopeChange | None:
        """Give a session scopes of its own, or with None its user's, which it follows from then on.

        Returns None where there is no such session, or with `user_id` none of this user's.
        """
        ...

    async def delete_sessions(
        self, which: SessionFilter, *, limit: int | None = None, transaction: Transaction | None = None
    ) -> Change:
        """Delete the sessions that match, at most `limit`, and say which they were. None matching is no error.

        Raises:
            RevocationIndeterminate: the outcome of the commit is not known, or some had gone when the store failed.
        """
        ...

    async def end_user_sessions(
        self,
        user_id: UserId,
        *,
        method: str | None = None,
        except_session_id: SessionId | None = None,
        transaction: Transaction | None = None,
    ) -> Change:
        """Delete a user's sessions and move their `revocations` epoch, in one atomic step.

        The epoch moves by a random number (`records.epoch_step`), even where the user has no session or no row yet: a
        sign-in may be under way.

        Raises:
            RevocationIndeterminate: the outcome of the commit is not known.
        """
        ...


class Users(Protocol):
    """Users. Of those who live in the application it keeps the epochs, and the scopes that it last heard of."""

    async def read_user(self, user_id: UserId, *, transaction: Transaction | None = None) -> UserRecord | None:
        """The user's row, registered or not, or None."""
        ...

    async def read_position(self, *, transaction: Transaction | None = None) -> Position:
        """The position of this moment in the history of the store: every change that was committed before is before it.

        A sign-in takes it before its user is known, and hands it to `insert_session`. It is kept while the history may
        go back (a restored backup, an emptied server, a failover that loses the last writes): an ending that comes
        afterwards, in the new history, is not before it.
        """
        ...

    async def insert_user(
        self, user_id: UserId, *, scopes: frozenset[Scope], blocked: bool, transaction: Transaction | None = None
    ) -> UserRecord | None:
        """Register a user; None where the id is taken by a registered one. Epochs of an unregistered row are kept."""
        ...

    async def list_users(
        self, *, after: UserId | None = None, limit: int = 100, transaction: Transaction | None = None
    ) -> Page[UserRecord]:
        """Registered users ordered by id, at most `limit` after the id `after`."""
        ...

    async def set_user_scopes(
        self,
        user_id: UserId,
        scopes: frozenset[Scope],
        *,
        transaction: Transaction | None = None,
    ) -> UserChange:
        """Change the scopes of a user and of their sessions in one atomic step, and move the `rescopes` epoch.

        Sessions that follow the user get the new scopes; the others lose those the user lost. Makes the user's
        row if there is none.
        """
        ...

    async def update_user(
        self,
        user_id: UserId,
        *,
        scopes: frozenset[Scope] | None = None,
        blocked: bool | None = None,
        transaction: Transaction | None = None,
    ) -> UserChange | None:
        """Change scopes (as `set_user_scopes`) and `blocked`; None leaves a field alone. One atomic step.

        A user who is blocked loses all sessions in the same step (as `end_user_sessions`). Returns None where
        there is no such user.

        Raises:
            RevocationIndeterminate: the user was to be blocked, and the outcome of the commit is not known.
        """
        ...

    async def delete_user(self, user_id: UserId, *, transaction: Transaction | None = None) -> Change | None:
        """Delete a registered user and all their sessions in one atomic step. None where there is no such user.

        Of the row only the id and the epochs stay, for sign-ins that are under way.

        Raises:
            RevocationIndeterminate: the outcome of the commit is not known.
        """
        ...


class Upkeep(Protocol):
    """The calls of the pruner and of operators."""

    async def prune_expired(self, limit: int) -> ExpiredSweep:
        """Delete up to `limit` sessions past their absolute deadline, and say which. Skips rows that are locked.

        Announces nothing: these sessions have ended already. Sessions that a store with native expiry (Redis) has
        deleted by itself before are not among them, and nobody is told of those.
        """
        ...

    async def prune_idle(self, after: SessionId | None, window: int) -> IdleSweep:
        """Look at the next `window` sessions in order of id and delete those past their idle deadline.

        Announces nothing, as `prune_expired`.
        """
        ...

    async def try_lock(self, name: str, holder: str, duration: timedelta) -> bool:
        """Take or renew the lock `name` for `holder`, for so long. False while another holder has it."""
        ...

    async def count_by_pepper(self) -> Sequence[PepperCount]:
        """How many sessions each pepper was used for. Reads every row: for operators, not for requests."""
        ...


class Peppers(Protocol):
    """Which peppers the sessions of this store are hashed with. The peppers themselves are not in the store."""

    async def read_peppers(self) -> Sequence[PepperRecord]:
        """Every pepper that was ever registered, in order of id."""
        ...

    async def register_peppers(self, peppers: Sequence[PepperRecord]) -> None:
        """Note those whose ids are not known yet. A record that is there already stays as it is."""
        ...


class Store(SessionReads, Sessions, Users, Upkeep, Peppers, Protocol):
    """Where sessions and users live."""

    has_transactions: bool
    """Whether `transaction()` spans several calls. Without, whatever takes a transaction or runs inside one
    (`transaction`, `inside_transaction`, `connection_of`) raises ConfigurationError, and each call by itself is as
    atomic as it says."""

    async def open(self) -> None:
        """Connect, and bring the schema up to date where the store is configured to. Opening twice does nothing.

        A store that holds connections is open in one event loop and one process, and refuses any call from another
        before anything is sent (`opening.Opening`).

        Raises:
            OpenElsewhereError: it is open in another event loop, or in a process of which this is a forked child.
        """
        ...

    async def close(self) -> None:
        """Release every connection. Closing twice does nothing, nor does closing in a forked child of an open store.

        Raises:
            OpenElsewhereError: it is open in another event loop.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction to pass to several calls: commits at the end of the block, rolls back if it raises."""
        ...

    async def connection_of(self, transaction: Transaction) -> AsyncConnection:
        """The connection a transaction runs on, as hooks get it. Refuses what a call that writes would refuse."""
        ...

    def read_tables(self, transaction: Transaction | None = None) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection on which the application reads tables of its own beside the store's; without a transaction, too.

        With `transaction` it is that transaction's. What the application writes on another one is not committed.

        Raises:
            ConfigurationError: the store is no database that holds tables of an application.
        """
        ...

    async def guarantee(self) -> Guarantee:
        """The promise about revocation that this store can make as it is configured now. Asks the database each time.

        Where something cannot be probed, it is one of the conditions.
        """
        ...

    def announcements(self) -> AsyncGenerator[Announcement | None, None]:
        """The announcements on this data from now on that no caller of this store object knows yet.

        They come from other processes and other store objects, and, once it is committed, from a caller's transaction
        with this one. An announcement is part of the transaction that it tells of: none is lost, and a change that is
        rolled back is not announced. None means that some may have been missed: a listener that keeps anything open
        looks at the store again. The first is None, when listening has begun.
        The announcements about one shard of users (`shard_of_user`) come in the order in which they happened; a
        message from just before the beginning may come after it.
        It never ends and raises nothing: while the store is out of reach it tries again. Close it (`aclose`).
        """
        ...
