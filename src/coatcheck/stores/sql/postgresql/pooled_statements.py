"""Statements for connections through a pooler that gives each transaction whichever server connection is free.

PgBouncer in transaction mode is one. What a server connection has been told to keep (settings, statements by a name)
is there for the next client of the pooler, and not for us.

* What writes is parsed for each call, in the same message (asyncpg does that without its cache of statements).
* What a validation reads is not: parsing and planning would triple its time. Its name is made of its text. So all
  clients of the pooler share it, whichever of them has prepared it, and a server connection lacks it once.
* Settings are made in each transaction (`callers_transaction`).
* Statements are prepared within a transaction. Outside of one asyncpg would keep a server connection from its
  preparation to its first use, and turn JIT off on one and look for types on another, for which JIT takes seconds.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import asyncpg

from coatcheck.stores.sql.postgresql.prepared_connections import make_ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg.prepared_stmt import PreparedStatement

    from coatcheck.stores.sql.postgresql.prepared_connections import Statement

ON_THE_PRIMARY = """
    (SELECT CASE WHEN pg_is_in_recovery() THEN current_setting('coatcheck.this_server_is_a_standby') ELSE '' END) = ''
"""
"""A condition that is true on the primary. Elsewhere it is an error, whatever rows there are: no setting has that name.

The server may be another one for each statement; a standby may still have sessions that were revoked long ago.
"""

_EXISTS = "SELECT count(*) FROM pg_prepared_statements WHERE name = $1"

# The first calls on many new server connections miss in a row too. So the name is tried again, at the cost of one miss.
_MISSES_IN_A_ROW = 10
_CALLS_WITHOUT_NAME = 200


async def make_reads_ready(
    connection: asyncpg.Connection[asyncpg.Record], texts: Sequence[str]
) -> dict[str, Statement]:
    """Prepare statements that end with a WHERE clause, to be shared."""
    async with connection.transaction():
        return {text: await _shared(connection, f"{text} AND {ON_THE_PRIMARY}") for text in texts}


async def make_writes_ready(
    connection: asyncpg.Connection[asyncpg.Record], texts: Sequence[str]
) -> dict[str, Statement]:
    """Learn the types of statements that are parsed for each call."""
    async with connection.transaction():
        return await make_ready(connection, texts)


async def _shared(connection: asyncpg.Connection[asyncpg.Record], text: str) -> SharedStatement:
    name = f"coatcheck_{blake2b(text.encode(), digest_size=12).hexdigest()}"
    await _forget(connection, name)
    named = await connection.prepare(text, name=name)
    return SharedStatement(connection, text, name, named, await connection.prepare(text))


class SharedStatement:
    """A statement that reads, by a name that all clients of the pooler give it."""

    def __init__(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        text: str,
        name: str,
        named: PreparedStatement[asyncpg.Record],
        unnamed: PreparedStatement[asyncpg.Record],
    ) -> None:
        """Use `make_reads_ready`."""
        self._connection = connection
        self._text = text
        self._name = name
        self._named = named
        self._unnamed = unnamed
        self._misses = 0
        self._without_name = 0

    async def fetch(self, *arguments: object) -> list[asyncpg.Record]:
        """Run it. On a server connection that does not have it yet, it is prepared first."""
        if self._without_name > 0:
            self._without_name -= 1
            return await self._unnamed.fetch(*arguments)
        try:
            rows = await self._named.fetch(*arguments)
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.InvalidCachedStatementError):
            self._misses += 1
            if self._misses >= _MISSES_IN_A_ROW:  # the pooler clears its server connections each time
                self._without_name = _CALLS_WITHOUT_NAME
        else:
            self._misses = 0
            return rows
        async with self._connection.transaction():
            await _forget(self._connection, self._name)
            # By SQL: asyncpg would close the statement at some time, on any server connection.
            await self._connection.execute(f"PREPARE {self._name} AS {self._text}")
            return await self._named.fetch(*arguments)


async def _forget(connection: asyncpg.Connection[asyncpg.Record], name: str) -> None:
    """Within a transaction: free the name on the server connection, where an older statement may be out of date."""
    if await connection.fetchval(_EXISTS, name):
        await connection.execute(f"DEALLOCATE {name}")
