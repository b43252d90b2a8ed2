"""Cookie mode: the session cookie as it is configured, and as one request has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from coatcheck.errors import ConfigurationError
from coatcheck.loopback import is_loopback
from coatcheck.web.http.cross_site import hint_at_trusted_origins, is_forged, is_form_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coatcheck.tokens import AuthSuccess
    from coatcheck.web.http.request_facts import RequestFacts

OUTLIVES = timedelta(minutes=10)
"""How long the cookie stays after the session's absolute deadline.

The server can only say that a session has expired to a browser that still shows its cookie. For about so long, too, the
row is there to tell it from one that was revoked: then it is pruned.
"""

ENDING_MAX_AGE = timedelta(days=1)
"""How long a browser keeps the cookie with which it can finish a sign-out."""

MAX_AGE = timedelta(days=400)
"""The longest life browsers give a cookie (RFC 6265bis section 5.5)."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}")  # RFC 6265 section 4.1.1: an HTTP token
_PREFIXES = re.compile(r"__(host|secure|http|host-http)-", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCookie:
    """The cookie that carries the token to browsers: `SessionMiddleware(app, auth=auth, cookie=SessionCookie())`.

    It is called `__Host-` + `name`, and always HttpOnly, Secure, host-only and for the whole site (ASVS 3.3.1-3.3.4):
    no script reads it, and neither another host nor plain http can set or see it. It is never set over plain http.

    `same_site` "Lax" (the default) lets a link from another site arrive signed in, "Strict" does not.

    `name` has to be the application's own where several applications are on one host: browsers keep one cookie of a
    name, for all paths and, without `__Host-`, for all ports, so each sign-in would overwrite the other's cookie.

    `insecure_on_localhost` is for development: on http://localhost, and nowhere else, the cookie is called `name`
    and is not Secure. Leave it off in production: a proxy that says "Host: localhost" would be taken for it.

    `trusted_origins` are other origins whose pages may send unsafe requests with the cookie and sign in, for
    example `["https://app.example.org"]`. The application's own origin is always trusted.

    Raises:
        ConfigurationError: a setting is wrong; the message names it and what is allowed.
    """

    name: str = "coatcheck"  # not "session", which is that of Starlette, Flask and many others on localhost
    """The cookie's name, without the prefix `__Host-`; one for each application on a host."""
    same_site: Literal["Lax", "Strict"] = "Lax"
    """Whether links from other sites arrive signed in ("Lax") or not ("Strict")."""
    insecure_on_localhost: bool = False
    """For development: allow plain http on localhost."""
    trusted_origins: tuple[str, ...] = ()
    """Other origins whose pages may use the cookie: `("https://app.example.org",)`."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or _PREFIXES.match(self.name):
            raise ConfigurationError(
                "SessionCookie name must be 1 to 200 ASCII letters, digits and !#$%&'*+-.^_`|~ (RFC 6265 section "
                "4.1.1), without a prefix such as __Host-, which is added"
            )
        if self.same_site not in {"Lax", "Strict"}:
            raise ConfigurationError('SessionCookie same_site must be "Lax" or "Strict"')
        if not isinstance(self.insecure_on_localhost, bool):
            raise ConfigurationError("SessionCookie insecure_on_localhost must be True or False")
        if isinstance(self.trusted_origins, str):
            raise ConfigurationError(
                'SessionCookie trusted_origins must be a list of origins, not one text: ["https://..."]'
            )
        object.__setattr__(
            self,
            "trusted_origins",
            tuple(origin_of(origin, "SessionCookie trusted_origins") for origin in self.trusted_origins),
        )

    def on(self, facts: RequestFacts) -> RequestCookie:
        """The cookie as this request has it."""
        is_local = self.insecure_on_localhost and not facts.is_secure and _is_loopback_host(facts.host or "")
        name = self.name if is_local else f"__Host-{self.name}"
        return RequestCookie(name.encode("ascii"), self, facts, is_local)


@dataclass(frozen=True, slots=True)
class RequestCookie:
    """The session cookie of one request: its exact name there, and what a response may do with it.

    `is_local` says that the request came over plain http to this very machine, in development.
    """

    name: bytes
    settings: SessionCookie
    facts: RequestFacts
    is_local: bool

    @property
    def is_forged(self) -> bool:
        """Whether another origin's page had the browser send the request, to change something. The log says which."""
        if not is_forged(self.facts, self.settings.trusted_origins):
            return False
        hint_at_trusted_origins(self.facts)
        return True

    def is_form_of(self, origins: Iterable[str]) -> bool:
        """Whether the request is a form that a page of one of these origins sent, as the browser opened it."""
        return is_form_of(self.facts, origins)

    def check_may_be_set(self) -> None:
        """Check that the token would not be there for all to read.

        Raises:
            ConfigurationError: the request came over plain http.
        """
        if not self.facts.is_secure and not self.is_local:
            if self.settings.insecure_on_localhost:
                raise ConfigurationError(
                    f"the session cookie is not set over plain http, but on localhost, and the host of this request is "
                    f"{_shown(self.facts.host)}; use https or http://localhost, in tests "
                    'TestClient(app, base_url="https://testserver"). If TLS ends at a proxy, have the server believe '
                    "its X-Forwarded-Proto (uvicorn: --proxy-headers --forwarded-allow-ips)"
                )
            raise ConfigurationError(
                "the session cookie is not set over plain http. If TLS ends at a proxy, have the server believe its "
                "X-Forwarded-Proto (uvicorn: --proxy-headers --forwarded-allow-ips); for development on "
                "http://localhost use SessionCookie(insecure_on_localhost=True), in tests "
                'TestClient(app, base_url="https://testserver")'
            )

    def carrying(self, success: AuthSuccess, *, now: datetime | None = None) -> bytes:
        """The Set-Cookie value that gives a token to the browser, for a little longer than the token can live.

        Without an absolute deadline the browser forgets it when it is closed.
        """
        lifetime = b""
        if success.token_expires_at is not None:
            left = success.token_expires_at - (now or datetime.now(UTC))
            kept = min(max(left, timedelta(0)) + OUTLIVES, MAX_AGE)
            lifetime = b"; Max-Age=%d" % int(kept.total_seconds())
        return self.name + b"=" + success.token.encode("ascii") + lifetime + self._attributes()

    def expired(self) -> bytes:
        """The Set-Cookie value that removes the cookie from the browser: the same attributes, no life left."""
        return self.name + b"=; Max-Age=0" + self._attributes()

    @property
    def ending_name(self) -> bytes:
        """The name of the cookie with which the browser can finish a sign-out that was not confirmed.

        It is sent everywhere, as every `__Host-` cookie, and read by sign-outs only. A Path would have to be that of
        the route as the browser sees it, which a proxy may have changed, and an application may have several.
        """
        return self.name + b"-ending"

    def carrying_ticket(self, ticket: str) -> bytes:
        """The Set-Cookie value that gives the browser such a ticket."""
        lifetime = b"; Max-Age=%d" % ENDING_MAX_AGE.total_seconds()
        return self.ending_name + b"=" + ticket.encode("ascii") + lifetime + self._attributes("Strict")

    def expired_ticket(self) -> bytes:
        """The Set-Cookie value that takes the ticket from the browser."""
        return self.ending_name + b"=; Max-Age=0" + self._attributes("Strict")

    def _attributes(self, same_site: str | None = None) -> bytes:
        same_site_value = (same_site or self.settings.same_site).encode("ascii")
        return b"; Path=/; HttpOnly; SameSite=" + same_site_value + (b"" if self.is_local else b"; Secure")


def _shown(host: str | None) -> str:
    """A Host header, which the client may have invented."""
    return "not said" if host is None else repr(host if len(host) <= 80 else f"{host[:77]}...")


def _is_loopback_host(host: str) -> bool:
    """Whether a Host header names this machine to itself."""
    return is_loopback(re.sub(r":[0-9]{0,5}$", "", host).lower().removeprefix("[").removesuffix("]"))


def form_origins(origins: Iterable[str]) -> frozenset[str]:
    """`from_origins` of a sign-in, as browsers send them: origins, and "null" where that was asked for.

    Raises:
        ConfigurationError: something else is among them, or they are one text.
    """
    if isinstance(origins, str):
        raise ConfigurationError('from_origins must be a list of origins, not one text: ["https://..."]')
    return frozenset(origin if origin == "null" else origin_of(origin, "from_origins") for origin in origins)


def origin_of(value: str, setting: str) -> str:
    """An origin as browsers send it: scheme, host in lower case, and the port where it is not the scheme's own.

    Raises:
        ConfigurationError: it is none; the message names the setting.
    """
    parts = urlsplit(value) if isinstance(value, str) else urlsplit("")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1 or _more_than_an_origin(value):
        raise ConfigurationError(f'{setting} must be origins like "https://app.example.org"')
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + ("" if port in {None, default} else f":{port}")


def _more_than_an_origin(value: str) -> bool:
    return re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", value) is None
