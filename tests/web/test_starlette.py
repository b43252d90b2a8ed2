"""Requirements on Starlette endpoints."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from coatcheck.errors import InvalidArgumentError
from coatcheck.web import SessionMiddleware, authentication_of, require
from coatcheck.web.starlette import exception_handlers, requires
from tests.web.asgi_calls import Answer, bearer, request, websocket

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection, Request
    from starlette.websockets import WebSocket

    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from tests.web.fakes import FakeAuth, FakeTokenManager


def name_of(connection: HTTPConnection) -> str:
    caller = authentication_of(connection)
    assert caller is not None
    return caller.user_identifier


@requires("notes:read")
async def asynchronous(request: Request) -> Response:
    """An endpoint."""
    return PlainTextResponse(name_of(request))


@requires("notes:read")
def synchronous(request: Request) -> Response:
    return PlainTextResponse(name_of(request))


@requires()
async def signed_in(request: Request) -> Response:
    return PlainTextResponse(name_of(request))


async def inside(request: Request) -> Response:
    return PlainTextResponse(require(request, "notes:read").user_identifier)


async def with_more(request: Request, greeting: str) -> Response:
    return PlainTextResponse(f"{greeting} {name_of(request)}")


class Notes(HTTPEndpoint):
    @requires("notes:read")
    async def get(self, request: Request) -> Response:
        return PlainTextResponse(name_of(request))


@requires("notes:read")
async def live(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(name_of(websocket))


class Live(WebSocketEndpoint):
    @requires("notes:read")
    async def on_connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(name_of(websocket))


ROUTES: list[BaseRoute] = [
    Route("/async", asynchronous),
    Route("/sync", synchronous),
    Route("/signed-in", signed_in),
    Route("/inside", inside),
    Route("/partial", requires("notes:read")(functools.partial(with_more, greeting="hello"))),
    Route("/class", Notes),
    WebSocketRoute("/live", live),
    WebSocketRoute("/live/class", Live),
]
GUARDED = ["/async", "/sync", "/inside", "/partial", "/class"]
LIVE = ["/live", "/live/class"]


@pytest.fixture(params=["", "/v1"])
def app(request: pytest.FixtureRequest, auth: FakeAuth) -> AsgiApp:
    """The routes at the top, and in a mounted application."""
    middleware = [Middleware(SessionMiddleware, auth=auth)]
    if not request.param:
        return Starlette(routes=ROUTES, middleware=middleware)
    mounted = Starlette(routes=[Mount("/v1", app=Starlette(routes=ROUTES))], middleware=middleware)

    async def below(scope: AsgiScope, receive: Receive, send: Send) -> None:
        path = "/v1" + scope["path"]
        await mounted({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return below


def problem(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


@pytest.mark.parametrize("path", GUARDED)
async def test_an_endpoint_lets_in_a_caller_with_the_scope(app: AsgiApp, manager: FakeTokenManager, path: str) -> None:
    answer = await request(app, path, headers=bearer(manager.sign_in("ann", {"notes:read"})))
    assert (answer.status, answer.body.split()[-1]) == (200, b"ann")


@pytest.mark.parametrize("path", GUARDED)
async def test_an_endpoint_refuses_others(app: AsgiApp, manager: FakeTokenManager, path: str) -> None:
    token = manager.sign_in("ann", {"notes:write"})
    assert problem(await request(app, path)) == (401, "authentication_required")
    assert problem(await request(app, path, headers=bearer("nonsense"))) == (401, "invalid_token")
    assert problem(await request(app, path, headers=bearer(token))) == (403, "insufficient_scope")
    manager.is_down = True
    assert problem(await request(app, path, headers=bearer(token))) == (503, "store_unavailable")


async def test_an_endpoint_may_ask_only_that_somebody_is_signed_in(app: AsgiApp, manager: FakeTokenManager) -> None:
    assert (await request(app, "/signed-in", headers=bearer(manager.sign_in("ann")))).body == b"ann"
    assert problem(await request(app, "/signed-in")) == (401, "authentication_required")


@pytest.mark.parametrize("path", LIVE)
async def test_a_websocket_endpoint_lets_in_a_caller_with_the_scope(
    app: AsgiApp, manager: FakeTokenManager, path: str
) -> None:
    call = await websocket(app, path, headers=bearer(manager.sign_in("ann", {"notes:read"})))
    assert (call.types[:2], call.sent[1]["text"]) == (["accept", "send"], "ann")


@pytest.mark.parametrize("path", LIVE)
async def test_a_websocket_endpoint_refuses_others(app: AsgiApp, manager: FakeTokenManager, path: str) -> None:
    token = manager.sign_in()
    assert problem((await websocket(app, path)).denial) == (401, "authentication_required")
    assert problem((await websocket(app, path, headers=bearer(token))).denial) == (403, "insufficient_scope")
    assert (await websocket(app, path, can_deny=False)).close_code == 4401
    manager.is_down = True
    assert problem((await websocket(app, path, headers=bearer(token))).denial) == (503, "store_unavailable")


async def test_refusals_pass_through_inner_middleware_with_the_handlers(auth: FakeAuth) -> None:
    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(SessionMiddleware, auth=auth), Middleware(GZipMiddleware, minimum_size=10)],
        exception_handlers=exception_handlers,
    )
    answer = await request(app, "/async", headers=[(b"accept-encoding", b"gzip")])
    assert (answer.status, answer.header("content-encoding")) == (401, "gzip")
    assert answer.header("vary") == "Accept-Encoding, Authorization"


@pytest.mark.parametrize("scopes", [("notes read",), ("",), (asynchronous,)])
def test_a_misspelt_scope_and_a_forgotten_pair_of_brackets_are_refused_on_definition(scopes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="not a scope"):
        requires(*scopes)


def test_a_whole_class_cannot_be_decorated() -> None:
    with pytest.raises(InvalidArgumentError, match="goes on a function or a method"):
        requires("notes:read")(Notes)


async def test_an_endpoint_without_a_request_never_opens() -> None:
    @requires()
    async def endpoint() -> Response:
        return PlainTextResponse("ok")

    with pytest.raises(InvalidArgumentError, match="takes a Request or a WebSocket"):
        await endpoint()


def test_a_decorated_endpoint_keeps_its_name() -> None:
    assert asynchronous.__name__ == "asynchronous"
    assert asynchronous.__doc__ == "An endpoint."
