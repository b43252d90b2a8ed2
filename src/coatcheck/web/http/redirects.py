"""To the sign-in page and back: only ever to a path of this site (ASVS 3.7.2)."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

from coatcheck.tokens import TokenRefusal

MAX_NEXT_LENGTH = 512

# One slash, then nothing a browser could read as a second: it takes "//host" and "/\host" for another site, and drops
# tabs and line ends before it looks. So only what a path, a query and a fragment consist of (RFC 3986) is let through.
_PCHARS = r"A-Za-z0-9\-._~%!$&'()*+,;=:@/"
_OUR_PATH = re.compile(rf"/(?!/)[{_PCHARS}]*(\?[{_PCHARS}?]*)?(#[{_PCHARS}?]*)?")


# A browser takes "%2e" for a dot, and goes up at each segment of two.
_DOT_SEGMENT = re.compile(r"/(\.|%2e){1,2}(/|$)", re.IGNORECASE)


def safe_next(wanted: str | None, default: str = "/", *, root: str = "") -> str:
    """Where to go after signing in: `wanted` if it is a path of this site, else `default`.

    The path is the browser's to resolve: "/a/..//host" stays on this site, because it begins with a single slash. With
    `root`, the prefix of an application ("/app"), only paths below it are let through, without dot segments.
    """
    if not wanted or len(wanted) > MAX_NEXT_LENGTH or _OUR_PATH.fullmatch(wanted) is None:
        return default
    path = re.split(r"[?#]", wanted, maxsplit=1)[0]
    if root and (inside(root, path) != path or _DOT_SEGMENT.search(path) is not None):
        return default
    return wanted


def inside(root: str, path: str) -> str:
    """A path of the application with its prefix, unless it has it already. A prefix that is no path is left out."""
    if not root or safe_next(root, "") != root or not path.startswith("/"):
        return path
    begins_with_root = path == root or path.startswith((f"{root}/", f"{root}?", f"{root}#"))
    return path if begins_with_root else root + path


def page_of(path: str, query: str) -> str:
    """A page as `safe_next` takes it, from its path (not percent-encoded) and its query (as it was sent)."""
    return quote(path, safe="/~!$&'()*+,;=:@") + (f"?{query}" if query else "")


def sign_in_target(sign_in_path: str, *, back_to: str | None, reason: str | None, home: str = "/") -> str:
    """The sign-in page, told what it needs to know. A `back_to` that is no page of this site is left out."""
    query = {}
    if back_to is not None and safe_next(back_to, "") and back_to != home:
        query["next"] = back_to
    if reason is not None:
        query["reason"] = reason
    return sign_in_path + (f"?{urlencode(query, safe='/')}" if query else "")


def reason_of(refusal: TokenRefusal | None) -> str | None:
    """The word for why a session that was shown is over. Malformed tokens never were one."""
    if refusal is None or refusal is TokenRefusal.NOT_A_TOKEN:
        return None
    return refusal.value if refusal.is_for_the_holder else "revoked"
