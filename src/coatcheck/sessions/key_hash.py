"""The stored hash of a secret: one version byte, then SHA-512(secret + salt + pepper).

A fast hash is right here: the secret is at least 128 random bits and cannot be guessed (ASVS 6.5.2, 11.4.1). Without
the pepper, an attacker who can write to the table cannot make valid rows.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from enum import Enum
from typing import TYPE_CHECKING

from coatcheck.hidden import shown_when_made
from coatcheck.stores.records import KeyHash, PepperRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = b"\x01"
_DIGEST_LENGTH = 64
_CHECK_LENGTH = 32


class Pepper:
    """An application-wide secret. It cannot be printed, compared or pickled by accident.

    `id` names the pepper in the rows that are hashed with it. It has 32 bits of a keyed digest: enough to tell the few
    peppers of an application apart, too few to confirm a guessed pepper.
    """

    __slots__ = ("_bytes", "id")

    def __init__(self, text: str) -> None:
        """Take the pepper as text; its UTF-8 bytes are what is hashed."""
        self._bytes = text.encode()
        self.id: str = hmac.new(self._bytes, b"coatcheck pepper id", hashlib.sha512).hexdigest()[:8]

    @shown_when_made
    def __repr__(self) -> str:
        """Show the id only."""
        return f"Pepper(id={self.id!r})"

    def __reduce__(self) -> str | tuple[object, ...]:
        """Refuse, because a pickle would contain the pepper."""
        raise TypeError("a pepper cannot be pickled")

    def key_for(self, purpose: bytes) -> bytes:
        """A key for something else than hashing secrets, 64 bytes. It says nothing about the keys of other purposes."""
        return hmac.digest(self._bytes, purpose, "sha512")

    def record(self) -> PepperRecord:
        """The record by which a store knows this pepper, so that a process notices if its own is another one.

        The check value confirms a guessed pepper. So does the stored hash of a session whose token is known.
        """
        return PepperRecord(self.id, self.key_for(b"coatcheck pepper check value")[:_CHECK_LENGTH])

    def digest(self, secret: bytes, salt: bytes = b"") -> bytes:
        """SHA-512(secret + salt + pepper), 64 bytes."""
        return hashlib.sha512(secret + salt + self._bytes).digest()


class Match(Enum):
    """The secret matches the stored hash."""

    CURRENT = "hashed as new secrets are"
    OUTDATED = "hashed with an earlier pepper or scheme: to be rehashed"


class KeyHasher:
    """Hashes secrets under the primary pepper and checks them under every configured one."""

    def __init__(self, primary: Pepper, fallbacks: Sequence[Pepper], *, salt_length: int) -> None:
        """`salt_length` is in bytes and applies to new hashes only."""
        self.primary = primary
        self._in_order = (primary, *fallbacks)
        self._by_id = {pepper.id: (pepper,) for pepper in self._in_order}
        self._salt_length = salt_length

    def hash(self, secret: bytes) -> KeyHash:
        """The hash to store for a new secret, with a new salt."""
        return self._hash(secret, secrets.token_bytes(self._salt_length))

    def rehash(self, secret: bytes, stored: KeyHash) -> KeyHash:
        """The hash to store instead of an older one. The salt stays, so that fewer columns change."""
        return self._hash(secret, stored.salt)

    def check(self, secret: bytes, stored: KeyHash) -> Match | None:
        """Whether `secret` matches the stored hash; None if not. An unknown scheme or pepper matches nothing."""
        for pepper in self._candidates(stored.pepper_id):
            if len(stored.hash) == 1 + _DIGEST_LENGTH:
                if hmac.compare_digest(stored.hash, VERSION + pepper.digest(secret, stored.salt)):
                    is_current = pepper is self.primary and stored.pepper_id is not None
                    return Match.CURRENT if is_current else Match.OUTDATED
            # The superseded scheme, without salt and version.
            elif len(stored.hash) == _DIGEST_LENGTH and hmac.compare_digest(stored.hash, pepper.digest(secret)):
                return Match.OUTDATED
        return None

    def can_check(self, stored: KeyHash) -> bool:
        """Whether a secret that does not match is the wrong one: the row names a configured pepper and a known scheme.

        A row that names no pepper may be under one that is not configured here.
        """
        is_known = len(stored.hash) == _DIGEST_LENGTH or (
            len(stored.hash) == 1 + _DIGEST_LENGTH and stored.hash.startswith(VERSION)
        )
        return is_known and stored.pepper_id in self._by_id

    def _candidates(self, pepper_id: str | None) -> Sequence[Pepper]:
        """The pepper that a row names; all peppers, primary first, if the row names none."""
        if pepper_id is None:
            return self._in_order
        return self._by_id.get(pepper_id, ())

    def _hash(self, secret: bytes, salt: bytes) -> KeyHash:
        return KeyHash(VERSION + self.primary.digest(secret, salt), salt, self.primary.id)
