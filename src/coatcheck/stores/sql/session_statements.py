"""What is done to sessions, each inside a transaction of the caller's.

Locks are taken in one order everywhere: the user's row, then sessions in order of id. Two bulk writes, or a bulk
write and a batch of touches, therefore wait for each other and never deadlock.

A transaction of the application's may do several of these things. The user's row is then locked by whatever comes
first, a plain deletion too (`more_may_follow`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select, update

from coatcheck.identifiers import SessionId, UserId
from coatcheck.pages import Page
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import (
    EndedSession,
    InsertRefusal,
    ListedSession,
    PepperCount,
    ScopeChange,
    SessionRecord,
)
from coatcheck.stores.scope_text import decode_scopes, encode_scopes
from coatcheck.stores.sql.deleting import delete_chosen
from coatcheck.stores.sql.rows import CLIENT_COLUMNS, SESSION_COLUMNS, listed_of, session_of
from coatcheck.stores.sql.schema import sessions, users
from coatcheck.stores.sql.user_statements import bump_epochs, ensure_user, update_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.scope import Scope
    from coatcheck.stores.records import NewSession, Rehash, SessionFilter, UserRecord
    from coatcheck.stores.sql.dialect import Database


async def insert_session(
    connection: AsyncConnection,
    database: Database,
    new: NewSession,
    *,
    expected_revocations: int,
    expected_rescopes: int | None,
    user_scopes: frozenset[Scope] | None,
) -> SessionRecord | InsertRefusal:
    """Insert a session under a lock on its user's row, so that no user-wide step can slip in between."""
    if user_scopes is None:
        user = await database.lock_user(connection, new.user_id)
        if user is None or not user.is_registered:
            return InsertRefusal.USER_REVOKED
    else:
        user = await ensure_user(connection, database, new.user_id, scopes=user_scopes)
    if user.epochs.revocations != expected_revocations:
        return InsertRefusal.USER_REVOKED
    if expected_rescopes is not None:
        if user.epochs.rescopes != expected_rescopes:
            return InsertRefusal.USER_RESCOPED
        if user_scopes is not None and not user_scopes <= user.scopes:
            # Added to, never taken from: what the user has lost is for `set_user_scopes` to find out and act upon.
            await update_user(connection, new.user_id, scopes=user.scopes | user_scopes)

    now_us: int = (await connection.execute(select(database.now()))).scalar_one()
    expires_at_us = new.expires_at_us
    if expires_at_us is None and new.lifetime_us is not None:
        expires_at_us = now_us + new.lifetime_us
    await connection.execute(
        sessions.insert().values(
            id=new.id,
            user_id=new.user_id,
            method=new.method,
            scopes=encode_scopes(new.scopes),
            follows_user=new.follows_user,
            created_at=now_us,
            last_used_at=now_us,
            expires_at=expires_at_us,
            expire_after_unused_for_us=new.expire_after_unused_for_us,
            key_hash=new.key.hash,
            key_salt=new.key.salt,
            pepper_id=new.key.pepper_id,
            client_label=new.client.label,
            user_agent=new.client.user_agent,
            ip_address=new.client.ip_address,
        )
    )
    if new.replaces is not None:
        replaced = await _delete(connection, [sessions.c.id == new.replaces])
        await database.announce(connection, map(_ended, replaced))
    return SessionRecord(
        id=new.id,
        user_id=new.user_id,
        method=new.method,
        scopes=new.scopes,
        follows_user=new.follows_user,
        created_at_us=now_us,
        last_used_at_us=now_us,
        expires_at_us=expires_at_us,
        expire_after_unused_for_us=new.expire_after_unused_for_us,
        key=new.key,
    )


async def delete_sessions(
    connection: AsyncConnection,
    database: Database,
    which: SessionFilter,
    *,
    limit: int | None,
    more_may_follow: bool,
) -> tuple[EndedSession, ...]:
    """Delete the sessions that match, at most `limit`."""
    conditions = _matching(which)
    if more_may_follow:
        theirs = users.c.id.in_(select(sessions.c.user_id).where(*conditions))
        await connection.execute(select(users.c.id).where(theirs).order_by(users.c.id).with_for_update(key_share=True))
    ended = await _delete(connection, conditions, limit=limit)
    await database.announce(connection, map(_ended, ended))
    return ended


async def end_user_sessions(
    connection: AsyncConnection,
    database: Database,
    user_id: UserId,
    *,
    method: str | None = None,
    except_session_id: SessionId | None = None,
) -> tuple[EndedSession, ...]:
    """Move the user's revocations epoch, then delete their sessions."""
    await bump_epochs(connection, database, user_id, revocations=1)
    conditions = [sessions.c.user_id == user_id]
    if method is not None:
        conditions.append(sessions.c.method == method)
    if except_session_id is not None:
        conditions.append(sessions.c.id != except_session_id)
    ended = await _delete(connection, conditions)
    everything = [Announcement(user_id, spared=except_session_id)]
    await database.announce(connection, everything if method is None else map(_ended, ended))
    return ended


