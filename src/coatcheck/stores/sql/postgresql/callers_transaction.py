"""Takes part in a transaction of the application's, or refuses it before anything is written.

In REPEATABLE READ and SERIALIZABLE a statement sees only what was committed before the transaction's first one. A
session that was committed later would outlive the revocation of all of its user's, and COMMIT would succeed: the two
have written different rows. A lock does not help, and neither does a write to the user's row: the revocation of one
session and a deletion by a filter find their rows by what they see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.errors import InvalidArgumentError
from coatcheck.stores.sql.postgresql.pooled_statements import ON_THE_PRIMARY
from coatcheck.stores.sql.postgresql.positions import SERVER
from coatcheck.stores.sql.transactions import COMMITS_EACH_STATEMENT, READ_ONLY

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

# Raises what is too weak, and leaves alone what is stronger (remote_apply).
_RAISED = """
    CASE WHEN current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
    THEN set_config('synchronous_commit', 'on', {is_local}) END
"""

MAKE_DURABLE = f"SELECT {_RAISED.format(is_local='false')}"
"""Raises the durability of all transactions of a connection to what ours need."""

SETTINGS_OF_A_STATEMENT = f"""
    settings AS MATERIALIZED (
        SELECT {_RAISED.format(is_local="true")}, set_config('client_min_messages', 'warning', true)
        WHERE current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')
    )
"""
"""A part of a statement that writes in a transaction of its own: it makes this durable, and its warnings heard.

It has one row, or none where the transaction would overlook what others commit while the statement waits for a lock.
Through a pooler the connection's own settings do not count.
"""

SETTINGS_OF_A_TRANSACTION = f"""
SELECT {_RAISED.format(is_local="true")}, set_config('client_min_messages', 'warning', true)
WHERE {ON_THE_PRIMARY}
"""
"""The same for a transaction of ours through a pooler, which has begun as READ COMMITTED. An error on a standby."""

DATABASE = f"""
    concat_ws(
        '/', {SERVER}, (SELECT oid FROM pg_database WHERE datname = current_database()),
        to_regclass('coatcheck_sessions')::oid
    )
"""  # noqa: S608 (a constant)
"""Names a database, and the tables in it that statements of ours would find; no two have the same name."""

# One statement, and so one round trip. After it PostgreSQL lets nobody change the transaction's level.
_JOIN = f"""
SELECT current_setting('transaction_isolation'), current_setting('default_transaction_isolation'),
    current_setting('transaction_read_only'), pg_is_in_recovery(), {DATABASE},
    {_RAISED.format(is_local="true")}
"""

# PostgreSQL treats the first as the second.
_SEES_ALL_THAT_IS_COMMITTED = frozenset({"read uncommitted", "read committed"})


async def join(connection: AsyncConnection) -> str:
    """Make the transaction durable. Returns the name of its database (DATABASE).

    Raises:
        InvalidArgumentError: its isolation level is above READ COMMITTED, it may not write, or it is none.
    """
    # The server is asked: the level may come from a role, a database, the connection's options, or SET TRANSACTION.
    asked = (await connection.exec_driver_sql(_JOIN)).one()
    level, default, read_only, is_on_standby, database, _ = map(str, asked)
    if await _commits_each_statement(connection):
        raise InvalidArgumentError(COMMITS_EACH_STATEMENT)
    if read_only == "on":
        by_settings = "SET TRANSACTION, or default_transaction_read_only"
        why = "its server is a standby" if is_on_standby == str(True) else by_settings
        raise InvalidArgumentError(READ_ONLY.format(why=why))
    if level not in _SEES_ALL_THAT_IS_COMMITTED:
        cause = " (as default_transaction_isolation says)" if level == default else ""
        raise InvalidArgumentError(
            f"transaction must be in READ COMMITTED, not in {level.upper()}{cause}, which does not see sessions that "
            'are committed after it began: begin it with isolation_level="READ COMMITTED"'
        )
    return database


async def _commits_each_statement(connection: AsyncConnection) -> bool:
    pooled = await connection.get_raw_connection()
    if pooled.dbapi_connection is None or connection.dialect.detect_autocommit_setting(pooled.dbapi_connection):
        return True
    # asyncpg says what the server said last. Other drivers begin another transaction where a COMMIT was sent by hand.
    is_in_transaction = getattr(pooled.driver_connection, "is_in_transaction", None)
    return is_in_transaction is not None and not is_in_transaction()
