"""Changes of a user that reach all their sessions, each inside a transaction of the caller's.

The user's row is locked first, so that no sign-in of theirs can slip in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, select, update

from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import Change, UserChange
from coatcheck.stores.scope_text import decode_scopes, encode_scopes
from coatcheck.stores.sql.schema import sessions
from coatcheck.stores.sql.session_statements import end_user_sessions
from coatcheck.stores.sql.user_statements import bump_epochs, unregister_user, write_user

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.identifiers import UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.sql.dialect import SqlDialect


async def set_user_scopes(
    connection: AsyncConnection, dialect: SqlDialect, user_id: UserId, scopes: frozenset[Scope], *, step: int
) -> UserChange:
    """Move the user's rescopes epoch by `step`, and change their scopes and those of their sessions."""
    before = await bump_epochs(connection, dialect, user_id, rescopes=step)
    removed = before.scopes - scopes
    user = await write_user(connection, user_id, scopes=scopes)
    await _apply_to_sessions(connection, user_id, scopes=scopes, removed=removed)
    announced = (Announcement(user_id, removed_scopes=removed),) if removed else ()
    return UserChange(user, removed, announced=announced)


async def update_user(
    connection: AsyncConnection,
    dialect: SqlDialect,
    user_id: UserId,
    *,
    scopes: frozenset[Scope] | None,
    blocked: bool | None,
    step: int,
) -> UserChange | None:
    """Change a registered user's scopes, whether they are blocked, or both. Blocking ends all their sessions.

    `step` is by how much the epochs move.
    """
    user = await dialect.lock_user(connection, user_id)
    if user is None or not user.is_registered:
        return None
    rescope = UserChange(user)
    if scopes is not None:
        rescope = await set_user_scopes(connection, dialect, user_id, scopes, step=step)
    if blocked is None:
        return rescope
    ending = await end_user_sessions(connection, dialect, user_id, step=step) if blocked else Change()
    user = await write_user(connection, user_id, blocked=blocked)
    announced = rescope.announced + ending.announced
    return UserChange(user, rescope.removed_scopes, ended=ending.ended, announced=announced)


async def delete_user(connection: AsyncConnection, dialect: SqlDialect, user_id: UserId, *, step: int) -> Change | None:
    """End a registered user's sessions, and take everything from their row but the id and the epochs.

    `step` is as in `update_user`.
    """
    user = await dialect.lock_user(connection, user_id)
    if user is None or not user.is_registered:
        return None
    ending = await end_user_sessions(connection, dialect, user_id, step=step)
    await unregister_user(connection, user_id)
    return ending


async def _apply_to_sessions(
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
