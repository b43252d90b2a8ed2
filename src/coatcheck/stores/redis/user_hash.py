"""Reads a user, which is a hash whose fields the scripts change one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.stores.records import UserEpochs, UserRecord
from coatcheck.stores.scope_text import decode_scopes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coatcheck.identifiers import UserId
    from coatcheck.stores.redis.keys import Keys

_FIELDS = ("created", "scopes", "blocked", "registered", "revocations", "rescopes")


def user_row(keys: Keys, user_id: UserId) -> tuple[str, ...]:
    """The command that reads a user."""
    return ("HMGET", keys.user(user_id), *_FIELDS)


def user_of(user_id: UserId, row: Sequence[bytes | None]) -> UserRecord | None:
    """The user of these fields; None where there is no row. Damaged scopes are no scopes."""
    created, scopes, blocked, registered, revocations, rescopes = row
    if created is None:
        return None
    return UserRecord(
        user_id,
        int(created),
        decode_scopes((scopes or b"").decode(errors="replace")) or frozenset(),
        blocked == b"1",
        registered == b"1",
        UserEpochs(int(revocations or 0), int(rescopes or 0)),
    )
