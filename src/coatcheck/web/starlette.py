"""Sessions in Starlette: a decorator for endpoints, the session routes, and handlers for mounted applications.

    site = Starlette(
        routes=[Route("/notes", add_note, methods=["POST"]), Mount("/session", routes=session_routes(auth))],
        lifespan=pod.lifespan,
    )
    app = SessionMiddleware(site, auth=auth)

    @requires("notes:write")
    async def add_note(request: Request) -> Response:
        user = authentication_of(request)

Inside an endpoint `user = require(request, "notes:write")` does both at once.
"""

from __future__ import annotations

import functools
import inspect
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from coatcheck.errors import AuthorizationError, InvalidArgumentError, SignInError, StoreUnavailable
from coatcheck.extras import missing_extra

try:
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.websockets import WebSocket
except ModuleNotFoundError as _missing:
    raise missing_extra(_missing, module=__name__, extra="starlette") from _missing

from coatcheck.pages import DEFAULT_PAGE_SIZE
from coatcheck.web.http.problems import Problem, invalid_request
from coatcheck.web.refusals import answer_to, answerable_in
from coatcheck.web.requirements import require, required_scopes
from coatcheck.web.routes import sessions as routes
from coatcheck.web.routes.browser_client import browser_module
from coatcheck.web.routes.events import EVENTS_PATH, HEARTBEAT_INTERVAL, SessionEvents
from coatcheck.web.sign_out import SignedOut
from coatcheck.web.sign_out import sign_out as sign_out_here
from coatcheck.web.sign_out import sign_out_all as sign_out_all_here
from coatcheck.web.state import SCOPE_KEY, RequestState
from coatcheck.wire import timestamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from datetime import timedelta
    from typing import Any

    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from coatcheck.web.auth_services import HasTokenManager

    ExceptionHandlers = dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]

__all__ = [
    "browser_client_response",
    "exception_handlers",
    "problem_response",
    "requires",
    "session_events_response",
    "session_routes",
]

P = ParamSpec("P")
R = TypeVar("R")


