"""The token as text and as bytes: base64url(b"sas" + 16 id bytes + secret).

`tests/vectors.json` has examples. Only the canonical spelling is a token: a lenient decoder accepts several texts for
the same bytes, and a client could then get around a rate limit or a log that goes by the text.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64encode
from typing import NamedTuple

from coatcheck.errors import InvalidArgumentError
from coatcheck.identifiers import SessionId, session_id_from_bytes, session_id_to_bytes

PREFIX = b"sas"
MIN_SECRET_LENGTH = 16
MAX_SECRET_LENGTH = 1024

_ID_END = len(PREFIX) + 16
_TEXT_PREFIX = "c2Fz"  # base64 of b"sas"


def _text_length(secret_length: int) -> int:
    return (_ID_END + secret_length + 2) // 3 * 4


_MIN_TEXT_LENGTH = _text_length(MIN_SECRET_LENGTH)
_MAX_TEXT_LENGTH = _text_length(MAX_SECRET_LENGTH)

# From base64url to the alphabet that `binascii` reads. "+" and "/" are not base64url and become "!", which it refuses.
_TO_STANDARD = bytes.maketrans(b"-_+/", b"+/!!")


class Secret(bytes):
    """The secret half of a token: bytes in every way, except that a traceback which prints local variables hides it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Say that this is a secret, not which."""
        return "Secret(...)"


class ParsedToken(NamedTuple):
    """A token taken apart. It holds the secret: never log it, never keep it."""

    session_id: SessionId
    secret: Secret

    def __repr__(self) -> str:
        """Show the id only."""
        return f"ParsedToken(session_id={self.session_id!r})"


def format_token(session_id: SessionId, secret: bytes) -> str:
    """The token of a session."""
    return urlsafe_b64encode(PREFIX + session_id_to_bytes(session_id) + secret).decode()


def parse_token(text: str) -> ParsedToken | None:
    """Take a token apart; None for a text that is not a token in its canonical spelling.

    The cost does not grow with the input: a text longer than the longest token is refused unread.
    """
    if not isinstance(text, str) or not _MIN_TEXT_LENGTH <= len(text) <= _MAX_TEXT_LENGTH:
        return None
    if not text.startswith(_TEXT_PREFIX):
        return None
    try:
        standard = text.encode("ascii").translate(_TO_STANDARD)
        raw = binascii.a2b_base64(standard, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    # Strict mode still accepts bits after the last byte; only the spelling we would write ourselves is canonical.
    is_canonical = binascii.b2a_base64(raw, newline=False) == standard
    if not is_canonical or not MIN_SECRET_LENGTH <= len(raw) - _ID_END <= MAX_SECRET_LENGTH:
        return None
    return ParsedToken(session_id_from_bytes(raw[len(PREFIX) : _ID_END]), Secret(raw[_ID_END:]))


def session_id_in(text: str) -> SessionId:
    """The id of the session a token belongs to.

    Raises:
        InvalidArgumentError: the text is empty, as in cookie mode, or is not a server-side session's token.
    """
    parsed = parse_token(text)
    if parsed is None:
        what = "is empty (in cookie mode the body has no token)" if not text else "is not a server-side session's"
        raise InvalidArgumentError(f"the token has no session id: it {what}")
    return parsed.session_id
