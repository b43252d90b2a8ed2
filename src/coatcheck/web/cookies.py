"""The session cookie's name, and the header that makes a browser forget it."""

from __future__ import annotations

import re

from coatcheck.errors import ConfigurationError

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,255}")  # RFC 6265 section 4.1.1: an HTTP token
_SECURE_PREFIXES = (b"__host-", b"__secure-")  # browsers compare them without case (RFC 6265bis section 5.7)


def cookie_name(name: str | None) -> bytes | None:
    """Check the name of the session cookie; None means that no cookie is read.

    Raises:
        ConfigurationError: it is not a cookie name.
    """
    if name is None:
        return None
    if not _is_cookie_name(name):
        raise ConfigurationError(
            "cookie must be None or a cookie's name: 1 to 255 ASCII letters, digits and !#$%&'*+-.^_`|~ "
            "(RFC 6265 section 4.1.1)"
        )
    return name.encode("ascii")


def expired_cookie(name: bytes, *, over_https: bool) -> bytes:
    """The Set-Cookie value that removes the session cookie from the browser.

    A browser removes the cookie of this name, host and path; ours is host-only with `Path=/`. Without `Secure` it
    ignores a header for a name with the `__Host-` or `__Secure-` prefix, so those always get it.
    """
    secure = over_https or name.lower().startswith(_SECURE_PREFIXES)
    return name + b"=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax" + (b"; Secure" if secure else b"")


def _is_cookie_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None
