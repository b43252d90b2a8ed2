"""The facts of a request that the pure part of the web layer needs, whichever protocol and framework it came by."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 section 9.2.1); TRACE is none of ours."""


class RequestFacts(NamedTuple):
    """One request, as an ASGI scope and a WSGI environ both can say it.

    `headers` are raw bytes with names in lower case, in the order they came. `client` is the address that the server
    was called from, None where it has none (a Unix socket). `method` is GET for a WebSocket.
    """

    method: str
    scheme: str
    headers: Sequence[tuple[bytes, bytes]]
    client: str | None
    is_websocket: bool = False

    @property
    def is_secure(self) -> bool:
        """Whether it came over TLS, as far as the server knows."""
        return self.scheme in {"https", "wss"}

    @property
    def changes_nothing(self) -> bool:
        """Whether its method is safe. A WebSocket is not: what is sent over it may be anything."""
        return self.method in SAFE_METHODS and not self.is_websocket

    @property
    def opens_page(self) -> bool:
        """Whether a browser opens a page with it, as far as it says. A script's request does not."""
        return self.only_value_of(b"sec-fetch-mode") in {None, "navigate"}

    @property
    def host(self) -> str | None:
        """The Host header, which may have a port."""
        return self.only_value_of(b"host")

    def values_of(self, name: bytes) -> list[str]:
        """All values of a header."""
        return [value.decode("latin-1") for found, value in self.headers if found == name]

    def only_value_of(self, name: bytes) -> str | None:
        """The value of a header that may be there once. Sent twice it is none: two readers may each take another."""
        values = self.values_of(name)
        return values[0] if len(values) == 1 else None
