"""Requirements in the signatures of FastAPI routes."""

# FastAPI reads these annotations when the routes are defined, so their names are imported for real.

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from coatcheck.errors import AuthenticationRequiredError, ConfigurationError, InvalidArgumentError, StoreUnavailable
from coatcheck.identifiers import UserId
from coatcheck.stores.records import Position
from coatcheck.tokens import AuthenticationInfo, SignInAttempt
from coatcheck.web import SessionMiddleware, authentication_of, sign_in, sign_out
from coatcheck.web.asgi import AsgiApp, AsgiMessage, AsgiScope, Receive, Send
from coatcheck.web.fastapi import (
    BeginsSignIn,
    MaybeSignedIn,
    Requires,
    SignedIn,
    describe_password_flow,
    exception_handlers,
    possible_caller,
    problem_responses,
    required_caller,
    session_router,
)
from tests.web.asgi_calls import Answer, answer_in, bearer, request, scope_of, websocket
from tests.web.fakes import SID, FakeAuth, FakeTokenManager
from tests.web.malformed import MALFORMED_BEARER


def notes(app: FastAPI) -> FastAPI:
    """The routes of a small application."""

    @app.post("/notes")
    async def add(user: Annotated[AuthenticationInfo, Requires("notes:write")]) -> str:
        return user.user_identifier

    @app.get("/both")
    async def both(user: Annotated[AuthenticationInfo, Requires("notes:read", "notes:write")]) -> str:
        return user.user_identifier

    @app.get("/profile")
    async def profile(user: SignedIn) -> str:
        return user.user_identifier

    @app.get("/synchronous")
    def synchronous(user: SignedIn) -> str:
        return user.user_identifier

    @app.get("/front")
    async def front(user: MaybeSignedIn) -> str:
        return user.user_identifier if user else "anonymous"

    @app.get("/public")
    async def public() -> str:
        return "public"

    @app.get("/down")
    async def down() -> str:
        raise StoreUnavailable("down")

    @app.websocket("/live")
    async def live(socket: WebSocket, user: Annotated[AuthenticationInfo, Requires("notes:read")]) -> None:
        await socket.accept()
        await socket.send_text(user.user_identifier)

    @app.websocket("/live/front")
    async def live_front(socket: WebSocket, user: MaybeSignedIn) -> None:
        await socket.accept()
        await socket.send_text(user.user_identifier if user else "anonymous")

    return app


@pytest.fixture
def app(auth: FakeAuth) -> FastAPI:
    app = notes(FastAPI())
    app.add_middleware(SessionMiddleware, auth=auth)
    return app


