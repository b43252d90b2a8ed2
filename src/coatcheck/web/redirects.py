"""To the sign-in page and back: only ever to a path of this site (ASVS 3.7.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from coatcheck.tokens import TokenRefusal
from coatcheck.web.http.cross_site import SAFE_METHODS
from coatcheck.web.state import request_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_NEXT_LENGTH = 512

# One slash, then nothing a browser could read as a second: it takes "//host" and "/\host" for another site, and drops
# tabs and line ends before it looks. So only what a path, a query and a fragment consist of (RFC 3986) is let through.
_PCHARS = r"A-Za-z0-9\-._~%!$&'()*+,;=:@/"
_OUR_PATH = re.compile(rf"/(?!/)[{_PCHARS}]*(\?[{_PCHARS}?]*)?(#[{_PCHARS}?]*)?")


def safe_next(wanted: str | None, default: str = "/") -> str:
    """Where to go after signing in: `wanted` if it is a path of this site, else `default`.

    The path is the browser's to resolve: "/a/..//host" stays on this site, because it begins with a single slash.
    """
    if not wanted or len(wanted) > MAX_NEXT_LENGTH or _OUR_PATH.fullmatch(wanted) is None:
        return default
    return wanted


def sign_in_location(request: Mapping[str, Any], sign_in_path: str = "/sign-in", *, back_to: str | None = None) -> str:
    """The sign-in page with where to go back to (`next`) and why the session ended (`reason`), for a redirect.

        return RedirectResponse(sign_in_location(request), 303)

    Back to the page that was asked for; for a form that was sent, to `back_to` if it is given. `reason` is "expired",
    "inactive" or "revoked", and not there for somebody who was not signed in: it is for the page to say in words, and
    proves nothing, since anybody can write such a link.

    Raises:
        StoreUnavailable: the store could not say who is calling.
    """
    query = {}
    if back_to is None and request["method"] in SAFE_METHODS:
        back_to = quote(request["path"], safe="/~!$&'()*+,;=:@") + _query_of(request)
    if back_to is not None and safe_next(back_to, "") and back_to != "/":
        query["next"] = back_to
    reason = reason_of(request_state(request).refusal)
    if reason is not None:
        query["reason"] = reason
    return sign_in_path + (f"?{urlencode(query, safe='/')}" if query else "")


def reason_of(refusal: TokenRefusal | None) -> str | None:
    """The word for why a session that was shown is over. Malformed tokens never were one."""
    if refusal is None or refusal is TokenRefusal.NOT_A_TOKEN:
        return None
    return refusal.value if refusal.is_for_the_holder else "revoked"


def _query_of(request: Mapping[str, Any]) -> str:
    query = request.get("query_string", b"").decode("latin-1")
    return f"?{query}" if query else ""
