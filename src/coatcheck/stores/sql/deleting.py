"""Deleting sessions that were chosen first, so many and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from coatcheck.stores.sql.schema import sessions

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Delete, Select


def delete_chosen(chosen: Select[tuple[str]], *conditions: ColumnElement[bool]) -> Delete:
    """Delete the sessions whose ids `chosen` selects, those that meet `conditions` when they go.

    The choice is made in a WITH, and so once: PostgreSQL may run a plain subquery anew for each row that it looks at,
    and with locks each run chooses others, so that LIMIT limits nothing. The WITH stands inside of the subquery
    because Python's `sqlite3` begins a transaction of its own accord only for what starts with DELETE.
    """
    once = chosen.cte("chosen", nesting=True)
    return delete(sessions).where(sessions.c.id.in_(select(once.c.id)), *conditions)
