"""The tables, for SQLite and PostgreSQL. An application's own Alembic may include `metadata` as a target.

No index touches `last_used_at`: it would keep PostgreSQL from updating rows in place (HOT), which touches live on.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, LargeBinary, MetaData, Table, Text, Uuid
from sqlalchemy.types import TypeDecorator, TypeEngine

from coatcheck.clock import from_us, to_us

if TYPE_CHECKING:
    from sqlalchemy import Dialect

metadata: MetaData = MetaData()
sqlite_metadata: MetaData = MetaData()
"""The tables that only SQLite has."""


class Timestamp(TypeDecorator[int]):
    """Microseconds since the Unix epoch in Python; timestamptz on PostgreSQL, a whole number elsewhere."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = BigInteger
    cache_ok: bool | None = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[int] | TypeEngine[datetime]:
        """The type the database gets to see."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | datetime | None:
        """From Python to the database."""
        return value if value is None or dialect.name != "postgresql" else from_us(value)

    def process_result_value(self, value: int | datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 (the signature is SQLAlchemy's)
        """From the database to Python."""
        return to_us(value) if isinstance(value, datetime) else value


class HiddenBytes(bytes):
    """Bytes whose repr does not show them: SQLAlchemy logs the rows it reads at level DEBUG."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"<{len(self)} bytes>"


class Hidden(TypeDecorator[bytes]):
    """Bytes that no log may show."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = LargeBinary
    cache_ok: bool | None = True

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 (the signature is SQLAlchemy's)
        """From the database to Python."""
        return None if value is None else HiddenBytes(value)


_session_id = Uuid(as_uuid=False).with_variant(Text(), "sqlite")
# Byte order, so that paging by id does not depend on the database's locale.
_exact_text = Text().with_variant(Text(collation="C"), "postgresql")

users: Table = Table(
    "coatcheck_users",
    metadata,
    Column("id", _exact_text, primary_key=True),
    Column("created_at", Timestamp, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("blocked", Boolean, nullable=False),
    Column("is_registered", Boolean, nullable=False),
    Column("revocations", BigInteger, nullable=False),
    Column("rescopes", BigInteger, nullable=False),
    # The transaction that has ended all sessions last: on PostgreSQL its id (xid8), on SQLite a number that goes up.
    Column("last_ending", BigInteger, nullable=True),
    sqlite_with_rowid=False,
)

sessions: Table = Table(
    "coatcheck_sessions",
    metadata,
    Column("id", _session_id, primary_key=True),
    Column("user_id", _exact_text, nullable=False),
    Column("method", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("follows_user", Boolean, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("last_used_at", Timestamp, nullable=False),
    Column("expires_at", Timestamp, nullable=True),
    Column("expire_after_unused_for_us", BigInteger, nullable=True),
    Column("key_hash", Hidden, nullable=False),
    Column("key_salt", Hidden, nullable=False),
    Column("pepper_id", Text, nullable=True),
    Column("client_label", Text, nullable=True),
    Column("user_agent", Text, nullable=True),
    Column("ip_address", Text, nullable=True),
    sqlite_with_rowid=False,
)
"""On PostgreSQL the migration also sets a fillfactor: room on each page for the next version of a touched row."""

Index("coatcheck_sessions_user_id", sessions.c.user_id, sessions.c.id)
Index(
    "coatcheck_sessions_expires_at",
    sessions.c.expires_at,
    postgresql_where=sessions.c.expires_at.is_not(None),
    sqlite_where=sessions.c.expires_at.is_not(None),
)

announcements: Table = Table(
    "coatcheck_announcements",
    sqlite_metadata,
    Column("id", Integer, primary_key=True),
    Column("announced_at", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    sqlite_autoincrement=True,  # no number is given twice: listeners go by it
)
Index("coatcheck_announcements_announced_at", announcements.c.announced_at)

endings: Table = Table(
    "coatcheck_endings",
    sqlite_metadata,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""One row, with a number that goes up with each ending of all sessions of a user, and is at least its time."""

locks: Table = Table(
    "coatcheck_leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)

schema_version: Table = Table(
    "coatcheck_schema",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("lowest_code", Integer, nullable=False),
)
"""One row: the version of the tables, and the lowest version that code must know to use them: `schema_version.py`."""

peppers: Table = Table(
    "coatcheck_peppers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("check_value", Hidden, nullable=False),
    sqlite_with_rowid=False,
)
