"""Runs batches on PostgreSQL: reads, sign-ins and revocations, each a prepared statement on a connection of its own.

A batch of writes is one statement, and so one transaction: it is durable when it is answered. It waits for no lock: a
row that another transaction has locked is passed over (SKIP LOCKED). A key that was not done has no answer: because of
a lock, because a user's epochs have moved, or because one of the batch is no valid row. The store then does it alone,
in a transaction that waits for locks and says why it cannot be done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.errors import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import SessionId, UserId
from coatcheck.stores.records import EndedSession, SessionRecord
from coatcheck.stores.scope_text import encode_scopes
from coatcheck.stores.sql.postgresql.listener import CHANNEL
from coatcheck.stores.sql.postgresql.prepared_connections import NotWrittenError
from coatcheck.stores.sql.rows import READING_COLUMN_LIST, USER_COLUMNS, reading_of, user_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coatcheck.stores.records import SessionReading, UserRecord
    from coatcheck.stores.sql.group_commit import Deletion, Insertion
    from coatcheck.stores.sql.postgresql.prepared_connections import PreparedConnection

# A lone read has no array, which would cost it a third more.
READ_ONE = f"SELECT {READING_COLUMN_LIST}, clock_timestamp() FROM coatcheck_sessions WHERE id = $1"  # noqa: S608 (constants only)
READ_MANY = f"SELECT {READING_COLUMN_LIST}, clock_timestamp() FROM coatcheck_sessions WHERE id = ANY($1::uuid[])"  # noqa: S608 (constants only)

_USER_COLUMN_LIST = ", ".join(column.name for column in USER_COLUMNS)
READ_USERS = f"SELECT {_USER_COLUMN_LIST} FROM coatcheck_users WHERE id = ANY($1::text[])"  # noqa: S608 (constants only)

# Locks the users' rows as a single sign-in does, and judges them as they are once they are locked.
INSERT = """
WITH new AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::timestamptz[], $7::bigint[], $8::bigint[],
        $9::bytea[], $10::bytea[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bigint[], $16::bigint[],
        $17::text[]
    ) AS new (
        id, user_id, method, scopes, follows_user, expires_at, lifetime_us, expire_after_unused_for_us,
        key_hash, key_salt, pepper_id, client_label, user_agent, ip_address, revocations, rescopes, known_scopes
    )
), owner AS (
    SELECT id, scopes, is_registered, revocations, rescopes FROM coatcheck_users
    WHERE id = ANY($2::text[])
    ORDER BY id
    FOR NO KEY UPDATE SKIP LOCKED
), present AS MATERIALIZED (
    SELECT clock_timestamp() AS moment
)
INSERT INTO coatcheck_sessions (
    id, user_id, method, scopes, follows_user, created_at, last_used_at, expires_at, expire_after_unused_for_us,
    key_hash, key_salt, pepper_id, client_label, user_agent, ip_address
)
SELECT new.id, new.user_id, new.method, new.scopes, new.follows_user, present.moment, present.moment,
    coalesce(new.expires_at, present.moment + new.lifetime_us * interval '1 microsecond'),
    new.expire_after_unused_for_us, new.key_hash, new.key_salt, new.pepper_id, new.client_label, new.user_agent,
    new.ip_address
FROM new JOIN owner ON owner.id = new.user_id CROSS JOIN present
WHERE owner.revocations = new.revocations
    AND (new.rescopes IS NULL OR owner.rescopes = new.rescopes)
    AND CASE WHEN new.known_scopes IS NULL THEN owner.is_registered ELSE owner.scopes = new.known_scopes END
RETURNING id, created_at, expires_at
"""

DELETE = """
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::text[]) AS wanted (id, user_id)
), chosen AS (
    SELECT session.id
    FROM coatcheck_sessions AS session JOIN wanted ON wanted.id = session.id
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
"""


class SessionReader:
    """Reads a batch of sessions."""

    def __init__(self, connection: PreparedConnection) -> None:
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

    def __init__(self, connection: PreparedConnection) -> None:
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

    async def run(self, keys: Sequence[Insertion]) -> Mapping[Insertion, SessionRecord]:
        asked = {one.session.id: one for one in keys}
        columns = zip(*map(_insert_arguments, asked.values()), strict=True)
        try:
            rows = await self._connection.write(INSERT, *columns, when_lost=StoreUnavailable)
        except NotWrittenError:
            return {}
        made: dict[Insertion, SessionRecord] = {}
        for session_id, created_at_us, expires_at_us in rows:
            insertion = asked[SessionId(str(session_id))]
            made[insertion] = insertion.inserted(created_at_us, expires_at_us)
        return made


class SessionDeleter:
    """Deletes a batch of sessions."""

    def __init__(self, connection: PreparedConnection, origin: str) -> None:
        """Over `connection`, which has DELETE prepared. `origin` signs the announcements."""
        self._connection = connection
        self._origin = origin

    async def run(self, keys: Sequence[Deletion]) -> Mapping[Deletion, EndedSession]:
        asked = {one.session_id: one for one in keys}  # of two for one session the other is done by itself, afterwards
        columns = ([*asked], [one.user_id for one in asked.values()])
        announcing = (CHANNEL, self._origin)
        try:
            rows = await self._connection.write(DELETE, *columns, *announcing, when_lost=RevocationIndeterminate)
        except NotWrittenError:
            return {}
        gone = (EndedSession(UserId(user_id), SessionId(str(session_id))) for user_id, session_id, _ in rows)
        return {asked[one.session_id]: one for one in gone}


def _insert_arguments(insertion: Insertion) -> tuple[object, ...]:
    new = insertion.session
    return (
        new.id,
        new.user_id,
        new.method,
        encode_scopes(new.scopes),
        new.follows_user,
        new.expires_at_us,
        new.lifetime_us,
        new.expire_after_unused_for_us,
        new.key.hash,
        new.key.salt,
        new.key.pepper_id,
        new.client.label,
        new.client.user_agent,
        new.client.ip_address,
        insertion.expected_revocations,
        insertion.expected_rescopes,
        insertion.known_scopes,
    )
