"""Deleting sessions that were chosen first, so many and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from coatcheck.identifiers import SessionId, UserId
from coatcheck.stores.records import EndedSession
from coatcheck.stores.sql.schema import sessions

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection


async def delete_chosen(
    connection: AsyncConnection, chosen: Select[tuple[str]], *conditions: ColumnElement[bool]
) -> tuple[EndedSession, ...]:
    """Delete the sessions whose ids `chosen` selects, those that meet `conditions` when they go, in order of id.

    The choice is made in a WITH, and so once: PostgreSQL may run a plain subquery anew for each row that it looks at,
    and with locks each run chooses others, so that LIMIT limits nothing. The WITH stands inside of the subquery
    because Python's `sqlite3` begins a transaction of its own accord only for what starts with DELETE.
    """
    once = chosen.cte("chosen", nesting=True)
    deletion = delete(sessions).where(sessions.c.id.in_(select(once.c.id)), *conditions)
    gone = await connection.execute(deletion.returning(sessions.c.user_id, sessions.c.id))
    ended = [EndedSession(UserId(user_id), SessionId(session_id)) for user_id, session_id in gone]
    return tuple(sorted(ended, key=lambda one: one.session_id))
