"""The store at a SQLAlchemy URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.stores.sql.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from coatcheck.stores.sql.store import SqlStore


def store_at(url: str, *, migrates: bool = True) -> SqlStore:
    """Not yet opened."""
    if url.startswith("sqlite"):
        return SqliteStore(Path(url.removeprefix("sqlite+aiosqlite:///")), migrates=migrates)
    return PostgresStore(url.replace("+asyncpg", ""), migrates=migrates)
