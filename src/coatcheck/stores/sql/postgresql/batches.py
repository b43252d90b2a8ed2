"""Runs batches on PostgreSQL: reads, sign-ins and revocations, each a prepared statement on a connection of its own.

A batch of writes is one statement, and so one transaction: it is durable when it is answered. It waits for no lock: a
row that another transaction has locked is passed over (SKIP LOCKED). A key that was not done has no answer: because of
a lock, because a user's epochs have moved, because one of the batch is no valid row, or because the transaction's
isolation level is a server's default that is too high. The store then does it alone, in a transaction that waits for
locks and says why it cannot be done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.dialects import postgresql

from coatcheck.errors import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import SessionId, UserId
from coatcheck.stores.records import EndedSession, Insertion
from coatcheck.stores.sql.postgresql.callers_transaction import SETTINGS_OF_A_STATEMENT
from coatcheck.stores.sql.postgresql.listener import CHANNEL
from coatcheck.stores.sql.postgresql.positions import is_before
from coatcheck.stores.sql.postgresql.prepared_connections import NotWrittenError
from coatcheck.stores.sql.rows import INSERTED_COLUMNS, READING_COLUMN_LIST, USER_COLUMNS, reading_of, row_of, user_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coatcheck.opening import Opening
    from coatcheck.stores.records import SessionReading, UserRecord
    from coatcheck.stores.sql.group_commit import PlainDeletion, PlainInsertion
    from coatcheck.stores.sql.postgresql.prepared_connections import Fetching, PreparedConnection

# A lone read has no array, which would cost it a third more.
READ_ONE = f"SELECT {READING_COLUMN_LIST}, clock_timestamp() FROM coatcheck_sessions WHERE id = $1"  # noqa: S608 (constants only)
READ_MANY = f"SELECT {READING_COLUMN_LIST}, clock_timestamp() FROM coatcheck_sessions WHERE id = ANY($1::uuid[])"  # noqa: S608 (constants only)

_USER_COLUMN_LIST = ", ".join(column.name for column in USER_COLUMNS)
READ_USERS = f"SELECT {_USER_COLUMN_LIST} FROM coatcheck_users WHERE id = ANY($1::text[])"  # noqa: S608 (constants only)

# The store's clock fills these, the last from a lifetime where the caller has given no deadline.
_TIMES = {
    "created_at": "present.moment",
    "last_used_at": "present.moment",
    "expires_at": "coalesce(new.expires_at, present.moment + new.lifetime_us * interval '1 microsecond')",
}
_COLUMNS = [column.name for column in INSERTED_COLUMNS]
# A collation is no part of an array's type.
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy does not say
_PG_TYPES = {column.name: column.type.compile(_DIALECT).partition(" COLLATE")[0] for column in INSERTED_COLUMNS} | {
    "lifetime_us": "BIGINT",
    "revocations": "BIGINT",
    "rescopes": "BIGINT",
    "began_at": "TEXT",
    "known_scopes": "TEXT",
}

# The users' rows are locked as by a sign-in alone, and judged as they are once they are locked.
INSERT = f"""
WITH new AS (
    SELECT * FROM unnest(
        {", ".join(f"${number}::{type_}[]" for number, type_ in enumerate(_PG_TYPES.values(), start=1))}
    ) AS new ({", ".join(_PG_TYPES)})
), owner AS (
    SELECT id, scopes, is_registered, revocations, rescopes, last_ending FROM coatcheck_users
    WHERE id = ANY(${_COLUMNS.index("user_id") + 1}::text[])
    ORDER BY id
    FOR NO KEY UPDATE SKIP LOCKED
), present AS MATERIALIZED (
    SELECT clock_timestamp() AS moment
), {SETTINGS_OF_A_STATEMENT}
INSERT INTO coatcheck_sessions ({", ".join(_COLUMNS)})
SELECT {", ".join(_TIMES.get(name, f"new.{name}") for name in _COLUMNS)}
FROM new JOIN owner ON owner.id = new.user_id CROSS JOIN present CROSS JOIN settings
WHERE owner.revocations = new.revocations
    AND (new.rescopes IS NULL OR owner.rescopes = new.rescopes)
    AND (
        new.began_at IS NULL OR owner.last_ending IS NULL
        OR {is_before("owner.last_ending::text::xid8", "new.began_at")}
    )
    AND CASE WHEN new.known_scopes IS NULL THEN owner.is_registered ELSE owner.scopes = new.known_scopes END
