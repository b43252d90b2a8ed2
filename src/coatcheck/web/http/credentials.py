"""The token that a request shows, read strictly from the raw header bytes.

There are three answers, and they are kept apart: nothing was sent, something was sent that cannot be a token, and
a token (which may still be unknown, expired or revoked). The token is taken from

1. `Authorization: Bearer <token>` (RFC 6750 section 2.1; RFC 9110 section 11.4 for the syntax), else
2. the cookie with the configured name, if there is one.

It is never taken from the URL or the body: both end up in logs and histories (RFC 6750 section 5.3).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from coatcheck.errors import TooManyCookiesError
from coatcheck.tokens import Token, TokenRefusal

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_AUTHORIZATION_LENGTH = 8 * 1024
"""Bytes of an Authorization header that are looked at. nginx and Apache refuse longer header lines themselves."""

MAX_COOKIE_LENGTH = 16 * 1024
"""Bytes of all Cookie headers together that are taken apart."""

# "Bearer" in any case, as a whole scheme: not followed by another character of an RFC 9110 token.
_IS_BEARER = re.compile(rb"bearer(?![!#$%&'*+\-.^_`|~0-9A-Za-z])", re.IGNORECASE)
# RFC 9110 section 11.2. No text matches in two ways, so matching is linear.
_TOKEN68 = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_BEARER = re.compile(rb"bearer (" + _TOKEN68.pattern + rb")", re.IGNORECASE)

_QUOTED = re.compile(rb'\A"(.*)"\Z', re.DOTALL)


class Credential(NamedTuple):
    """The token that was sent, `token` None where it cannot be one; `in_cookie` says how it came.

    `refusal` is the reason why it cannot be one; `TooManyCookiesError`: there may be one, which was not looked for.
    """

    token: Token | None
    in_cookie: bool
    refusal: TokenRefusal | TooManyCookiesError = TokenRefusal.NOT_A_TOKEN


def presented_credential(headers: Iterable[tuple[bytes, bytes]], cookie: bytes | None = None) -> Credential | None:
    """The token that the request shows, or None if it shows none.

    `headers` are the ASGI scope's, with names in lower case. `cookie` is the name of the session cookie; None reads
    no cookie. A Bearer header wins over the cookie; another scheme than Bearer shows no token. Never raises on
    bytes a client can send.
    """
    authorization: list[bytes] = []
    cookies: list[bytes] = []
    for name, value in headers:
        if name == b"authorization":
            authorization.append(value)
        elif name == b"cookie":
            cookies.append(value)
    if len(authorization) > 1:  # not a list field (RFC 9110 section 5.3): two parsers could each take another one
        return Credential(None, in_cookie=False)
    if authorization and _IS_BEARER.match(authorization[0]) is not None:
        value = authorization[0]
        match = _BEARER.fullmatch(value) if len(value) <= MAX_AUTHORIZATION_LENGTH else None
        return Credential(None if match is None else Token(match[1].decode("ascii")), in_cookie=False)
    if cookie is not None and cookies:
        return _cookie_credential(cookies, cookie)
    return None


def texts_in_cookies(headers: Iterable[tuple[bytes, bytes]], cookie: bytes) -> tuple[Token | None, ...]:
    """What all cookies of this name hold, but for empty ones; None for what cannot be a token.

    For a sign-out, which ends whatever was shown: there is no choice that an attacker could make with a second cookie.
    Double quotes around a value, which RFC 6265 allows and we never write, are taken off.

    Raises:
        TooManyCookiesError: there are such cookies, among more bytes than are taken apart.
    """
    lines = [value for name, value in headers if name == b"cookie"]
    if sum(map(len, lines)) > MAX_COOKIE_LENGTH:
        if any(cookie + b"=" in line for line in lines):
            raise TooManyCookiesError
        return ()
    values = (_QUOTED.sub(rb"\1", value) for value in _cookie_values(lines, cookie))
    return tuple(Token(value.decode("ascii")) if _TOKEN68.fullmatch(value) else None for value in values if value)


def _cookie_credential(lines: list[bytes], name: bytes) -> Credential | None:
    if sum(map(len, lines)) > MAX_COOKIE_LENGTH:
        if not any(name + b"=" in line for line in lines):  # quick: they are not taken apart
            return None
        return Credential(None, in_cookie=True, refusal=TooManyCookiesError())
    values = _cookie_values(lines, name)
    if not values:
        return None
    # Two cookies of one name: somebody set one for a parent domain or a deeper path, and which comes first is theirs
    # to choose ("cookie tossing").
    if len(values) > 1 or _TOKEN68.fullmatch(values[0]) is None:
        return Credential(None, in_cookie=True)
    return Credential(Token(values[0].decode("ascii")), in_cookie=True)


def _cookie_values(lines: list[bytes], name: bytes) -> list[bytes]:
    """The values of all cookies with exactly this name.

    Not the standard library's `http.cookies`: it is quadratic on backslashes, loses all cookies to one it cannot
    read, and frameworks on top of it strip U+2000 and the like from names, so that a cookie a browser takes for an
    ordinary one is read as `__Host-...`. Here a name is its bytes, and only SP and HTAB around a pair are dropped.
    HTTP/2 may split the header into several lines (RFC 9113 section 8.2.3).
    """
    values = []
    for line in lines:
        for pair in line.split(b";"):
            found, equals, value = pair.strip(b" \t").partition(b"=")
            if equals and found == name:
                values.append(value)
    return values
