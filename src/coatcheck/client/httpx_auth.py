"""`httpx.Auth` with a session: the token goes out with each request, and the server's refusal ends the session here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import httpx

from coatcheck.client.refusal_body import apeek, peek

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Generator

    from coatcheck.client.flows import Flow, Flows

T = TypeVar("T")

ANONYMOUS = {"coatcheck": "anonymous"}
"""The `extensions` of a request without a token: `http.get(url, extensions=ANONYMOUS)`, like `auth=None`.

In cookie mode the HTTP client sends its cookie with every request: use another client for an anonymous request.
"""


class Run(Protocol):
    """Runs a flow to its end."""

    def __call__(self, flow: Flow[T], /) -> T:
        """Run it."""
        ...


class RunAsync(Protocol):
    """Runs a flow to its end, asynchronously."""

    def __call__(self, flow: Flow[T], /) -> Awaitable[T]:
        """Run it."""
        ...


class SessionAuth(httpx.Auth):
    """Carries the session of a manager: `httpx.Client(auth=sessions.auth)`, `httpx.AsyncClient(auth=sessions.auth)`.

    Only requests to the manager's origin carry it; httpx removes it when it follows a redirect to another origin.
    Responses are passed on unchanged, and no request is repeated. A request to a server on this machine over plain http
    is refused with a `ConfigurationError` where the HTTP client would send it to a proxy.
    """

    def __init__(self, flows: Flows, *, run: Run | None = None, run_async: RunAsync | None = None) -> None:
        """Made by the managers: each gives its own way to run flows."""
        self._flows = flows
        self._run = run
        self._run_async = run_async

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        if self._run is None:
            raise RuntimeError("httpx.Client takes the auth of a ClientSessionManager, not of an asynchronous one")
        self._flows.loopback.guard(request)
        sent = None if _is_anonymous(request) else self._run(self._flows.before(request))
        response = yield request
        if sent is not None and self._flows.may_be_the_end(response):
            self._run(self._flows.after(peek(response), sent))

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """See `httpx.Auth`."""
        if self._run_async is None:
            raise RuntimeError(
                "httpx.AsyncClient takes the auth of an AsyncClientSessionManager, not of a blocking one"
            )
        self._flows.loopback.guard_async(request)
        sent = None if _is_anonymous(request) else await self._run_async(self._flows.before(request))
        response = yield request
        if sent is not None and self._flows.may_be_the_end(response):
            await self._run_async(self._flows.after(await apeek(response), sent))


def _is_anonymous(request: httpx.Request) -> bool:
    return request.extensions.get("coatcheck") == ANONYMOUS["coatcheck"]
