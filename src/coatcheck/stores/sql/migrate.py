"""Upgrades the tables with Alembic, when a store opens or from an application's own migrations.

By default a store upgrades its tables when it opens and keeps the version in `coatcheck_alembic_version`. An
application with Alembic of its own adds `migrations_path()` to its `version_locations` and opens its store with
`migrates=False`; the revisions carry the branch label `coatcheck`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.migration import MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from coatcheck.errors import ConfigurationError
from coatcheck.stores.sql import schema_version

if TYPE_CHECKING:
    from alembic.runtime.migration import RevisionStep
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = [
    "VERSION_TABLE",
    "migrations_path",
    "upgrade",
]

VERSION_TABLE = "coatcheck_alembic_version"

# Any constant would do, as long as every process uses the same one: "coat" in ASCII.
_POSTGRES_LOCK = 0x636F6174


def migrations_path() -> Path:
    """The folder of revisions, for the `version_locations` of an application."""
    return Path(__file__).parent / "migrations" / "versions"


async def upgrade(engine: AsyncEngine) -> None:
    """Upgrade the tables to the newest revision. One process does it while the others wait.

    Raises:
        ConfigurationError: the tables exist but this version table does not have them.
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
    scripts = _scripts()
    current = set(context.get_current_heads())
    return _are_newer(connection, scripts, current) or current == set(scripts.get_heads())


def _are_newer(connection: Connection, scripts: ScriptDirectory, current: set[str]) -> bool:
    """Whether a newer Coatcheck has upgraded the tables. `schema_version.check` says whether this one may use them."""
    unknown = current - {one.revision for one in scripts.walk_revisions()}
    if unknown and not schema_version.is_newer(connection):
        raise ConfigurationError(
            f"the tables are those of a newer Coatcheck (revision {', '.join(sorted(unknown))}, this one knows "
            f"{', '.join(scripts.get_heads())}), and coatcheck_schema does not say that this one "
            "may use them; install the newer version again (docs/how-to/upgrade.md)"
        )
    return bool(unknown)


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
    scripts = _scripts()

    def steps(current: tuple[str, ...], _context: MigrationContext) -> list[RevisionStep]:
        if not current and inspect(connection).has_table("coatcheck_sessions"):
            raise ConfigurationError(
                f"the tables exist but {VERSION_TABLE} is empty: they belong to another Alembic; "
                "open the store with migrates=False"
            )
        if _are_newer(connection, scripts, set(current)):  # since we looked
            return []
        newest_first = scripts.iterate_revisions("heads", current)
        return [MigrationStep.upgrade_from_script(scripts.revision_map, one) for one in reversed([*newest_first])]

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "fn": steps})
    with Operations.context(context):
        context.run_migrations()
