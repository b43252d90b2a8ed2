"""Statements about users' rows, each inside a transaction of the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from coatcheck.pages import Page
from coatcheck.stores.scope_text import encode_scopes
from coatcheck.stores.sql.rows import USER_COLUMNS, user_of
from coatcheck.stores.sql.schema import users

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.identifiers import UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.records import UserRecord
    from coatcheck.stores.sql.dialect import SqlDialect


async def read_user(connection: AsyncConnection, user_id: UserId) -> UserRecord | None:
    """The user's row."""
    row = (await connection.execute(select(*USER_COLUMNS).where(users.c.id == user_id))).one_or_none()
    return None if row is None else user_of(row)


async def register_user(
    connection: AsyncConnection, dialect: SqlDialect, user_id: UserId, *, scopes: frozenset[Scope], blocked: bool
) -> UserRecord | None:
    """Insert a user, or register the row that so far only kept their epochs."""
    statement = dialect.insert(users).values(
        id=user_id,
        created_at=dialect.now(),
        scopes=encode_scopes(scopes),
        blocked=blocked,
        is_registered=True,
        revocations=0,
        rescopes=0,
    )
    proposed = statement.excluded
    upsert = statement.on_conflict_do_update(
        index_elements=[users.c.id],
        set_={
            "created_at": proposed.created_at,
            "scopes": proposed.scopes,
            "blocked": proposed.blocked,
            "is_registered": True,
        },
        where=users.c.is_registered.is_(False),
    )
    row = (await connection.execute(upsert.returning(*USER_COLUMNS))).one_or_none()
    return None if row is None else user_of(row)


async def ensure_user(
    connection: AsyncConnection, dialect: SqlDialect, user_id: UserId, *, scopes: frozenset[Scope] | None = None
) -> UserRecord:
    """Lock the row of a user who lives in the application. `scopes` are those of a row that has to be made."""
    await connection.execute(
        dialect.insert(users)
        .values(
            id=user_id,
            created_at=dialect.now(),
            scopes=encode_scopes(scopes or frozenset()),
            blocked=False,
            is_registered=False,
            revocations=0,
            rescopes=0,
        )
        .on_conflict_do_nothing(index_elements=[users.c.id])
    )
    user = await dialect.lock_user(connection, user_id)
    if user is None:  # deleted between the two statements: a row that is made now is ours until the end
        return await ensure_user(connection, dialect, user_id, scopes=scopes)
    return user


async def bump_epochs(
    connection: AsyncConnection, dialect: SqlDialect, user_id: UserId, *, revocations: int = 0, rescopes: int = 0
) -> UserRecord:
    """Move a user's epochs, under a lock that holds back every sign-in of theirs. Returns the row after the move."""
    await ensure_user(connection, dialect, user_id)
    values: dict[str, Any] = {"rescopes": users.c.rescopes + rescopes}
    if revocations:
        values["revocations"] = users.c.revocations + revocations
        values["last_ending"] = await dialect.ending(connection)
    moved = await connection.execute(
        update(users).where(users.c.id == user_id).values(**values).returning(*USER_COLUMNS)
    )
    return user_of(moved.one())


async def write_user(
    connection: AsyncConnection,
    user_id: UserId,
    *,
    scopes: frozenset[Scope] | None = None,
    blocked: bool | None = None,
) -> UserRecord:
    """Change columns of a row that the caller has locked."""
    values: dict[str, object] = {}
    if scopes is not None:
        values["scopes"] = encode_scopes(scopes)
    if blocked is not None:
        values["blocked"] = blocked
    changed = await connection.execute(
        update(users).where(users.c.id == user_id).values(**values).returning(*USER_COLUMNS)
    )
    return user_of(changed.one())


async def list_users(connection: AsyncConnection, *, after: UserId | None, limit: int) -> Page[UserRecord]:
    """A page of registered users in order of id."""
    statement = select(*USER_COLUMNS).where(users.c.is_registered.is_(True))
    if after is not None:
        statement = statement.where(users.c.id > after)
    rows = (await connection.execute(statement.order_by(users.c.id).limit(limit + 1))).all()
    found = [user_of(row) for row in rows[:limit]]
    return Page(found, next_after=found[-1].id if len(rows) > limit else None)


async def unregister_user(connection: AsyncConnection, user_id: UserId) -> None:
    """Take all from a row that the caller has locked but its epochs, by which a sign-in under way is found out."""
    gone = update(users).where(users.c.id == user_id)
    await connection.execute(gone.values(scopes=encode_scopes(frozenset()), blocked=False, is_registered=False))