def problem(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


async def test_a_route_gets_its_caller(app: FastAPI, manager: FakeTokenManager) -> None:
    token = manager.sign_in("ann", {"notes:write", "notes:read"})
    for method, path in [("POST", "/notes"), ("GET", "/both"), ("GET", "/profile"), ("GET", "/synchronous")]:
        answer = await request(app, path, headers=bearer(token), method=method)
        assert (answer.status, answer.json) == (200, "ann")


async def test_one_request_is_one_read(app: FastAPI, manager: FakeTokenManager) -> None:
    await request(app, "/both", headers=bearer(manager.sign_in("ann", {"notes:write", "notes:read"})))
    assert manager.reads == 1


async def test_a_stranger_is_asked_to_sign_in(app: FastAPI, manager: FakeTokenManager) -> None:
    for method, path in [("POST", "/notes"), ("GET", "/both"), ("GET", "/profile"), ("GET", "/synchronous")]:
        assert problem(await request(app, path, method=method)) == (401, "authentication_required")
    assert manager.explained == 0


async def test_a_missing_scope_is_forbidden(app: FastAPI, manager: FakeTokenManager) -> None:
    answer = await request(app, "/both", headers=bearer(manager.sign_in("ann", {"notes:read"})))
    assert problem(answer) == (403, "insufficient_scope")
    assert answer.header("www-authenticate") == (
        'Bearer realm="session", error="insufficient_scope", scope="notes:read notes:write"'
    )


async def test_a_front_page_is_for_everybody(app: FastAPI, manager: FakeTokenManager) -> None:
    assert (await request(app, "/front")).json == "anonymous"
    assert (await request(app, "/front", headers=bearer("nonsense"))).json == "anonymous"
    assert (await request(app, "/front", headers=bearer(manager.sign_in("ann")))).json == "ann"


async def test_a_rescoped_session_sees_it_on_its_next_request(app: FastAPI, manager: FakeTokenManager) -> None:
    token = manager.sign_in("ann", {"notes:write"})
    manager.rescope(token, set())
    assert problem(await request(app, "/notes", headers=bearer(token), method="POST")) == (403, "insufficient_scope")
    manager.rescope(token, {"notes:write"})
    assert (await request(app, "/notes", headers=bearer(token), method="POST")).status == 200


@pytest.mark.parametrize("value", MALFORMED_BEARER.values(), ids=MALFORMED_BEARER)
async def test_a_malformed_token_is_refused_unread(app: FastAPI, manager: FakeTokenManager, value: bytes) -> None:
    answer = await request(app, "/profile", headers=[(b"authorization", value)])
    assert problem(answer) == (401, "invalid_token")
    assert manager.reads == 0


@pytest.mark.parametrize("path", ["/profile", "/front", "/synchronous", "/down"])
async def test_down_is_not_signed_out(app: FastAPI, manager: FakeTokenManager, path: str) -> None:
    token = manager.sign_in()
    manager.is_down = True
    answer = await request(app, path, headers=bearer(token))
    assert problem(answer) == (503, "store_unavailable")
    assert answer.header("retry-after") is not None
    assert (await request(app, "/public", headers=bearer(token))).status == 200


async def test_websocket_routes_get_their_caller(app: FastAPI, manager: FakeTokenManager) -> None:
    call = await websocket(app, "/live", headers=bearer(manager.sign_in("ann", {"notes:read"})))
    assert (call.types, call.sent[1]["text"]) == (["accept", "send"], "ann")
    assert (await websocket(app, "/live/front")).sent[1]["text"] == "anonymous"


async def test_websocket_routes_deny_others(app: FastAPI, manager: FakeTokenManager) -> None:
    token = manager.sign_in()
    assert problem((await websocket(app, "/live")).denial) == (401, "authentication_required")
    assert problem((await websocket(app, "/live", headers=bearer("x"))).denial) == (401, "invalid_token")
    assert problem((await websocket(app, "/live", headers=bearer(token))).denial) == (403, "insufficient_scope")
    assert (await websocket(app, "/live", can_deny=False)).close_code == 4401
    assert (await websocket(app, "/live", headers=bearer(token), can_deny=False)).close_code == 4403
    manager.is_down = True
    for path in ("/live", "/live/front"):
        denial = (await websocket(app, path, headers=bearer(token))).denial
        assert problem(denial) == (503, "store_unavailable")


async def test_a_whole_router_may_have_requirements(auth: FakeAuth, manager: FakeTokenManager) -> None:
    router = APIRouter(dependencies=[Requires("admin")])

    @router.get("/users")
    async def users() -> str:
        return "users"

    app = FastAPI()
    app.add_middleware(SessionMiddleware, auth=auth)
    app.include_router(router)
    assert problem(await request(app, "/users")) == (401, "authentication_required")
    assert (await request(app, "/users", headers=bearer(manager.sign_in("ann", {"admin"})))).status == 200


async def test_requirements_add_up_along_dependencies(auth: FakeAuth, manager: FakeTokenManager) -> None:
    """A dependency that takes the caller is held to the scopes of the route that uses it."""
    app = FastAPI()
    app.add_middleware(SessionMiddleware, auth=auth)

    async def editor(user: Annotated[AuthenticationInfo, Requires("edit")]) -> str:
        return user.user_identifier

    @app.get("/publish")
    async def publish(name: Annotated[str, Security(editor, scopes=["publish"])], _user: SignedIn) -> str:
        return name

    answer = await request(app, "/publish", headers=bearer(manager.sign_in("ann", {"edit"})))
    assert answer.json["missing_scopes"] == ["publish"]
    both = manager.sign_in("ann", {"edit", "publish"})
    assert (await request(app, "/publish", headers=bearer(both))).json == "ann"


@pytest.mark.parametrize("scopes", [("notes write",), ("",), ('a"',), (["a"],), (None,), ("ok", 1)])
def test_a_misspelt_scope_is_refused_where_the_route_is_defined(scopes: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="not a scope"):
        Requires(*scopes)


async def test_without_the_middleware_nobody_gets_in() -> None:
    app = notes(FastAPI())
    for path in ("/profile", "/front"):
        with pytest.raises(ConfigurationError, match="SessionMiddleware did not run"):
            await request(app, path)


def mounted(auth: FakeAuth, inner: FastAPI, outer: FastAPI | None = None) -> FastAPI:
    outer = outer or FastAPI()
    outer.add_middleware(SessionMiddleware, auth=auth)
    outer.mount("/v1", notes(inner))
    return outer


@pytest.mark.parametrize("outer", [{}, {"debug": True}, {"exception_handlers": exception_handlers}])
@pytest.mark.parametrize("inner", [{}, {"debug": True}, {"exception_handlers": exception_handlers}])
async def test_a_mounted_application_answers_as_the_outer_one_would(
    auth: FakeAuth, manager: FakeTokenManager, inner: dict[str, Any], outer: dict[str, Any]
) -> None:
    """It has its own handler for unknown errors, which would make each of these a 500."""
    app = mounted(auth, FastAPI(**inner), FastAPI(**outer))
    token = manager.sign_in("ann")
    assert (await request(app, "/v1/profile", headers=bearer(token))).json == "ann"
    assert problem(await request(app, "/v1/profile")) == (401, "authentication_required")
    assert problem(await request(app, "/v1/both", headers=bearer(token))) == (403, "insufficient_scope")
    assert problem(await request(app, "/v1/down")) == (503, "store_unavailable")
    assert problem((await websocket(app, "/v1/live")).denial) == (401, "authentication_required")
    manager.is_down = True
    assert problem(await request(app, "/v1/front", headers=bearer(token))) == (503, "store_unavailable")
    assert problem((await websocket(app, "/v1/live", headers=bearer(token))).denial) == (503, "store_unavailable")


async def test_a_mounted_application_below_two_kinds_of_middleware_does_so_too(
    auth: FakeAuth, manager: FakeTokenManager
) -> None:
    async def dispatch(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-seen"] = "1"
        return response

    inner = FastAPI()
    inner.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    outer = FastAPI()
    outer.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    outer.add_middleware(SessionMiddleware, auth=auth)
    outer.mount("/v1", notes(inner))
    assert problem(await request(outer, "/v1/profile")) == (401, "authentication_required")
    assert (await request(outer, "/v1/profile", headers=bearer(manager.sign_in("ann")))).json == "ann"


async def test_a_bug_in_a_mounted_application_is_still_a_500(auth: FakeAuth) -> None:
    inner = FastAPI()

    @inner.get("/bug")
    async def bug() -> None:
        raise RuntimeError("bug")

    sent: list[AsgiMessage] = []

    async def remembering(scope: AsgiScope, receive: Receive, _send: Send) -> None:
        async def remember(message: AsgiMessage) -> None:
            sent.append(message)

        await mounted(auth, inner)(scope, receive, remember)

    with pytest.raises(RuntimeError, match="bug"):
        await request(remembering, "/v1/bug")
    assert sent[0]["status"] == 500


async def test_refusals_carry_the_headers_of_inner_middleware_with_the_handlers(auth: FakeAuth) -> None:
    """CORS headers for one, without which a page in a browser cannot read why it was refused."""
    origin = (b"origin", b"https://app.example")
    app = notes(FastAPI(exception_handlers=exception_handlers))
    app.add_middleware(CORSMiddleware, allow_origins=["https://app.example"])
    app.add_middleware(SessionMiddleware, auth=auth)
    for path, expected in [("/profile", (401, "authentication_required")), ("/down", (503, "store_unavailable"))]:
        answer = await request(app, path, headers=[origin])
        assert problem(answer) == expected
        assert answer.header("access-control-allow-origin") == "https://app.example"
    answer = await request(app, "/profile", headers=[origin, *bearer("nonsense")])
    assert problem(answer) == (401, "invalid_token")


async def test_the_handlers_leave_websockets_to_the_middleware(auth: FakeAuth) -> None:
    app = notes(FastAPI(exception_handlers=exception_handlers))
    app.add_middleware(SessionMiddleware, auth=auth)
    assert problem((await websocket(app, "/live")).denial) == (401, "authentication_required")


async def test_the_handlers_answer_for_the_store_without_the_middleware_too() -> None:
    app = notes(FastAPI(exception_handlers=exception_handlers))
    assert problem(await request(app, "/down")) == (503, "store_unavailable")


async def test_an_applications_own_handler_has_the_last_word(auth: FakeAuth) -> None:
    """Pages send people to sign in."""
    app = notes(FastAPI())
    app.add_middleware(SessionMiddleware, auth=auth)

    @app.exception_handler(AuthenticationRequiredError)
    async def to_sign_in(_request: Request, _error: Exception) -> Response:
        return RedirectResponse("/sign-in", status_code=303)

    answer = await request(app, "/profile")
    assert (answer.status, answer.header("location")) == (303, "/sign-in")


async def test_an_error_in_the_middle_of_a_stream_is_raised_again(auth: FakeAuth) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, auth=auth)

    @app.get("/stream")
    async def stream() -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            raise StoreUnavailable("down")

        return StreamingResponse(parts())

    with pytest.raises((StoreUnavailable, ExceptionGroup)):
        await request(app, "/stream")


async def test_a_requirement_can_be_replaced_in_an_applications_own_tests(app: FastAPI) -> None:
    ann = AuthenticationInfo(UserId("ann"), frozenset(), "id")
    app.dependency_overrides = {required_caller: lambda: ann, possible_caller: lambda: ann}
    assert (await request(app, "/profile")).json == "ann"
    assert (await request(app, "/front")).json == "ann"
    app.dependency_overrides.clear()
    assert (await request(app, "/profile")).status == 401


def test_the_openapi_document_names_the_scheme_and_the_scopes(app: FastAPI) -> None:
    document = app.openapi()
    scheme = document["components"]["securitySchemes"]["session"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "opaque")
    paths = document["paths"]
    assert paths["/notes"]["post"]["security"] == [{"session": ["notes:write"]}]
    assert paths["/both"]["get"]["security"] == [{"session": ["notes:read", "notes:write"]}]
    assert paths["/profile"]["get"]["security"] == [{"session": []}]
    assert paths["/front"]["get"]["security"] == [{"session": []}]
    assert "security" not in paths["/public"]["get"]
    assert not any(path["get"].get("parameters") for path in paths.values() if "get" in path)


def test_the_openapi_document_can_name_the_route_that_gives_a_token_for_a_password(app: FastAPI) -> None:
    before = app.openapi()["paths"]["/notes"]["post"]["security"]
    describe_password_flow(app, token_url="/login")
    for _ in range(2):  # made, and kept
        document = app.openapi()
        scheme = document["components"]["securitySchemes"]["session"]
        assert (scheme["type"], scheme["flows"]) == ("oauth2", {"password": {"tokenUrl": "/login", "scopes": {}}})
        assert document["paths"]["/notes"]["post"]["security"] == before

    @app.get("/added-later")
    async def added_later(_user: SignedIn) -> None: ...

    assert "/added-later" in app.openapi()["paths"]
    assert app.openapi()["components"]["securitySchemes"]["session"]["type"] == "oauth2"


def test_an_application_without_such_routes_has_no_scheme_to_describe() -> None:
    app = FastAPI()
    describe_password_flow(app, token_url="/login")
    assert "components" not in app.openapi()


def test_the_openapi_document_can_describe_the_refusals() -> None:
    app = notes(FastAPI(responses=problem_responses()))
    responses = app.openapi()["paths"]["/notes"]["post"]["responses"]
    assert {"200", "401", "403", "503"} <= set(responses)
    schema = responses["401"]["content"]["application/problem+json"]["schema"]
    assert set(schema["required"]) == {"title", "status", "detail", "code"}


def test_the_openapi_document_describes_the_session_routes(auth: FakeAuth) -> None:
    app = FastAPI()
    app.include_router(session_router(auth), prefix="/session")
    document = app.openapi()
    paths = document["paths"]
    assert set(paths) == {
        "/session/status",
        "/session/sign-out",
        "/session/sign-out-all",
        "/session/sessions",
        "/session/sessions/{session_id}",
        "/session/events",
    }
    assert "text/event-stream" in paths["/session/events"]["get"]["responses"]["200"]["content"]
    for path in paths.values():
        for operation in path.values():
            assert operation["security"] == [{"session": []}]
            assert "application/problem+json" in operation["responses"]["503"]["content"]
    summary = document["components"]["schemas"]["SessionSummary"]["properties"]
    about_the_client = {"label", "user_agent", "ip_address"}
    times = {"created_at", "last_used_at", "expires_at"}
    assert set(summary) == {"id", "method", "scopes", "current"} | times | about_the_client
    limit = next(p for p in paths["/session/sessions"]["get"]["parameters"] if p["name"] == "limit")
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"], limit["schema"]["default"]) == (1, 1000, 100)


async def test_other_dependencies_and_plain_responses_are_left_alone(auth: FakeAuth) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, auth=auth)

    @app.get("/plain")
    async def plain(answer: Annotated[int, Depends(lambda: 42)]) -> Response:
        return PlainTextResponse(str(answer), headers={"vary": "Accept"})

    answer = await request(app, "/plain", headers=bearer("nonsense"))
    assert (answer.body, answer.header("vary"), answer.header("cache-control")) == (b"42", "Accept", None)


