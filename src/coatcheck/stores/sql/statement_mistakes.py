"""Errors of a database that say that a statement is wrong for its tables, and that no waiting will help."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

_PRIMARY_CODE = 0xFF  # of an extended one


def mistake_in(error: DBAPIError) -> str | None:
    """The database's own sentence where a table, a column or a right is missing; None for any other error."""
    driver = error.orig
    if getattr(driver, "sqlite_errorcode", 0) & _PRIMARY_CODE == sqlite3.SQLITE_ERROR:
        return str(driver)
    state = getattr(driver, "sqlstate", None) or ""
    if state.startswith("42"):  # syntax error or access rule violation
        return str((driver and driver.__cause__) or driver)  # without the adapter's prefix
    return None
