"""Statements about sessions, each inside a transaction of the caller's.

Locks are taken in one order everywhere: the user's row, then sessions in order of id. Two bulk writes, or a bulk
write and a batch of touches, therefore wait for each other and never deadlock.

A transaction of the application's may do several of these things. The user's row is then locked by whatever comes
first, a plain deletion too (`more_may_follow`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select, update

from coatcheck.pages import Page
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import Change, EndedSession, Insertion, InsertRefusal, ListedSession, ScopeChange
from coatcheck.stores.scope_text import encode_scopes
from coatcheck.stores.sql.deleting import delete_chosen
from coatcheck.stores.sql.rows import CLIENT_COLUMNS, SESSION_COLUMNS, listed_of, row_of, session_of
from coatcheck.stores.sql.schema import sessions, users
from coatcheck.stores.sql.user_statements import bump_epochs, ensure_user, write_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.records import NewSession, Position, Rehash, SessionFilter, UserRecord
    from coatcheck.stores.sql.dialect import SqlDialect


async def insert_session(
    connection: AsyncConnection,
    dialect: SqlDialect,
    new: NewSession,
    *,
    expected_revocations: int,
    expected_rescopes: int | None,
    began_at: Position | None,
    user_scopes: frozenset[Scope] | None,
) -> Insertion | InsertRefusal:
    """Insert a session under a lock on its user's row, so that no user-wide step can slip in between."""
    if user_scopes is None:
        user = await dialect.lock_user(connection, new.user_id)
        if user is None or not user.is_registered:
            return InsertRefusal.USER_REVOKED
    else:
        user = await ensure_user(connection, dialect, new.user_id, scopes=user_scopes)
    if user.epochs.revocations != expected_revocations:
        return InsertRefusal.USER_REVOKED
    if began_at is not None and await dialect.was_ended_after(connection, new.user_id, began_at):
        return InsertRefusal.USER_REVOKED
    if expected_rescopes is not None:
        if user.epochs.rescopes != expected_rescopes:
            return InsertRefusal.USER_RESCOPED
        if user_scopes is not None and not user_scopes <= user.scopes:
            # Added to, never taken from: what the user has lost is for `set_user_scopes` to find out and act upon.
            await write_user(connection, new.user_id, scopes=user.scopes | user_scopes)

    now_us: int = (await connection.execute(select(dialect.now()))).scalar_one()
    await connection.execute(sessions.insert().values(row_of(new, now_us)))
    replaced: tuple[EndedSession, ...] = ()
    if new.replaces is not None:
        replaced = await delete_where(connection, [sessions.c.id == new.replaces])
    return Insertion(new.inserted(now_us), ended=replaced, announced=tuple(map(end_of, replaced)))


async def delete_sessions(
    connection: AsyncConnection, which: SessionFilter, *, limit: int | None, more_may_follow: bool
) -> Change:
    """Delete the sessions that match, at most `limit`."""
    conditions = _matching(which)
    if more_may_follow:
        theirs = users.c.id.in_(select(sessions.c.user_id).where(*conditions))
        await connection.execute(select(users.c.id).where(theirs).order_by(users.c.id).with_for_update(key_share=True))
    ended = await delete_where(connection, conditions, limit=limit)
    return Change(ended=ended, announced=tuple(map(end_of, ended)))


async def end_user_sessions(
    connection: AsyncConnection,
    dialect: SqlDialect,
    user_id: UserId,
    *,
    method: str | None = None,
    except_session_id: SessionId | None = None,
    step: int,
) -> Change:
    """Move the user's revocations epoch by `step`, then delete their sessions."""
    await bump_epochs(connection, dialect, user_id, revocations=step)
    conditions = [sessions.c.user_id == user_id]
    if method is not None:
        conditions.append(sessions.c.method == method)
    if except_session_id is not None:
        conditions.append(sessions.c.id != except_session_id)
    ended = await delete_where(connection, conditions)
    everything = (Announcement(user_id, spared=except_session_id),)
    return Change(ended=ended, announced=everything if method is None else tuple(map(end_of, ended)))