async def test_a_sign_in_begins_before_the_dependencies_behind_it_read_the_user() -> None:
    order: list[str] = []

    class Begins(FakeTokenManager):
        async def begin_sign_in(self, auth_user_id: str | UUID | None = None, **_: object) -> SignInAttempt:
            assert auth_user_id is None
            order.append("begun")
            return SignInAttempt(None, began_at=Position("here"))

    async def read_user() -> str:
        order.append("read")
        return "ann"

    app = FastAPI()

    @app.post("/sign-in")
    async def sign_in_route(
        attempt: Annotated[SignInAttempt, BeginsSignIn(FakeAuth(Begins()))], user: Annotated[str, Depends(read_user)]
    ) -> tuple[str, str | None]:
        return user, attempt.began_at

    answer = await request(app, "/sign-in", method="POST")
    assert (answer.status, answer.json, order) == (200, ["ann", "here"], ["begun", "read"])


def around(api: FastAPI, auth: FakeAuth) -> AsgiApp:
    return SessionMiddleware(api, auth=auth, cookie=SID)


def built_in(api: FastAPI, auth: FakeAuth) -> AsgiApp:
    """As the reference shows it, in a subclass."""
    build = api.build_middleware_stack
    api.build_middleware_stack = lambda: SessionMiddleware(build(), auth=auth, cookie=SID)  # type: ignore[method-assign]  # an ASGI app
    return api


