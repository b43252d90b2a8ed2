"""What keeps other sites out: where a sign-in may lead to, and who may send a form."""

import re
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.requests import HTTPConnection

MAX_NEXT_LENGTH = 512

# One slash, then nothing a browser could read as a second: it takes "//host" and "/\host" for another site, and drops
# tabs and line ends before it looks. So only what a path and a query of ours consist of (RFC 3986) is let through.
_OUR_PATH = re.compile(r"/(?!/)[A-Za-z0-9\-._~/%]*(\?[A-Za-z0-9\-._~/%&=+]*)?")


def safe_next(wanted: str | None, default: str = "/notes") -> str:
    """Where to go after signing in: `wanted` if it is a path of this site, else `default`."""
    if not wanted or len(wanted) > MAX_NEXT_LENGTH or _OUR_PATH.fullmatch(wanted) is None:
        return default
    return wanted


async def refuse_other_sites(request: HTTPConnection) -> None:
    """A dependency of the whole application: what changes something must come from one of its own pages.

    Browsers say where a request comes from, in Sec-Fetch-Site or, where they leave that out (plain HTTP), in Origin.
    Programs send neither, and carry no cookie that another site could make use of.
    """
    if request.scope.get("method") in {"GET", "HEAD", "OPTIONS"}:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_ours = site in {"same-origin", "none"}
    else:
        is_ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_ours:
        raise HTTPException(403, "This request came from another site.")