async def set_session_scopes(
    connection: AsyncConnection,
    dialect: SqlDialect,
    which: SessionFilter,
    scopes: frozenset[Scope] | None,
) -> ScopeChange | None:
    """Change the scopes of one session; None makes it follow its user."""
    session_id = which.session_id
    user_id = (await connection.execute(select(sessions.c.user_id).where(*_matching(which)))).scalar()
    if user_id is None:
        return None
    user = await dialect.lock_user(connection, user_id)
    found = await connection.execute(select(*SESSION_COLUMNS).where(sessions.c.id == session_id).with_for_update())
    row = found.one_or_none()
    if row is None:
        return None
    before = session_of(row)
    now = scopes if scopes is not None else _scopes_of(user)
    changed = await connection.execute(
        update(sessions)
        .where(sessions.c.id == session_id)
        .values(scopes=encode_scopes(now), follows_user=scopes is None)
        .returning(*SESSION_COLUMNS)
    )
    session = session_of(changed.one())
    removed = (before.scopes or frozenset()) - now
    lost = (Announcement(session.user_id, session.id, removed_scopes=removed),) if removed else ()
    return ScopeChange(session, removed, announced=lost)


async def rehash_session(connection: AsyncConnection, rehash: Rehash) -> None:
    """Replace a hash if it is still the one that was read: a compare-and-swap of these columns and no others."""
    await connection.execute(
        update(sessions)
        .where(sessions.c.id == rehash.session_id, sessions.c.key_hash == rehash.old.hash)
        .values(key_hash=rehash.new.hash, key_salt=rehash.new.salt, pepper_id=rehash.new.pepper_id)
    )


async def list_sessions(
    connection: AsyncConnection,
    dialect: SqlDialect,
    which: SessionFilter,
    *,
    expired: bool | None,
    after: SessionId | None,
    limit: int,
) -> Page[ListedSession]:
    """A page of sessions in order of id; every filter is applied by the database, before the limit."""
    now = dialect.now()
    statement = select(*SESSION_COLUMNS, *CLIENT_COLUMNS).where(*_matching(which))
    if expired is not None:
        # A column that is NULL is no deadline: coalesce keeps the three-valued logic of SQL out of it.
        past = or_(
            func.coalesce(sessions.c.expires_at <= now, False), func.coalesce(dialect.idle_deadline() <= now, False)
        )
        statement = statement.where(past if expired else ~past)
    if after is not None:
        statement = statement.where(sessions.c.id > after)
    rows = (await connection.execute(statement.order_by(sessions.c.id).limit(limit + 1))).all()
    listed = [listed_of(row) for row in rows[:limit]]
    return Page(listed, next_after=listed[-1].session.id if len(rows) > limit else None)


def _matching(which: SessionFilter) -> list[ColumnElement[bool]]:
    wanted = ((sessions.c.user_id, which.user_id), (sessions.c.id, which.session_id), (sessions.c.method, which.method))
    return [column == value for column, value in wanted if value is not None]


async def delete_where(
    connection: AsyncConnection, conditions: Sequence[ColumnElement[bool]], *, limit: int | None = None
) -> tuple[EndedSession, ...]:
    """Delete the sessions that meet all conditions, at most `limit`; locks them in order of id."""
    locked = select(sessions.c.id).where(*conditions).order_by(sessions.c.id).limit(limit).with_for_update()
    return await delete_chosen(connection, locked, *conditions)


def end_of(session: EndedSession) -> Announcement:
    """The announcement of one session that was deleted."""
    return Announcement(session.user_id, session.session_id)


def _scopes_of(user: UserRecord | None) -> frozenset[Scope]:
    return frozenset() if user is None else user.scopes