@pytest.mark.parametrize("place", [around, built_in])
@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("kind", [Exception, 500, ValueError])
class TestWhatAHandlerForAllExceptionsSays:
    """Starlette makes it outside of all middleware that is added to the application, and raises the exception again."""

    def app(
        self,
        place: Callable[[FastAPI, FakeAuth], AsgiApp],
        auth: FakeAuth,
        kind: type[Exception] | int,
        status: int,
    ) -> AsgiApp:
        async def friendly(request: Request, _error: Exception) -> JSONResponse:
            caller = authentication_of(request)
            return JSONResponse({"sorry": caller and caller.user_identifier}, status)

        api = FastAPI(exception_handlers={kind: friendly})

        @api.get("/boom")
        async def boom(_caller: SignedIn) -> None:
            raise ValueError

        @api.post("/out")
        async def out(request: Request) -> None:
            await sign_out(auth, request)
            raise ValueError

        @api.post("/in")
        async def sign_in_route(request: Request) -> None:
            await sign_in(auth, request, auth_user_id="ann", method="email", mode="cookie")
            raise ValueError

        return place(api, auth)

    async def answer(self, app: AsgiApp, path: str, method: str, token: str | None = None) -> Answer:
        headers = [] if token is None else [(b"cookie", b"__Host-sid=" + token.encode())]
        sent: list[AsgiMessage] = []

        async def send(message: AsgiMessage) -> None:
            sent.append(message)

        async def receive() -> AsgiMessage:
            return {"type": "http.request", "body": b"", "more_body": False}

        with suppress(ValueError):
            await app(scope_of("http", path, method=method, headers=headers, scheme="https"), receive, send)
        return answer_in(sent)

    async def test_it_is_private(
        self, auth: FakeAuth, manager: FakeTokenManager, place: Any, kind: Any, status: int
    ) -> None:
        answer = await self.answer(self.app(place, auth, kind, status), "/boom", "GET", manager.sign_in("ann"))
        assert (answer.status, answer.json) == (status, {"sorry": "ann"})
        assert answer.header("cache-control") == "no-store"
        assert answer.header("vary") == "Authorization, Cookie"

    async def test_it_has_the_cookie_of_a_sign_in_and_of_a_sign_out(
        self, auth: FakeAuth, manager: FakeTokenManager, place: Any, kind: Any, status: int
    ) -> None:
        app = self.app(place, auth, kind, status)
        answer = await self.answer(app, "/out", "POST", manager.sign_in("ann"))
        assert (answer.header("set-cookie") or "").startswith("__Host-sid=; Max-Age=0")
        answer = await self.answer(app, "/in", "POST")
        assert (answer.header("set-cookie") or "").startswith("__Host-sid=c2Fz")
        assert answer.header("cache-control") == "no-store"
