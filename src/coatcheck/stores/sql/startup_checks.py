"""Asks the database, when a store opens, for everything that its later calls rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from coatcheck.stores.sql.dialect import SqlDialect


async def check_tables(engine: AsyncEngine, dialect: SqlDialect) -> None:
    """Check that all tables and columns are there, and that this role may read and write them.

    Raises:
        DBAPIError: a table or a column is missing, or may not be read.
        ConfigurationError: a table may not be written.
    """
    async with engine.connect() as connection:
        await connection.execution_options(coatcheck_reads_only=True)
        for table in dialect.tables:
            await connection.execute(select(*table.columns).limit(0))
        missing = await dialect.missing_rights(connection)
    if missing:
        raise ConfigurationError(
            "this role of the database may not write every table; GRANT SELECT, INSERT, UPDATE, DELETE on them to it. "
            f"It lacks: {', '.join(missing)}"
        )
