"""Tickets that can do nothing but end one session: its token, sealed under the pepper.

A person signs out while the store cannot confirm it. The browser gives up the token and keeps a ticket, with which the
sign-out can be finished later. The ticket is not accepted as a token, and only a server with the pepper can open it.

It holds the token, and not the session's id alone, because during an outage the secret cannot be checked. Session ids
are shown in lists and logs; with a ticket for an id that somebody has merely read, they could end a session that is not
theirs. So the secret is checked when the ticket is handed in, as that of any token.

A ticket has no deadline of its own: it is worth nothing once its session is over.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING

from coatcheck.errors import SignOutUnconfirmedError
from coatcheck.identifiers import session_id_from_bytes, session_id_to_bytes
from coatcheck.token_format import MAX_SECRET_LENGTH, MIN_SECRET_LENGTH, Secret, format_token, parse_token
from coatcheck.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coatcheck.sessions.key_hash import Pepper

_TAG_LENGTH = 32
_ID_LENGTH = 16
_TEXT = re.compile(r"[A-Za-z0-9_-]+")
_MIN_REST_LENGTH = 32
"""Characters of a text that may be what is left of a ticket. A whole one has 86 at least."""
_MAX_LENGTH = (_TAG_LENGTH + _ID_LENGTH + MAX_SECRET_LENGTH + 2) // 3 * 4


class EndingTickets:
    """Makes tickets under the primary pepper, and opens those made under any configured one."""

    def __init__(self, peppers: Sequence[Pepper]) -> None:
        """The first of `peppers` is the primary."""
        self._seals = tuple(_Seal(pepper) for pepper in peppers)

    def ticket_for(self, token: str) -> str | None:
        """The ticket that ends the session of this token; None for a text that is not a token."""
        parsed = parse_token(token)
        if parsed is None:
            return None
        sealed = self._seals[0].close(Secret(session_id_to_bytes(parsed.session_id) + parsed.secret))
        return urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")

    def token_in(self, ticket: str) -> Token | None:
        """The token in a ticket of ours; None for a text that was never a ticket. Whether it is valid is not known.

        A text of fewer than 32 characters was never one; any other that cannot be opened may be a ticket of another
        pepper, or one that was damaged on its way.

        Raises:
            SignOutUnconfirmedError: the text may be a ticket, and no configured pepper opens it.
        """
        if len(ticket) < _MIN_REST_LENGTH:
            return None
        sealed = _sealed_in(ticket)
        for seal in self._seals:
            opened = None if sealed is None else seal.open(sealed)
            if opened is not None:
                return Token(format_token(session_id_from_bytes(opened[:_ID_LENGTH]), opened[_ID_LENGTH:]))
        raise SignOutUnconfirmedError


def _sealed_in(ticket: str) -> bytes | None:
    """The bytes of a text that has the form of a ticket; None for any other."""
    if len(ticket) > _MAX_LENGTH or _TEXT.fullmatch(ticket) is None or len(ticket) % 4 == 1:
        return None
    sealed = urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
    has_room = MIN_SECRET_LENGTH <= len(sealed) - _TAG_LENGTH - _ID_LENGTH <= MAX_SECRET_LENGTH
    return sealed if has_room else None


class _Seal:
    """Encrypts and authenticates, deterministically: the tag over the plain text is the nonce (as in RFC 5297).

    One token has one ticket, so nothing is learned from several of them. SHAKE-256 with a secret key in front is a
    stream of its own for each tag. Built of the standard library, since it is used by nothing else.
    """

    def __init__(self, pepper: Pepper) -> None:
        self._tag_key = pepper.key_for(b"coatcheck ending ticket: tag")
        self._stream_key = pepper.key_for(b"coatcheck ending ticket: stream")

    def __repr__(self) -> str:
        return "_Seal(...)"

    def close(self, plain: Secret) -> bytes:
        tag = hmac.digest(self._tag_key, plain, "sha256")
        return tag + self._masked(plain, tag)

    def open(self, sealed: bytes) -> Secret | None:
        tag, masked = sealed[:_TAG_LENGTH], sealed[_TAG_LENGTH:]
        plain = Secret(self._masked(masked, tag))
        return plain if hmac.compare_digest(hmac.digest(self._tag_key, plain, "sha256"), tag) else None

    def _masked(self, text: bytes, tag: bytes) -> bytes:
        stream = Secret(hashlib.shake_256(self._stream_key + tag).digest(len(text)))
        return bytes(one ^ other for one, other in zip(text, stream, strict=True))
