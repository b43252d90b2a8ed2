"""Upgrades the tables with Alembic, when a store opens or from an application's own migrations.

By default a store upgrades its tables when it opens and keeps the version in `coatcheck_alembic_version`. An
application with Alembic of its own gives `include_name` to its `context.configure`, so that autogenerate leaves our
tables alone; or it adds `migrations_path()` to its `version_locations` and opens its store with `migrates=False`. The
revisions carry the branch label `coatcheck`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from coatcheck.errors import ConfigurationError
from coatcheck.stores.sql import schema_version
from coatcheck.stores.sql.alembic_log import without_info

with without_info():  # it names its plugins when it is imported
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationStep
    from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from alembic.runtime.migration import RevisionStep
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = [
    "VERSION_TABLE",
    "include_name",
    "include_object",
    "migrations_path",
    "upgrade",
]

_log = logging.getLogger(__name__)

VERSION_TABLE = "coatcheck_alembic_version"

# Any constant would do, as long as every process uses the same one: "coat" in ASCII.
_POSTGRES_LOCK = 0x636F6174


def migrations_path() -> Path:
    """The folder of revisions, for the `version_locations` of an application."""
    return Path(__file__).parent / "migrations" / "versions"


def include_name(name: str | None, type_: str, parent_names: object) -> bool:
    """Leave Coatcheck's tables out of an application's autogenerate: `context.configure(include_name=include_name)`.

    Without it Alembic proposes to drop them, because no model of the application has them.
    """
    del parent_names
    return not (type_ == "table" and _is_ours(name))


def include_object(thing: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:
    """The same for an application that has an `include_object` of its own to call it from."""
    del thing, reflected, compare_to
    return not (type_ == "table" and _is_ours(name))


async def upgrade(engine: AsyncEngine) -> None:
    """Upgrade the tables to the newest revision. One process does it while the others wait.

    Raises:
        ConfigurationError: the tables exist but this version table does not have them.
    """
    async with engine.connect() as connection:
        await connection.execution_options(coatcheck_reads_only=True)
        with without_info():
            if await connection.run_sync(_is_current):
                return
    async with engine.begin() as connection:
        with without_info():
            await connection.run_sync(_upgrade)
    _log.info("the tables of Coatcheck are upgraded to %s", ", ".join(_scripts().get_heads()))


def _is_ours(table: str | None) -> bool:
    return (table or "").startswith("coatcheck_")


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
