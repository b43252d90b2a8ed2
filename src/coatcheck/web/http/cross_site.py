"""Which requests come from another origin's page (cross-site request forgery, ASVS 3.5.1-3.5.3).

A browser sends the session cookie along whoever wrote the page. It also says where the page is from: in
Sec-Fetch-Site, which no script can set, else in Origin. Programs send neither and no cookie that somebody else could
make use of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.web.http.headers import only_value_of, values_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 section 9.2.1); TRACE is none of ours."""


def is_forged(connection: Mapping[str, Any], trusted_origins: Iterable[str] = ()) -> bool:
    """Whether another origin's page had a browser send this, to change something or to open a WebSocket.

    Safe methods pass: links lead here from everywhere, and so does the last step of a sign-in with another provider.
    """
    if connection["type"] == "http" and connection["method"] in SAFE_METHODS:
        return False
    return is_cross_site(connection, trusted_origins)


def is_cross_site(connection: Mapping[str, Any], trusted_origins: Iterable[str] = ()) -> bool:
    """Whether another origin's page sent this, so that a cookie it carries says nothing about its sender's will.

    `connection` is an ASGI scope, or a Starlette `Request` or `WebSocket` around one. Another host of the same site
    ("same-site") counts as another: it may be somebody else's.
    """
    origins, sites = values_of(connection, b"origin"), values_of(connection, b"sec-fetch-site")
    if len(origins) > 1 or len(sites) > 1:
        return True
    if origins and origins[0] in trusted_origins:
        return False
    if sites:
        return sites[0] not in {"same-origin", "none"}  # "none": typed in, or from a bookmark
    if not origins:
        return False
    return not _is_origin_of(origins[0], connection.get("scheme", "http"), only_value_of(connection, b"host"))


def _is_origin_of(origin: str, scheme: str, host: str | None) -> bool:
    """Whether `origin` is where a request with this Host header went.

    Over plain http an https origin is accepted too: TLS may end at a proxy that does not say so. The other way round
    it is another origin, one that somebody on the way may have written.
    """
    origin_scheme, separator, origin_host = origin.partition("://")
    if not separator or not host:
        return False  # "null", as of a sandboxed frame, is nobody's
    if scheme in {"https", "wss"} and origin_scheme != "https":
        return False
    default = {"http": ":80", "https": ":443"}.get(origin_scheme, "")
    return origin_host.lower() == host.lower().removesuffix(default)
