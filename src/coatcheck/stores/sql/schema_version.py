"""The version of the tables, and the versions of the code that may use them.

The last act of every migration is `note`. So the row is true whether this package's Alembic or an application's own has
upgraded the tables. A migration that the code before it can live with passes on that code's number.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, inspect, select

from coatcheck.errors import ConfigurationError
from coatcheck.stores.sql.schema import schema_version

if TYPE_CHECKING:
    from sqlalchemy import Connection

CODE = 5
"""The version of the tables that this code knows: the number of its newest migration."""

_INSERT = f"INSERT INTO {schema_version.name} (id, version, lowest_code) VALUES (1, "  # noqa: S608 (a constant)

_log = logging.getLogger(__name__)


def note(connection: Connection, *, version: int, compatible_with: int) -> None:
    """Write that the tables have this version now, and may be used by code of version `compatible_with` or newer."""
    connection.execute(delete(schema_version))
    row = {"id": 1, "version": version, "lowest_code": compatible_with}
    connection.execute(insert(schema_version).values(**row))


def is_there(connection: Connection) -> bool:
    """Whether there is the table that has the version: there is none where migrations have not come so far."""
    return inspect(connection).has_table(schema_version.name)


def is_newer(connection: Connection) -> bool:
    """Whether the tables say of themselves that they are newer than this code."""
    if not is_there(connection):
        return False
    version = connection.execute(select(schema_version.c.version)).scalar()
    return version is not None and version > CODE


def check(connection: Connection) -> None:
    """Check that this code may use the tables, whatever has upgraded them.

    Raises:
        ConfigurationError: it may not, or the tables do not say.
    """
    row = connection.execute(select(schema_version.c.version, schema_version.c.lowest_code)).one_or_none()
    if row is None:
        raise ConfigurationError(
            f"{schema_version.name} has no row, so that nobody knows which version the tables have; "
            f"restore it from a backup, or if this version made them: {_INSERT}{CODE}, {CODE})"
        )
    version, lowest = row
    if lowest > CODE:
        raise ConfigurationError(
            f"the tables are those of a newer Coatcheck: they have version {version}, which needs code that knows "
            f"version {lowest} or newer, and this one knows version {CODE}; install the newer Coatcheck again "
            "(docs/how-to/upgrade.md)"
        )
    if version < CODE:
        raise ConfigurationError(
            f"the tables have version {version}, and this Coatcheck needs version {CODE}; run `alembic upgrade heads` "
            "before it starts, or open the store without migrates=False"
        )
    if version > CODE:
        _log.info(
            "the tables have version %s, and this Coatcheck knows version %s; they may be used from version %s on",
            version,
            CODE,
            lowest,
        )