RETURNING id, created_at
"""  # noqa: S608 (constants only)

DELETE = f"""
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::text[]) AS wanted (id, user_id)
), {SETTINGS_OF_A_STATEMENT}, chosen AS (
    SELECT session.id
    FROM coatcheck_sessions AS session JOIN wanted ON wanted.id = session.id CROSS JOIN settings
    WHERE wanted.user_id IS NULL OR wanted.user_id = session.user_id
    ORDER BY session.id
    FOR UPDATE OF session SKIP LOCKED
), gone AS (
    DELETE FROM coatcheck_sessions AS session USING chosen WHERE session.id = chosen.id
    RETURNING session.user_id, session.id
)
SELECT user_id, id, pg_notify(
    $3, json_build_object('v', 1, 'origin', $4::text, 'user', user_id, 'session', id)::text
)
FROM gone
"""  # noqa: S608 (constants only)


class SessionReader:
    """Reads a batch of sessions."""

    def __init__(self, connection: Fetching) -> None:
        """Over `connection`, which has READ_ONE and READ_MANY prepared."""
        self._connection = connection

    async def run(self, keys: Sequence[SessionId]) -> Mapping[SessionId, SessionReading]:
        if len(keys) == 1:
            rows = await self._connection.fetch(READ_ONE, keys[0])
        else:
            rows = await self._connection.fetch(READ_MANY, keys)
        found: dict[SessionId, SessionReading] = {}
        for row in rows:
            # Filed under the id that the row has: whatever a connection answers, no caller gets another's session.
            reading = reading_of((str(row[0]), *row[1:-1]), row[-1])
            found[reading.id] = reading
        return found


class UserReader:
    """Reads a batch of users."""

    def __init__(self, connection: Fetching) -> None:
        """Over `connection`, which has READ_USERS prepared."""
        self._connection = connection

    async def run(self, keys: Sequence[UserId]) -> Mapping[UserId, UserRecord]:
        users = map(user_of, await self._connection.fetch(READ_USERS, keys))
        return {user.id: user for user in users}


class SessionInserter:
    """Inserts a batch of sessions."""

    def __init__(self, connection: PreparedConnection) -> None:
        """Over `connection`, which has INSERT prepared."""
        self._connection = connection

    async def run(self, keys: Sequence[PlainInsertion]) -> Mapping[PlainInsertion, Insertion]:
        asked = {one.session.id: one for one in keys}
        columns = zip(*map(_insert_arguments, asked.values()), strict=True)
        try:
            rows = await self._connection.write(INSERT, *columns, when_lost=StoreUnavailable)
        except NotWrittenError:
            return {}
        made: dict[PlainInsertion, Insertion] = {}
        for session_id, created_at_us in rows:
            plain = asked[SessionId(str(session_id))]
            made[plain] = Insertion(plain.session.inserted(created_at_us))
        return made


class SessionDeleter:
    """Deletes a batch of sessions."""

    def __init__(self, connection: PreparedConnection, opening: Opening) -> None:
        """Over `connection`, which has DELETE prepared. The name of `opening` signs the announcements."""
        self._connection = connection
        self._opening = opening

    async def run(self, keys: Sequence[PlainDeletion]) -> Mapping[PlainDeletion, EndedSession]:
        asked = {one.session_id: one for one in keys}  # of two for one session the other is done by itself, afterwards
        columns = ([*asked], [one.user_id for one in asked.values()])
        announcing = (CHANNEL, self._opening.name)
        try:
            rows = await self._connection.write(DELETE, *columns, *announcing, when_lost=RevocationIndeterminate)
        except NotWrittenError:
            return {}
        gone = (EndedSession(UserId(user_id), SessionId(str(session_id))) for user_id, session_id, _ in rows)
        return {asked[one.session_id]: one for one in gone}


def _insert_arguments(plain: PlainInsertion) -> tuple[object, ...]:
    """A value for each of _PG_TYPES."""
    new = plain.session
    row = row_of(new, 0) | {"expires_at": new.expires_at_us}  # the times are the statement's to fill in
    return (
        *row.values(),
        new.lifetime_us,
        plain.expected_revocations,
        plain.expected_rescopes,
        plain.began_at,
        plain.known_scopes,
    )
