"""The transactions and types of the application's own tables, which live in the store's database.

One transaction can therefore cover an application's statements and Coatcheck's.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import DateTime, MetaData, func, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.types import TypeDecorator

from coatcheck import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sqlalchemy import Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.stores.store import Store

metadata = MetaData()

_CREATION_LOCK = 0x6E6F746573  # "notes"; any number is right that every process uses


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database. SQLite keeps no time zone, so UTC is added when a value is read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 (the signature is SQLAlchemy's)
        """From Python to the database."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 (the signature is SQLAlchemy's)
        """From the database to Python."""
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


@asynccontextmanager
async def transaction(store: Store) -> AsyncGenerator[AsyncConnection]:
    """The store's transaction, for our statements and Coatcheck's. Commits at the end, rolls back if the block raises.

    A database that fails during one of our statements raises `StoreUnavailable`, as Coatcheck's calls do.

    Raises:
        StoreUnavailable: the database cannot answer.
    """
    try:
        async with store.transaction() as connection:
            yield connection
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
            raise StoreUnavailable("the database cannot answer") from error
        raise


async def create_tables(store: Store) -> None:
    """Create the missing tables. That is enough for a demonstration; a real application migrates (Alembic).

    Several processes may start at once. On SQLite the transaction keeps them apart, because it locks the file.
    """
    async with transaction(store) as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(select(func.pg_advisory_xact_lock(_CREATION_LOCK)))
        await connection.run_sync(metadata.create_all)
