"""Packs a session into one value: a head of fixed size, then the parts whose lengths it has, the scopes last.

    version, flags                              one byte each; flags 1: the session follows its user
    created, last used, expires, unused for     eight bytes each, microseconds; all bits set where there is none
    lengths                                     two bytes each: hash, salt, pepper id, user, method, client
    hash, salt, pepper id, user, method, client, scopes

Numbers are big-endian. The scripts read and change values of this form (`scripts/prelude.lua`): a touch writes eight
bytes in place, a change of scopes replaces the end.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from coatcheck.client_info import UNKNOWN_CLIENT, ClientInfo
from coatcheck.errors import InvalidArgumentError
from coatcheck.identifiers import UserId
from coatcheck.stores.records import KeyHash, ListedSession, SessionReading, SessionRecord
from coatcheck.stores.scope_text import decode_scopes, encode_scopes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from coatcheck.identifiers import SessionId
    from coatcheck.stores.records import NewSession

_HEAD = struct.Struct(">BBQQQQHHHHHH")
_LENGTHS = struct.Struct(">HHH")
_VERSION = 1
_FOLLOWS_USER = 1
_NEVER = 2**64 - 1
_NO_PEPPER = 2**16 - 1


class DamagedError(ValueError):
    """A value is not a session, or one of a version that is not known here."""


def pack(new: NewSession) -> bytes:
    """Pack a session to be inserted. The script sets the times that count from the insertion."""
    key = new.key
    pepper = None if key.pepper_id is None else key.pepper_id.encode()
    user, method, client = new.user_id.encode(), new.method.encode(), _packed_client(new.client)
    head = _HEAD.pack(
        _VERSION,
        _FOLLOWS_USER if new.follows_user else 0,
        0,
        0,
        _NEVER if new.expires_at_us is None else new.expires_at_us,
        _NEVER if new.expire_after_unused_for_us is None else new.expire_after_unused_for_us,
        *_key_lengths(key),
        len(user),
        len(method),
        len(client),
    )
    scopes = encode_scopes(new.scopes).encode()
    return b"".join((head, key.hash, key.salt, pepper or b"", user, method, client, scopes))


def packed_key(key: KeyHash) -> tuple[bytes, bytes]:
    """The lengths and the bytes of a hash, as in a packed session."""
    return _LENGTHS.pack(*_key_lengths(key)), key.hash + key.salt + (key.pepper_id or "").encode()


def reading_of(session_id: SessionId, value: bytes, now_us: int) -> SessionReading:
    """Unpack the part of a session that a validation needs. Damaged scopes are None, which grants nothing.

    Raises:
        DamagedError: another part is damaged.
    """
    if len(value) < _HEAD.size:
        raise DamagedError("too short")
    version, _, _, used, expires, unused, hash_size, salt_size, pepper_size, user_size, method_size, client_size = (
        _HEAD.unpack_from(value)
    )
    salt_at = _HEAD.size + hash_size
    pepper_at = salt_at + salt_size
    user_at = pepper_at if pepper_size == _NO_PEPPER else pepper_at + pepper_size
    method_at = user_at + user_size
    scopes_at = method_at + method_size + client_size
    if version != _VERSION or len(value) < scopes_at:
        raise DamagedError("of another version, or cut off")
    try:
        return SessionReading(
            session_id,
            UserId(value[user_at:method_at].decode()),
            decode_scopes(value[scopes_at:].decode(errors="replace")),
            used,
            None if expires == _NEVER else expires,
            None if unused == _NEVER else unused,
            KeyHash(
                value[_HEAD.size : salt_at],
                value[salt_at:pepper_at],
                None if pepper_size == _NO_PEPPER else value[pepper_at:user_at].decode(),
            ),
            now_us,
        )
    except UnicodeDecodeError:
        raise DamagedError("a text is not UTF-8") from None  # the decoder's error would show the bytes


def listed_of(session_id: SessionId, value: bytes) -> ListedSession:
    """Unpack a whole session.

    Raises:
        DamagedError: as `reading_of`.
    """
    reading = reading_of(session_id, value, 0)
    _, flags, created, *_, method_size, client_size = _HEAD.unpack_from(value)
    scopes_at = len(value) - len(scopes_of(value))
    client_at = scopes_at - client_size
    session = SessionRecord(
        reading.id,
        reading.user_id,
        value[client_at - method_size : client_at].decode(errors="replace"),
        reading.scopes,
        bool(flags & _FOLLOWS_USER),
        created,
        reading.last_used_at_us,
        reading.expires_at_us,
        reading.expire_after_unused_for_us,
        reading.key,
    )
    return ListedSession(session, _client_of(value[client_at:scopes_at]))


def scopes_of(value: bytes) -> bytes:
    """The text of a packed session's scopes, which is its end."""
    lengths = _HEAD.unpack_from(value)[6:]
    return value[_HEAD.size + sum(size for size in lengths if size != _NO_PEPPER) :]


def _key_lengths(key: KeyHash) -> tuple[int, int, int]:
    pepper_size = _NO_PEPPER if key.pepper_id is None else len(key.pepper_id.encode())
    return len(key.hash), len(key.salt), pepper_size


def _packed_client(client: ClientInfo) -> bytes:
    known: Mapping[str, str | None] = {
        "label": client.label,
        "user_agent": client.user_agent,
        "ip_address": client.ip_address,
    }
    present = {name: value for name, value in known.items() if value is not None}
    return json.dumps(present, ensure_ascii=False, separators=(",", ":")).encode() if present else b""


def _client_of(packed: bytes) -> ClientInfo:
    """The client; a damaged one counts as unknown."""
    if not packed:
        return UNKNOWN_CLIENT
    try:
        document: Any = json.loads(packed)
        return ClientInfo(**document)
    except (ValueError, TypeError, InvalidArgumentError):
        return UNKNOWN_CLIENT
