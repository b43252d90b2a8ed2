"""Keeps requests to a server on this machine away from proxies: over plain http, a proxy reads the token.

httpx2 takes a proxy from HTTP_PROXY, ALL_PROXY or the system's settings, and makes no exception for this machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2


def without_proxy(origin: httpx2.URL) -> dict[str, None]:
    """The `mounts` of an HTTP client that reaches a server at plain http directly. Proxies for https stay."""
    return {str(origin).removesuffix("/"): None} if origin.scheme == "http" else {}


class LoopbackOnly:
    """Refuses requests that would leave for a proxy, in the moment before they are sent.

    The HTTP client may be the program's own, and nothing else shows which way it sends a request. httpx2 documents the
    extension `trace` for this: httpcore calls it before each step.
    """

    def __init__(self, origin: httpx2.URL) -> None:
        """Guard the requests to `origin`. Over https, a proxy sees a tunnel only, and nothing is guarded."""
        self.is_guarding: bool = origin.scheme == "http"
        self._origin = origin
        host = origin.raw_host
        port = b"" if origin.port is None else b":%d" % origin.port
        # RFC 9112, 3.2.2: a request to a proxy has the whole URL in its first line. httpcore writes no brackets there.
        self._targets = tuple(b"http://" + written + port + b"/" for written in (host, b"[" + host + b"]"))
        self._address = (host.decode(), origin.port or 80)

    def guard(self, request: httpx2.Request) -> None:
        """Guard a request of a blocking HTTP client. One that is for another origin is left alone."""
        if not self.is_guarding:
            return
        others = request.extensions.get("trace")

        def trace(event: str, info: Mapping[str, Any]) -> None:
            self._check(event, info)
            if others is not None:
                others(event, info)

        request.extensions["trace"] = trace

    def guard_async(self, request: httpx2.Request) -> None:
        """Guard a request of an asynchronous HTTP client."""
        if not self.is_guarding:
            return
        others = request.extensions.get("trace")

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            self._check(event, info)
            if others is not None:
                await others(event, info)

        request.extensions["trace"] = trace

    def _check(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(".send_request_headers.started"):
            is_proxied = info["request"].url.target.startswith(self._targets)
        elif event.endswith(".setup_socks5_connection.started"):
            is_proxied = (info["host"], info["port"]) == self._address
        else:
            return
        if is_proxied:
            raise self.refusal()

    def refusal(self) -> ConfigurationError:
        """The error for a request that would go through a proxy."""
        return ConfigurationError(
            f"the HTTP client would send requests for {self._origin} through a proxy, which could read the token; "
            f"set NO_PROXY={self._origin.host}, or use the manager's own client (sessions.http)"
        )
