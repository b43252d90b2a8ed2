"""ASGI 3 (https://asgi.readthedocs.io/en/latest/specs/): its shapes, and what `web/http` is told of a connection.

The shapes are structurally those of Starlette, so that our middleware fits where theirs does; nothing is imported
from it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from coatcheck.web.http import cross_site, devices
from coatcheck.web.http.request_facts import RequestFacts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address, IPv6Address

AsgiScope: TypeAlias = MutableMapping[str, Any]
"""All that is known of a connection before its first message. Not to be confused with `coatcheck.Scope`."""

AsgiMessage: TypeAlias = MutableMapping[str, Any]
"""One event of a connection, in either direction."""

Receive: TypeAlias = Callable[[], Awaitable[AsgiMessage]]
"""Gives the next event of the client."""

Send: TypeAlias = Callable[[AsgiMessage], Awaitable[None]]
"""Sends an event to the client."""

AsgiApp: TypeAlias = Callable[[AsgiScope, Receive, Send], Awaitable[None]]
"""An application, or a middleware around one."""


def facts_of(connection: Mapping[str, Any]) -> RequestFacts:
    """The facts of an ASGI scope, or of a Starlette `Request` or `WebSocket` around one. They do not refer to it."""
    client = connection.get("client")
    return RequestFacts(
        connection.get("method", "GET"),
        connection.get("scheme", "http"),
        connection["headers"],
        str(client[0]) if client else None,
        connection["type"] == "websocket",
    )


def is_cross_site(connection: Mapping[str, Any], trusted_origins: Iterable[str] = ()) -> bool:
    """Whether another origin's page sent this, so that a cookie it carries says nothing about its sender's will.

    `connection` is an ASGI scope, or a Starlette `Request` or `WebSocket` around one. Another host of the same site
    ("same-site") counts as another: it may be somebody else's.
    """
    return cross_site.is_cross_site(facts_of(connection), trusted_origins)


def client_address(connection: Mapping[str, Any], trusted_proxies: int = 0) -> IPv4Address | IPv6Address | None:
    """The address that the client called from, behind this many proxies; None where that is not known.

    `connection` is an ASGI scope, or a Starlette `Request` or `WebSocket` around one. Of the addresses in
    X-Forwarded-For the last is what the nearest proxy saw, and so on leftwards; what stands before those our own
    proxies added is the client's invention. Where there are fewer than proxies, the request came another way, and
    nothing is known.
    """
    return devices.client_address(facts_of(connection), trusted_proxies)
