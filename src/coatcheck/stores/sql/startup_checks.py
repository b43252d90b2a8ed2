"""Asks the database, when a store opens, for everything that its later calls rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from coatcheck.errors import ConfigurationError
from coatcheck.stores.sql import schema_version

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from coatcheck.stores.sql.dialect import SqlDialect


async def check_tables(engine: AsyncEngine, dialect: SqlDialect) -> None:
    """Check that all tables and columns are there, that this role may read and write them, and that this code may.

    Raises:
        DBAPIError: a table or a column is missing, or may not be read.
        ConfigurationError: a table may not be written, or this code may not use the tables.
    """
    async with engine.connect() as connection:
        await connection.execution_options(coatcheck_reads_only=True)
        if await connection.run_sync(schema_version.is_there):
            await connection.run_sync(schema_version.check)  # before we miss what a newer version has dropped
        for table in dialect.tables:
            await connection.execute(select(*table.columns).limit(0))
        missing = await dialect.missing_rights(connection)
    if missing:
        raise ConfigurationError(
            "this role of the database may not write every table; GRANT SELECT, INSERT, UPDATE, DELETE on them to it. "
            f"It lacks: {', '.join(missing)}"
        )
