"""Rows to records and new sessions to rows, for the statements of SQLAlchemy and those of the drivers alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coatcheck.client_info import UNKNOWN_CLIENT, ClientInfo
from coatcheck.errors import InvalidArgumentError
from coatcheck.stores.records import KeyHash, ListedSession, SessionReading, SessionRecord, UserEpochs, UserRecord
from coatcheck.stores.scope_text import decode_scopes, encode_scopes
from coatcheck.stores.sql.schema import sessions, users

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    import asyncpg

    from coatcheck.stores.records import NewSession

    AnyRow: TypeAlias = Sequence[Any] | asyncpg.Record

# Every statement that reads sessions selects these first, in this order.
SESSION_COLUMNS = (
    sessions.c.id,
    sessions.c.user_id,
    sessions.c.method,
    sessions.c.scopes,
    sessions.c.follows_user,
    sessions.c.created_at,
    sessions.c.last_used_at,
    sessions.c.expires_at,
    sessions.c.expire_after_unused_for_us,
    sessions.c.key_hash,
    sessions.c.key_salt,
    sessions.c.pepper_id,
)
CLIENT_COLUMNS = (sessions.c.client_label, sessions.c.user_agent, sessions.c.ip_address)
# The columns that the path of every request reads, in the order of `SessionReading`.
READING_COLUMNS = (
    sessions.c.id,
    sessions.c.user_id,
    sessions.c.scopes,
    sessions.c.last_used_at,
    sessions.c.expires_at,
    sessions.c.expire_after_unused_for_us,
    sessions.c.key_hash,
    sessions.c.key_salt,
    sessions.c.pepper_id,
)
READING_COLUMN_LIST = ", ".join(column.name for column in READING_COLUMNS)

USER_COLUMNS = (
    users.c.id,
    users.c.created_at,
    users.c.scopes,
    users.c.blocked,
    users.c.is_registered,
    users.c.revocations,
    users.c.rescopes,
)


INSERTED_COLUMNS = (*SESSION_COLUMNS, *CLIENT_COLUMNS)
"""The columns that a new session fills: all of the table, in the order of `row_of`."""


def row_of(new: NewSession, now_us: int) -> dict[str, Any]:
    """The row of a session that is inserted at this time: a value for each of INSERTED_COLUMNS, in their order."""
    return {
        "id": new.id,
        "user_id": new.user_id,
        "method": new.method,
        "scopes": encode_scopes(new.scopes),
        "follows_user": new.follows_user,
        "created_at": now_us,
        "last_used_at": now_us,
        "expires_at": new.expires_at_us_from(now_us),
        "expire_after_unused_for_us": new.expire_after_unused_for_us,
        "key_hash": new.key.hash,
        "key_salt": new.key.salt,
        "pepper_id": new.key.pepper_id,
        "client_label": new.client.label,
        "user_agent": new.client.user_agent,
        "ip_address": new.client.ip_address,
    }


def session_of(row: AnyRow) -> SessionRecord:
    """A session from the values of SESSION_COLUMNS; anything behind them is left alone."""
    id_, user_id, method, scopes, follows_user, created_at, last_used_at, expires_at, unused_for = row[:9]
    return SessionRecord(
        id_,
        user_id,
        method,
        decode_scopes(scopes),
        bool(follows_user),
        created_at,
        last_used_at,
        expires_at,
        unused_for,
        KeyHash(row[9], row[10], row[11]),
    )


def reading_of(row: Sequence[Any], now_us: int) -> SessionReading:
    """The reading for a validation, from the values of READING_COLUMNS and the time on the clock."""
    id_, user_id, scopes, last_used_at, expires_at, unused_for, key_hash, key_salt, pepper_id = row
    key = KeyHash(key_hash, key_salt, pepper_id)
    return SessionReading(id_, user_id, decode_scopes(scopes), last_used_at, expires_at, unused_for, key, now_us)


def listed_of(row: AnyRow) -> ListedSession:
    """A session and its client, from the values of SESSION_COLUMNS and CLIENT_COLUMNS. Damaged texts are no texts."""
    try:
        client = ClientInfo(*row[len(SESSION_COLUMNS) :])
    except InvalidArgumentError:
        client = UNKNOWN_CLIENT
    return ListedSession(session_of(row), client)


def user_of(row: AnyRow) -> UserRecord:
    """A user from the values of USER_COLUMNS. Damaged scopes are no scopes."""
    id_, created_at, scopes, blocked, is_registered, revocations, rescopes = row
    return UserRecord(
        id_,
        created_at,
        decode_scopes(scopes) or frozenset(),
        bool(blocked),
        bool(is_registered),
        UserEpochs(revocations, rescopes),
    )
