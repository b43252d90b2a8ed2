"""The differences between the databases: their clock, their locks, their upsert, and how they announce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
    from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.identifiers import UserId
    from coatcheck.stores.announcement import Announcement
    from coatcheck.stores.records import Position, UserRecord


class SqlDialect(Protocol):
    """One kind of database, as the statements in this folder need it."""

    @property
    def tables(self) -> Sequence[Table]:
        """All tables of the store."""
        ...

    async def missing_rights(self, connection: AsyncConnection) -> Sequence[str]:
        """The rights to write that this role lacks, each as `table (right)`."""
        ...

    def now(self) -> ColumnElement[int]:
        """The store's clock at the moment the statement runs, in the form of the `Timestamp` columns."""
        ...

    def idle_deadline(self) -> ColumnElement[int]:
        """`last_used_at + expire_after_unused_for_us`; NULL for a session without idle deadline."""
        ...

    def later(self, duration_us: int) -> ColumnElement[int]:
        """The store's clock plus a duration."""
        ...

    def insert(self, table: Table) -> PostgresInsert | SqliteInsert:
        """An INSERT that knows ON CONFLICT."""
        ...

    async def announce(
        self, connection: AsyncConnection, announcements: Iterable[Announcement], *, origin: str
    ) -> None:
        """Tell listeners, once the transaction has committed, and not at all if it is rolled back.

        `origin` signs it: a listener leaves out what is signed with its own.
        """
        ...

    async def wait_for_what_was_seen(self, connection: AsyncConnection) -> None:
        """Make the transaction's commit wait until all that it has seen is as durable as what it would write.

        For answers that say "there is no such session" and write nothing: a revocation before may have been committed
        on a primary and not on its standby yet.
        """
        ...

    async def ending(self, connection: AsyncConnection) -> int | ColumnElement[int]:
        """The mark of a transaction that ends all sessions of a user, for `users.last_ending`."""
        ...

    @property
    def position_form(self) -> re.Pattern[str]:
        """The form of this database's positions."""
        ...

    async def position(self, connection: AsyncConnection) -> Position:
        """The position of this moment: a mark is before it if its transaction was committed before."""
        ...

    async def was_ended_after(self, connection: AsyncConnection, user_id: UserId, position: Position) -> bool:
        """Whether all sessions of the user were ended by a transaction that is not before the position."""
        ...

    async def lock_user(self, connection: AsyncConnection, user_id: UserId) -> UserRecord | None:
        """Read the user's row and hold it alone until the end of the transaction.

        Not shared, not even among sign-ins: PostgreSQL lets sharers in before one who waits to have it alone, and
        a stream of sign-ins could keep "sign out everywhere" waiting for ever.
        """
        ...
