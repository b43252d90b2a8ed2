"""User ids and session ids: what is allowed, and their one spelling."""

from __future__ import annotations

import os
import re
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, NewType
from uuid import UUID

from coatcheck.errors import InvalidArgumentError
from coatcheck.hidden import HiddenText

if TYPE_CHECKING:
    from collections.abc import Iterable

SessionId = NewType("SessionId", str)
"""A session's id: a UUIDv7 in canonical text form. It may be shown and logged: without the secret it is no token."""

UserId = NewType("UserId", str)
"""A user's id: 1 to 255 characters; UUIDs in canonical form (lower case, with hyphens)."""

MAX_USER_ID_LENGTH = 255

_UUID_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_TOKEN_TEXT = re.compile(
    r"c2Fz[A-Za-z0-9_-]{44,}"
)  # what `token_format` writes: the base64url of "sas", an id, a secret
# Control characters and lone surrogates: stores cannot keep them as text, and logs should not print them.
_FORBIDDEN_IN_USER_ID = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def user_id_of(value: str | UUID, *, name: str = "auth_user_id") -> UserId:
    """Check a user id given by a caller and bring it to its one spelling.

    Raises:
        InvalidArgumentError: it is neither text nor a UUID, is empty, is longer than 255 characters, holds control
            characters, or is a token.
    """
    if isinstance(value, UUID):
        return UserId(str(value))
    wrong = _what_is_wrong_with(value)
    if wrong is not None:
        del value  # it may be a token, and an error reporter shows local variables
        raise InvalidArgumentError(f"{name} must {wrong}")
    return UserId(value.lower() if _UUID_TEXT.fullmatch(value) else value)


def _what_is_wrong_with(user_id: object) -> str | None:
    """What a text, given as a user id, must be and is not; None if it is a user id."""
    if not isinstance(user_id, str):
        return f"be text or a UUID, not {type(user_id).__name__}"
    if not 1 <= len(user_id) <= MAX_USER_ID_LENGTH:
        return f"have 1 to {MAX_USER_ID_LENGTH} characters, not {len(user_id)}"
    if _FORBIDDEN_IN_USER_ID.search(user_id) is not None:
        return "not hold control characters or surrogates"
    if is_like_token(user_id):
        return "be a user's id, not a token; `validate_token` says whose it is"
    return None


def session_id_of(value: str | UUID) -> SessionId | None:
    """The session id in `value`; None if it is not a UUID, because then no session has it."""
    if isinstance(value, UUID):
        return SessionId(str(value))
    if isinstance(value, str) and _UUID_TEXT.fullmatch(value) is not None:
        return SessionId(value.lower())
    return None


def given_session_id(value: str | UUID, *, name: str = "session_id") -> SessionId:
    """Check a session id given by a caller. The error does not repeat it: it may be a token.

    Raises:
        InvalidArgumentError: it is a token.
        NotASessionIdError: it is anything else that is not a UUID.
    """
    found = session_id_of(value)
    if found is not None:
        return found
    refuse_token(value, name=name)
    given = (
        f"a text of {len(value)} characters" if isinstance(value, str) else f"a value of type {type(value).__name__}"
    )
    raise NotASessionIdError(f"{name} must be the id of a session (a UUID), not {given}")


def refuse_token(value: object, *, name: str) -> None:
    """Refuse a token that is given in the place of its id.

    Raises:
        InvalidArgumentError: it is a token, which is not repeated.
    """
    if is_like_token(value):
        raise InvalidArgumentError(
            f"{name} must be an id, not a token, which still lives; `validate_token` gives the id as `auth_id`, and a "
            "sign-in as `server_side_session_id`"
        )


def is_like_token(value: object) -> bool:
    """Whether a value that is given as an id is a token, by its type or by the look of it."""
    return isinstance(value, str) and (isinstance(value, HiddenText) or _TOKEN_TEXT.match(value) is not None)


class NotASessionIdError(InvalidArgumentError):
    """The given text is not the id of a session. It may be that of another kind of token."""


def session_id_from_bytes(raw: bytes) -> SessionId:
    """The 16 bytes of an id in canonical text form. Five times as fast as going through `uuid.UUID`."""
    digits = raw.hex()
    return SessionId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")


def session_id_to_bytes(session_id: SessionId) -> bytes:
    """The 16 bytes of an id."""
    return bytes.fromhex(session_id.replace("-", ""))


def new_session_id(user_id: UserId) -> SessionId:
    """A new UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, 66 random bits, and the user's shard.

    The time only orders rows; no deadline is ever read from it.
    """
    raw = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(9) + _shard_byte(user_id))
    raw[6] = 0x70 | (raw[6] & 0x0F)  # version 7
    raw[8] = 0x80 | (raw[8] & 0x3F)  # RFC 9562 variant
    return session_id_from_bytes(bytes(raw))


SHARDS = tuple(f"{number:02x}" for number in range(256))
"""All shards. A store that is spread over several servers keeps the keys of one shard on one server."""


def shard_of_user(user_id: UserId) -> str:
    """The shard of a user, two hexadecimal digits. It never changes: each session id of the user contains it."""
    return _shard_byte(user_id).hex()


def shard_of_session(session_id: SessionId) -> str:
    """The shard of the session's user, which is read from the session id alone."""
    return session_id[-2:]


def by_shard(session_ids: Iterable[SessionId]) -> dict[str, list[SessionId]]:
    """The ids of each shard, in the order in which they were given."""
    shards: dict[str, list[SessionId]] = {}
    for session_id in session_ids:
        shards.setdefault(shard_of_session(session_id), []).append(session_id)
    return shards


def _shard_byte(user_id: UserId) -> bytes:
    # One byte says almost nothing about a user, and a cluster has fewer than 256 servers.
    return blake2b(user_id.encode(), digest_size=1, person=b"coatcheck shard").digest()
