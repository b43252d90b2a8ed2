"""Bringing the tables up to date with Alembic, at start or from an application's own migrations.

By default a store upgrades its tables when it opens and keeps the version in `coatcheck_alembic_version`. An
application with Alembic of its own adds `migrations_path()` to its `version_locations` and opens its store with
`migrates=False`; the revisions carry the branch label `coatcheck`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from alembic.runtime.migration import RevisionStep
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

VERSION_TABLE = "coatcheck_alembic_version"

# Any constant will do, as long as every process uses the same one: "coat" in ASCII.
_POSTGRES_LOCK = 0x636F6174


def migrations_path() -> Path:
    """The folder of revisions, for an application's `version_locations`."""
    return Path(__file__).parent / "migrations" / "versions"


async def upgrade(engine: AsyncEngine) -> None:
    """Bring the tables to the newest revision. One process does it while the others wait.

    Raises:
        ConfigurationError: the tables are there but are not under this version table.
    """
    async with engine.connect() as connection:
        await connection.execution_options(coatcheck_reads_only=True)
        if await connection.run_sync(_is_current):
            return
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(migrations_path().parent), version_locations=[str(migrations_path())])


def _is_current(connection: Connection) -> bool:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return set(context.get_current_heads()) == set(_scripts().get_heads())


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
    scripts = _scripts()

    def steps(current: tuple[str, ...], _context: MigrationContext) -> list[RevisionStep]:
        if not current and inspect(connection).has_table("coatcheck_sessions"):
            raise ConfigurationError(
                f"the tables are there but {VERSION_TABLE} is empty: they belong to another Alembic; "
                "open the store with migrates=False"
            )
        return scripts._upgrade_revs("heads", current)  # type: ignore[arg-type]  # noqa: SLF001 (what alembic.command calls)

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "fn": steps})
    with Operations.context(context):
        context.run_migrations()
