"""`Auth` of httpx2 and httpx with a session: its token goes out with each request, and a refusal ends it here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from coatcheck.client.http_library import loaded, of_kinds
from coatcheck.client.refusal_body import apeek, peek

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Generator
    from typing import Any, TypeAlias

    import httpx
    import httpx2

    from coatcheck.client.flows import Flow, Flows

    Request: TypeAlias = httpx2.Request | httpx.Request
    Response: TypeAlias = httpx2.Response | httpx.Response

    class _Auth(httpx2.Auth, httpx.Auth):
        """Either library takes it."""

        def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
            """Not called, because both flows below are there."""
            ...

        def sync_auth_flow(self, request: Request) -> Generator[Any, Any, None]:
            """See `SessionAuth`."""
            ...

        def async_auth_flow(self, request: Request) -> AsyncGenerator[Any, Any]:
            """See `SessionAuth`."""
            ...
else:  # `for_loaded_libraries` adds the base classes
    _Auth = object

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


class SessionAuth(_Auth):
    """Carries the session of a manager: `httpx2.Client(auth=sessions.auth)`, `httpx2.AsyncClient(auth=sessions.auth)`.

    Clients of httpx take it too. Only requests to the manager's origin carry the session; the library removes it when
    it follows a redirect to another origin. Responses are passed on unchanged, and no request is repeated. A request to
    a server on this machine over plain http is refused with a `ConfigurationError` where the HTTP client would send it
    to a proxy.
    """

    def __init__(self, flows: Flows, *, run: Run | None = None, run_async: RunAsync | None = None) -> None:
        """Made by the managers: each gives its own way to run flows."""
        self._flows = flows
        self._run = run
        self._run_async = run_async

    def for_loaded_libraries(self) -> SessionAuth:
        """This one, as an `Auth` of each library that this process has imported."""
        made = of_kinds(SessionAuth, *(library.Auth for library in loaded()))
        return self if type(self) is made else made(self._flows, run=self._run, run_async=self._run_async)

    def sync_auth_flow(self, request: Request) -> Generator[Any, Response, None]:
        """See `httpx2.Auth`."""
        if self._run is None:
            raise RuntimeError("httpx2.Client takes the auth of a ClientSessionManager, not of an asynchronous one")
        asked = _of_httpx2(request)
        self._flows.loopback.guard(asked)
        sent = None if _is_anonymous(asked) else self._run(self._flows.before(asked))
        response = cast("httpx2.Response", (yield request))
        if sent is not None and self._flows.may_be_the_end(response):
            self._run(self._flows.after(peek(response), sent))

    async def async_auth_flow(self, request: Request) -> AsyncGenerator[Any, Response]:
        """See `httpx2.Auth`."""
        if self._run_async is None:
            raise RuntimeError(
                "httpx2.AsyncClient takes the auth of an AsyncClientSessionManager, not of a blocking one"
            )
        asked = _of_httpx2(request)
        self._flows.loopback.guard_async(asked)
        sent = None if _is_anonymous(asked) else await self._run_async(self._flows.before(asked))
        response = cast("httpx2.Response", (yield request))
        if sent is not None and self._flows.may_be_the_end(response):
            await self._run_async(self._flows.after(await apeek(response), sent))


def _of_httpx2(request: Request) -> httpx2.Request:
    return cast("httpx2.Request", request)  # one of httpx has the same attributes


def _is_anonymous(request: httpx2.Request) -> bool:
    return request.extensions.get("coatcheck") == ANONYMOUS["coatcheck"]