async def set_session_scopes(
    connection: AsyncConnection,
    database: Database,
    which: SessionFilter,
    scopes: frozenset[Scope] | None,
) -> ScopeChange | None:
    """Change the scopes of one session; None makes it follow its user."""
    session_id = which.session_id
    user_id = (await connection.execute(select(sessions.c.user_id).where(*_matching(which)))).scalar()
    if user_id is None:
        return None
    user = await database.lock_user(connection, user_id)
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
    change = ScopeChange(session_of(changed.one()), (before.scopes or frozenset()) - now)
    if change.removed_scopes:
        lost = Announcement(change.session.user_id, change.session.id, removed_scopes=change.removed_scopes)
        await database.announce(connection, [lost])
    return change


async def apply_user_scopes(
    connection: AsyncConnection, user_id: UserId, *, scopes: frozenset[Scope], removed: frozenset[Scope]
) -> None:
    """Give a user's new scopes to the sessions that follow the user, and take `removed` from the others."""
    await connection.execute(
        select(sessions.c.id).where(sessions.c.user_id == user_id).order_by(sessions.c.id).with_for_update()
    )
    await connection.execute(
        update(sessions)
        .where(sessions.c.user_id == user_id, sessions.c.follows_user.is_(True))
        .values(scopes=encode_scopes(scopes))
    )
    if not removed:
        return
    own = and_(sessions.c.user_id == user_id, sessions.c.follows_user.is_(False))
    # One statement for each distinct set, not for each session: a user has few of the former.
    for text in (await connection.execute(select(sessions.c.scopes).where(own).distinct())).scalars().all():
        held = decode_scopes(text)
        if held is not None and held & removed:
            await connection.execute(
                update(sessions).where(own, sessions.c.scopes == text).values(scopes=encode_scopes(held - removed))
            )


async def rehash_session(connection: AsyncConnection, rehash: Rehash) -> None:
    """Replace a hash if it is still the one that was read: a compare-and-swap of these columns and no others."""
    await connection.execute(
        update(sessions)
        .where(sessions.c.id == rehash.session_id, sessions.c.key_hash == rehash.old.hash)
        .values(key_hash=rehash.new.hash, key_salt=rehash.new.salt, pepper_id=rehash.new.pepper_id)
    )


async def list_sessions(
    connection: AsyncConnection,
    database: Database,
    which: SessionFilter,
    *,
    expired: bool | None,
    after: SessionId | None,
    limit: int,
) -> Page[ListedSession]:
    """A page of sessions in order of id; every filter is applied by the database, before the limit."""
    now = database.now()
    statement = select(*SESSION_COLUMNS, *CLIENT_COLUMNS).where(*_matching(which))
    if expired is not None:
        # A column that is NULL is no deadline: coalesce keeps the three-valued logic of SQL out of it.
        past = or_(
            func.coalesce(sessions.c.expires_at <= now, False), func.coalesce(database.idle_deadline() <= now, False)
        )
        statement = statement.where(past if expired else ~past)
    if after is not None:
        statement = statement.where(sessions.c.id > after)
    rows = (await connection.execute(statement.order_by(sessions.c.id).limit(limit + 1))).all()
    listed = [listed_of(row) for row in rows[:limit]]
    return Page(listed, next_after=listed[-1].session.id if len(rows) > limit else None)


async def count_by_pepper(connection: AsyncConnection) -> Sequence[PepperCount]:
    """How many sessions each pepper was used for."""
    counted = await connection.execute(
        select(sessions.c.pepper_id, func.count()).group_by(sessions.c.pepper_id).order_by(sessions.c.pepper_id)
    )
    return [PepperCount(pepper_id, number) for pepper_id, number in counted]


def _matching(which: SessionFilter) -> list[ColumnElement[bool]]:
    wanted = ((sessions.c.user_id, which.user_id), (sessions.c.id, which.session_id), (sessions.c.method, which.method))
    return [column == value for column, value in wanted if value is not None]


async def _delete(
    connection: AsyncConnection, conditions: Sequence[ColumnElement[bool]], *, limit: int | None = None
) -> tuple[EndedSession, ...]:
    locked = select(sessions.c.id).where(*conditions).order_by(sessions.c.id).limit(limit).with_for_update()
    deletion = delete_chosen(locked, *conditions)
    gone = await connection.execute(deletion.returning(sessions.c.user_id, sessions.c.id))
    ended = [EndedSession(UserId(user_id), SessionId(session_id)) for user_id, session_id in gone]
    return tuple(sorted(ended, key=lambda one: one.session_id))


def _ended(session: EndedSession) -> Announcement:
    return Announcement(session.user_id, session.session_id)


def _scopes_of(user: UserRecord | None) -> frozenset[Scope]:
    return frozenset() if user is None else user.scopes
