"""Which responses a cache may keep that serves several people (RFC 9111; RFC 9213 for the headers of CDNs)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def may_be_shared(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a shared cache may keep a response by what the application says of it.

    A response about which nothing is said counts as one that is not kept: the caller says `no-store` then. RFC 9111
    section 7.3: a Set-Cookie field keeps no cache from storing a response, so one person's cookie, or its removal,
    would be served to all. `no-cache` allows storing. A 304 renews the headers of a response that is kept already.
    """
    directives: dict[bytes, set[bytes]] = {}
    for name, value in headers:
        lower = name.lower()
        if _is_about_caching(lower):
            found = directives.setdefault(lower, set())
            found.update(directive.strip().lower() for directive in value.split(b","))
    return status == HTTPStatus.NOT_MODIFIED or not all(map(_keeps_out_shared_caches, directives.values()))


def without_caching(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers without those that let a cache keep the response."""
    return [(name, value) for name, value in headers if not _is_about_caching(name.lower())]


def _is_about_caching(lower: bytes) -> bool:
    """Whether a header is Cache-Control, or one that a CDN obeys in its place, as CDN-Cache-Control."""
    return lower.endswith(b"cache-control") or lower == b"surrogate-control"


def _keeps_out_shared_caches(directives: set[bytes]) -> bool:
    if b"no-store" in directives:
        return True
    # Not `private="set-cookie"`, which allows storing the rest of the response, and which many caches do not know.
    says_public = any(directive == b"public" or directive.startswith(b"s-maxage") for directive in directives)
    return b"private" in directives and not says_public
