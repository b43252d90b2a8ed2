"""The words for a database that does not answer: the kind of its error, and nothing that the error says.

The text of a driver may repeat the values of a row or a part of a URL. Our errors therefore name the kind only: the
SQLSTATE of PostgreSQL, the result code of SQLite, the reason that the operating system gives.
"""

from __future__ import annotations

import sqlite3

MISSING_TABLES = (
    "tables or columns of the store are missing: run the migrations (`alembic upgrade heads`, see own-alembic.md), or "
    "open the store with migrates=True"
)

# PgBouncer names the limit that was reached in the text of its errors.
_LIMITS_OF_POOLERS = ("query_wait_timeout", "max_client_conn", "server_login_retry", "query_timeout")


def cannot_answer(error: BaseException) -> str:
    """The message of a `StoreUnavailable` that is raised for this error."""
    missing = f": {MISSING_TABLES}" if lacks_tables(error) else ""
    return f"the store cannot answer ({kind_of(error)}){missing}"


def driver_error_in(error: BaseException) -> BaseException:
    """The error of the driver, taken out of what SQLAlchemy has made of it."""
    wrapped = getattr(error, "orig", None)
    if not isinstance(wrapped, BaseException):
        return error
    return wrapped.__cause__ or wrapped  # SQLAlchemy's dialect for asyncpg wraps it once more


def kind_of(error: BaseException) -> str:
    """The kind of an error, without its text."""
    error = driver_error_in(error)
    name = type(error).__name__
    detail = getattr(error, "sqlite_errorname", None)
    if (sqlstate := getattr(error, "sqlstate", None)) is not None:
        limit = next((f", {one}" for one in _LIMITS_OF_POOLERS if one in str(error)), "")
        detail = f"SQLSTATE {sqlstate}{limit if str(sqlstate).startswith('08') else ''}"
    elif isinstance(error, OSError):
        detail = error.strerror
    return f"{name}, {detail}" if detail else name


def lacks_tables(error: BaseException) -> bool:
    """Whether the database says that a table of ours is missing, or a column, whose table SQLite does not name."""
    error = driver_error_in(error)
    if isinstance(error, sqlite3.Error):  # the application's own statements fail so as well
        return str(error).startswith(("no such table: coatcheck_", "no such column"))
    return getattr(error, "sqlstate", None) in {"42P01", "42703"}  # a table, a column
