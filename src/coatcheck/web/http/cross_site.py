"""Which requests come from another origin's page (cross-site request forgery, ASVS 3.5.1-3.5.3).

A browser sends the session cookie along whoever wrote the page. It also says where the page is from: in
Sec-Fetch-Site, which no script can set, else in Origin. Programs send neither and no cookie that somebody else could
make use of.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coatcheck.web.http.request_facts import RequestFacts

_log = logging.getLogger(__name__)
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]{1,200}")
_MOST_HINTS = 10  # anybody can have a browser send one
_hinted: set[str] = set()


def is_forged(facts: RequestFacts, trusted_origins: Iterable[str] = ()) -> bool:
    """Whether another origin's page had a browser send this, to change something or to open a WebSocket.

    Safe methods pass: links lead here from everywhere, and so does the last step of a sign-in with another provider.
    """
    return not facts.changes_nothing and is_cross_site(facts, trusted_origins)


def is_cross_site(facts: RequestFacts, trusted_origins: Iterable[str] = ()) -> bool:
    """Whether another origin's page sent this, so that a cookie it carries says nothing about its sender's will.

    Another host of the same site ("same-site") counts as another: it may be somebody else's.
    """
    origins, sites = facts.values_of(b"origin"), facts.values_of(b"sec-fetch-site")
    if len(origins) > 1 or len(sites) > 1:
        return True
    if origins and origins[0] in trusted_origins:
        return False
    if sites:
        return sites[0] not in {"same-origin", "none"}  # "none": typed in, or from a bookmark
    if not origins:
        return False
    return not _is_origin_of(origins[0], facts)


def hint_at_trusted_origins(facts: RequestFacts) -> None:
    """Say in the log, once for each origin, which setting lets its pages in. They may be the application's own.

    Headers for CORS do not: they say whose scripts may read an answer, and a request that changes something needs no
    reader to do harm.
    """
    origin = facts.only_value_of(b"origin")
    if origin is None or origin in _hinted or len(_hinted) >= _MOST_HINTS or _ORIGIN.fullmatch(origin) is None:
        return
    _hinted.add(origin)
    _log.warning(
        "a request with the session cookie is refused (403 cross_site_request), because a page of %s sent it; if these "
        "pages are yours, name them: SessionCookie(trusted_origins=[%r]); headers for CORS do not allow it",
        origin,
        origin,
    )


def is_form_of(facts: RequestFacts, origins: Iterable[str]) -> bool:
    """Whether a browser opens this by sending a form of a page from one of `origins`: what an identity provider does.

    A script's request is none, and neither is a frame's. "null" among `origins` is for providers whose pages hide their
    origin (Referrer-Policy: no-referrer, or a redirect of the form on its way). Anybody's page can do that too, so only
    a browser that says by Sec-Fetch-* how the form was sent is believed.
    """
    sent = facts.only_value_of(b"origin")
    if facts.method != "POST" or facts.is_websocket or sent is None or sent not in origins:
        return False
    said = {name: facts.values_of(name) for name in (b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")}
    if not any(said.values()):
        return sent != "null"
    return (
        said[b"sec-fetch-site"] in (["cross-site"], ["same-site"])
        and said[b"sec-fetch-mode"] == ["navigate"]
        and said[b"sec-fetch-dest"] == ["document"]
    )


def _is_origin_of(origin: str, facts: RequestFacts) -> bool:
    """Whether `origin` is where a request went.

    Over plain http an https origin is accepted too: TLS may end at a proxy that does not say so. The other way round
    it is another origin, one that somebody on the way may have written.
    """
    origin_scheme, separator, origin_host = origin.partition("://")
    host = facts.host
    if not separator or not host:
        return False  # "null", as of a sandboxed frame, is nobody's
    if facts.is_secure and origin_scheme != "https":
        return False
    default = {"http": ":80", "https": ":443"}.get(origin_scheme, "")
    return origin_host.lower() == host.lower().removesuffix(default)
