"""Devices of a test: clients with headers and cookies of their own, whichever library they come from."""

from __future__ import annotations

import urllib.request
from email.message import Message
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from coatcheck.web.http.request_facts import RequestFacts

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from http.cookiejar import CookieJar

    from coatcheck.tokens import AuthSuccess
    from coatcheck.web.exchanges.reply import Mode
    from coatcheck.web.http.cookie import RequestCookie, SessionCookie


class Cookies(Protocol):
    """The cookies of an httpx or httpx2 client."""

    @property
    def jar(self) -> CookieJar:
        """Where they are kept."""
        ...


class Device(Protocol):
    """A client of httpx or httpx2, or Starlette's `TestClient`, with headers and cookies of its own."""

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Those that it sends with each request."""
        ...

    @property
    def cookies(self) -> Cookies:
        """Those that it was given."""
        ...


def give_token(client: Device, success: AuthSuccess, *, mode: Mode, cookie: SessionCookie | None, origin: str) -> None:
    """Have the client send this token from now on, in its cookie or in its header, and no earlier one.

    Raises:
        ConfigurationError: the cookie is not set over plain http.
    """
    client.headers.pop("Authorization", None)
    if cookie is not None:
        _set_cookie(client, cookie_at(origin, cookie), success if mode == "cookie" else None, origin)
    if mode == "header":
        client.headers["Authorization"] = f"Bearer {success.token}"


def cookie_at(origin: str, cookie: SessionCookie) -> RequestCookie:
    """The cookie as a request to `origin` has it."""
    parts = urlsplit(origin)
    return cookie.on(RequestFacts("GET", parts.scheme, [(b"host", parts.netloc.encode("ascii"))], None))


def _set_cookie(client: Device, cookie: RequestCookie, success: AuthSuccess | None, origin: str) -> None:
    """Set it as the application would, whose later answers then replace or remove it. `success` None: remove it."""
    if success is not None:
        cookie.check_may_be_set()
    answer = Message()
    answer["Set-Cookie"] = (cookie.expired() if success is None else cookie.carrying(success)).decode("ascii")
    client.cookies.jar.extract_cookies(_answer_with(answer), urllib.request.Request(origin))  # noqa: S310 (it is not sent)


class _Answer:
    """All that a cookie jar looks at."""

    def __init__(self, headers: Message) -> None:
        self._headers = headers

    def info(self) -> Message:
        return self._headers


def _answer_with(headers: Message) -> Any:  # noqa: ANN401 (typeshed asks for a whole http.client.HTTPResponse)
    return _Answer(headers)