def requires(*scopes: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let only callers with all of `scopes` into an endpoint; without scopes, every signed-in caller.

    For functions and methods that take a `Request` or a `WebSocket`, `async` or not.

    Raises:
        InvalidArgumentError: a scope is misspelt, or what is decorated is not a function. Raised on definition.
    """
    checked = required_scopes(scopes)

    def decorate(endpoint: Callable[P, R]) -> Callable[P, R]:
        if isinstance(endpoint, type) or not callable(endpoint):
            raise InvalidArgumentError("@requires(...) goes on a function or a method, for example on `async def get`")

        @functools.wraps(endpoint)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            require(_connection_among(*args, *kwargs.values()), *checked)
            return endpoint(*args, **kwargs)

        if not _is_async(endpoint):
            return guarded

        @functools.wraps(endpoint)
        async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> object:
            return await cast("Awaitable[object]", guarded(*args, **kwargs))

        return cast("Callable[P, R]", guarded_async)

    return decorate


def session_routes(auth: HasTokenManager, *, heartbeat_interval: timedelta = HEARTBEAT_INTERVAL) -> list[Route]:
    """The routes by which people look after their sessions; put them under a path with `Mount`.

    | | |
    |---|---|
    | `GET /status` | am I signed in? works for everybody |
    | `POST /sign-out` | end the session that is presented; no error if there is none |
    | `POST /sign-out-all` | end all of mine |
    | `GET /sessions?after=&limit=` | my sessions, a page at a time; ids, never tokens |
    | `DELETE /sessions/{session_id}` | end one of mine; 404 for any other |
    | `GET /events` | server-sent events: hear at once when this session ends |
    | `GET /client.js` | the browser client; `browser_client_path()` has the name that browsers may keep |

    `heartbeat_interval` is the time between two signs of life on `/events`, 30 seconds at most.

    Raises:
        ConfigurationError: `heartbeat_interval` is longer, or not above zero.
    """
    streams = SessionEvents(heartbeat_interval)

    async def status(request: Request) -> Response:
        return _json(await routes.status(request))

    async def sign_out(request: Request) -> Response:
        return _json(await sign_out_here(auth, request))

    async def sign_out_all(request: Request) -> Response:
        return _json(await sign_out_all_here(auth, request))

    async def my_sessions(request: Request) -> Response:
        require(request)  # before the parameters: a stranger is told to sign in, whatever else is wrong
        try:
            limit = int(request.query_params.get("limit", DEFAULT_PAGE_SIZE))
        except ValueError:
            return problem_response(invalid_request(InvalidArgumentError("limit must be a whole number")))
        return _json(await routes.my_sessions(auth, request, after=request.query_params.get("after"), limit=limit))

    async def end_session(request: Request) -> Response:
        problem = await routes.end_session(auth, request, request.path_params["session_id"])
        return Response(status_code=204) if problem is None else problem_response(problem)

    async def events(request: Request) -> Response:
        return session_events_response(streams, request)

    async def browser_client(request: Request) -> Response:
        return browser_client_response(request, request.url.path.rpartition("/")[2])

    return [
        Route("/status", status, methods=["GET"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        Route("/sign-out-all", sign_out_all, methods=["POST"]),
        Route("/sessions", my_sessions, methods=["GET"]),
        Route("/sessions/{session_id}", end_session, methods=["DELETE"]),
        Route(EVENTS_PATH, events, methods=["GET"]),
        Route("/client.js", browser_client, methods=["GET"]),
        Route("/client-{tag}.js", browser_client, methods=["GET"]),
    ]


def session_events_response(streams: SessionEvents, request: Request) -> Response:
    """The caller's stream, 404 where nothing would end it, or 406 where no event stream was asked for.

    Raises:
        AuthenticationRequiredError: nobody is signed in.
        StoreUnavailable: the store cannot say who is.
    """
    answer = streams.stream(request)
    if answer is None:
        return Response(status_code=404)
    return problem_response(answer) if isinstance(answer, Problem) else _AsgiResponse(answer)


def browser_client_response(request: Request, name: str) -> Response:
    """The browser client under this name, or 304 where the browser has it, or 404."""
    module = browser_module()
    cache_control = module.cache_control(name)
    if cache_control is None:
        return Response(status_code=404)
    headers = {"ETag": module.etag, "Cache-Control": cache_control, "X-Content-Type-Options": "nosniff"}
    if module.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(module.content, media_type="text/javascript", headers=headers)


def problem_response(problem: Problem) -> Response:
    """A problem as a Starlette response."""
    response = Response(problem.body, status_code=problem.status)
    response.raw_headers = list(problem.headers)
    return response


async def _answer(connection: Request | WebSocket, error: Exception) -> Response:
    answerable = answerable_in(error)
    if answerable is None or isinstance(connection, WebSocket):
        raise error  # SessionMiddleware knows more, and how to end a WebSocket connection
    state = connection.get(SCOPE_KEY)
    return problem_response(answer_to(answerable, state if isinstance(state, RequestState) else None))


exception_handlers: ExceptionHandlers = {AuthorizationError: _answer, SignInError: _answer, StoreUnavailable: _answer}
"""Handlers to give to an application: `Starlette(exception_handlers=exception_handlers)`.

They are not needed for correct answers. With them a refusal is answered inside of the application's own middleware
instead of outside of it, so that what those add (CORS headers, a request id) is on refusals too.
"""


class _AsgiResponse(Response):
    """The answer of an ASGI application, as a response."""

    def __init__(self, app: AsgiApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _connection_among(*arguments: object) -> HTTPConnection:
    for argument in arguments:
        if isinstance(argument, HTTPConnection):
            return argument
    raise InvalidArgumentError("@requires(...) needs an endpoint that takes a Request or a WebSocket")


def _is_async(endpoint: object) -> bool:
    while isinstance(endpoint, functools.partial):
        endpoint = endpoint.func
    return inspect.iscoroutinefunction(endpoint) or inspect.iscoroutinefunction(type(endpoint).__call__)


def _json(answer: routes.Status | SignedOut | routes.SessionPage | Problem) -> Response:
    if isinstance(answer, Problem):
        return problem_response(answer)
    body = json.dumps(asdict(answer), default=timestamp, ensure_ascii=False, separators=(",", ":"))
    return Response(body, media_type="application/json")
