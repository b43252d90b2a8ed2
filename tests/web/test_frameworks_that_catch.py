"""Frameworks that answer every exception with a 500 of their own, and do not raise it again: Litestar, Quart, Django.

`test_other_frameworks.py` runs these three; here is what they have in common, and what must not be taken for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from coatcheck.errors import AuthenticationRequiredError, AuthorizationError, InsufficientScopeError, StoreUnavailable
from coatcheck.web import SessionMiddleware, authentication_of, require
from coatcheck.web.http.problems import problem_of
from tests.web.asgi_calls import bearer, request, websocket
from tests.web.fakes import SID

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.middleware.base import RequestResponseEndpoint
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from coatcheck.web.http.problems import AnswerableError
    from tests.web.asgi_calls import Answer
    from tests.web.fakes import FakeAuth, FakeTokenManager

    Endpoint = Callable[[AsgiScope], Coroutine[Any, Any, bytes]]


LITESTAR = "litestar.middleware._internal.exceptions.middleware"
SENDS = """
async def __call__(endpoint, scope, answer):
    try:
        body = await endpoint(scope)
    except Exception:
        await answer()
    else:
        await answer(200, body)
"""


def framework(
    endpoint: Endpoint, *, status: int = 500, size: int = 10, more: bool = False, module: str = LITESTAR
) -> AsgiApp:
    """Sends its 500 while it handles the exception, as Litestar does in this module."""
    namespace: dict[str, Any] = {"__name__": module}
    exec(SENDS, namespace)  # noqa: S102 (a module of this name cannot be imported)

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        async def answer(status: int = status, body: bytes = b"o" * size) -> None:
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/html")]})
            await send({"type": "http.response.body", "body": body, "more_body": more})
            if more:
                await send({"type": "http.response.body", "body": b""})

        await namespace["__call__"](endpoint, scope, answer)

    return app


CATCHES = """
async def {function}(endpoint, scope):
    try:
        return 200, await endpoint(scope)
    except Exception:
        return 500, b"o" * 10
"""


def framework_that_answers_later(endpoint: Endpoint, module: str, function: str) -> AsgiApp:
    """Makes its 500 in this function of this module, and sends it afterwards."""
    namespace: dict[str, Any] = {"__name__": module}
    exec(CATCHES.format(function=function), namespace)  # noqa: S102 (a module of this name cannot be imported)

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        status, body = await namespace[function](endpoint, scope)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


FRAMEWORKS: dict[str, Callable[[Endpoint], AsgiApp]] = {
    "while it handles the error, as Litestar": framework,
    "while it handles the error, as Starlette": partial(framework, module="starlette.middleware.errors"),
    "afterwards, as Quart": lambda endpoint: framework_that_answers_later(endpoint, "quart.app", "handle_request"),
    "afterwards, as Django": lambda endpoint: framework_that_answers_later(
        endpoint, "django.core.handlers.exception", "inner"
    ),
}


async def notes(scope: AsgiScope) -> bytes:
    return require(scope, "notes:read").user_identifier.encode()


async def in_a_thread(scope: AsgiScope) -> bytes:
    return (await asyncio.to_thread(require, scope, "notes:read")).user_identifier.encode()


async def asking_without_requiring(scope: AsgiScope) -> bytes:
    caller = authentication_of(scope)
    return b"" if caller is None else caller.user_identifier.encode()


@pytest.fixture(params=FRAMEWORKS)
def framework_of(request: pytest.FixtureRequest) -> Callable[[Endpoint], AsgiApp]:
    """A framework that sends its 500 at this moment."""
    return FRAMEWORKS[request.param]


@pytest.mark.parametrize("endpoint", [notes, in_a_thread])
async def test_each_failed_requirement_has_its_answer(
    auth: FakeAuth, manager: FakeTokenManager, endpoint: Endpoint, framework_of: Callable[[Endpoint], AsgiApp]
) -> None:
    app = SessionMiddleware(framework_of(endpoint), auth=auth, cookie=SID)
    token = manager.sign_in("ann")
    assert (await request(app)).code == "authentication_required"
    assert (await request(app, headers=bearer("nonsense"))).code == "invalid_token"
    answer = await request(app, headers=bearer(token))
    assert (answer.status, answer.code, answer.json["missing_scopes"]) == (403, "insufficient_scope", ["notes:read"])
    assert answer.header("cache-control") == "no-store"
    manager.rescope(token, ["notes:read"])
    assert (await request(app, headers=bearer(token))).body == b"ann"


async def test_a_500_in_several_parts_has_its_answer_too(auth: FakeAuth) -> None:
    app = SessionMiddleware(framework(notes, more=True), auth=auth)
    assert (await request(app)).code == "authentication_required"


async def asks_again_where_it_fails(scope: AsgiScope) -> bytes:
    """An error hook of the application logs who has failed."""
    try:
        return await notes(scope)
    finally:
        require(scope)
        authentication_of(scope)


async def test_a_question_after_the_refusal_does_not_take_its_answer_away(
    auth: FakeAuth, manager: FakeTokenManager, framework_of: Callable[[Endpoint], AsgiApp]
) -> None:
    app = SessionMiddleware(framework_of(asks_again_where_it_fails), auth=auth)
    assert (await request(app, headers=bearer(manager.sign_in()))).code == "insufficient_scope"


async def test_an_outage_is_a_503(
    auth: FakeAuth, manager: FakeTokenManager, framework_of: Callable[[Endpoint], AsgiApp]
) -> None:
    token = manager.sign_in()
    manager.is_down = True
    for endpoint in (notes, asking_without_requiring):
        answer = await request(SessionMiddleware(framework_of(endpoint), auth=auth), headers=bearer(token))
        assert (answer.status, answer.code) == (503, "store_unavailable")
        assert answer.header("retry-after") is not None


async def test_too_many_cookies_are_a_431(auth: FakeAuth) -> None:
    app = SessionMiddleware(framework(asking_without_requiring), auth=auth, cookie=SID)
    answer = await request(app, headers=[(b"cookie", b"__Host-sid=x; a=" + b"a" * 20_000)])
    assert answer.code == "too_many_cookies"


async def fails(_scope: AsgiScope) -> bytes:
    raise ValueError


async def fails_after_it_was_let_in(scope: AsgiScope) -> bytes:
    require(scope)
    raise ValueError


async def deals_with_it_and_fails(scope: AsgiScope) -> bytes:
    with suppress(AuthorizationError):
        require(scope, "admin")
    raise ValueError


async def asks_for_less_and_fails(scope: AsgiScope) -> bytes:
    try:
        await notes(scope)
    except AuthorizationError:
        require(scope)
    raise ValueError


async def deals_with_a_helpers_refusal_and_fails(scope: AsgiScope) -> bytes:
    with suppress(AuthorizationError):
        await notes(scope)
    raise ValueError


async def deals_with_it_asks_who_it_is_and_fails(scope: AsgiScope) -> bytes:
    with suppress(AuthorizationError):
        await notes(scope)
    assert authentication_of(scope) is not None
    raise ValueError


async def fails_while_it_deals_with_it(scope: AsgiScope) -> bytes:
    try:
        return await notes(scope)
    except AuthorizationError:
        raise ValueError  # noqa: B904 (chained to the refusal)


async def makes_another_error_of_it(scope: AsgiScope) -> bytes:
    try:
        return await notes(scope)
    except AuthorizationError as error:
        raise ValueError from error


async def is_refused_in_a_thread_deals_with_it_and_fails(scope: AsgiScope) -> bytes:
    with suppress(AuthorizationError):
        await in_a_thread(scope)
    raise ValueError


OTHER_CAUSES = [
    fails,
    fails_after_it_was_let_in,
    deals_with_it_and_fails,
    asks_for_less_and_fails,
    deals_with_a_helpers_refusal_and_fails,
    deals_with_it_asks_who_it_is_and_fails,
    fails_while_it_deals_with_it,
    makes_another_error_of_it,
    is_refused_in_a_thread_deals_with_it_and_fails,
]


@pytest.mark.parametrize("endpoint", OTHER_CAUSES)
async def test_any_other_500_stays_one(
    auth: FakeAuth, manager: FakeTokenManager, endpoint: Endpoint, framework_of: Callable[[Endpoint], AsgiApp]
) -> None:
    answer = await request(SessionMiddleware(framework_of(endpoint), auth=auth), headers=bearer(manager.sign_in()))
    assert (answer.status, answer.body) == (500, b"o" * 10)


@pytest.mark.parametrize("endpoint", [notes, *OTHER_CAUSES])
@pytest.mark.parametrize("place", [("blog.app", "handle_request"), ("quart.app", "full_dispatch_request")])
async def test_a_500_whose_cause_is_not_known_stays_one(
    auth: FakeAuth, manager: FakeTokenManager, endpoint: Endpoint, place: tuple[str, str]
) -> None:
    """It is sent after the error was handled, and what has caught the error may have done so for something else."""
    app = SessionMiddleware(framework_that_answers_later(endpoint, *place), auth=auth)
    assert (await request(app, headers=bearer(manager.sign_in()))).status == 500


async def require_here(scope: AsgiScope) -> bytes:
    return require(scope).user_identifier.encode()


async def respond(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 500})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("asked", [notes, in_a_thread, require_here])
class TestA500ThatTheApplicationSendsWhileItDealsWithARefusal:
    """By whichever of its functions the refusal was met."""

    async def test_an_application_may_answer_a_refusal_with_a_500(self, auth: FakeAuth, asked: Endpoint) -> None:
        async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
            try:
                await asked(scope)
            except AuthorizationError:
                await respond(send, b"mine")

        assert (await request(SessionMiddleware(app, auth=auth))).body == b"mine"

    async def test_what_strangers_see_instead_has_a_500_of_its_own(self, auth: FakeAuth, asked: Endpoint) -> None:
        async def for_all(scope: AsgiScope, _receive: Receive, send: Send) -> None:
            with suppress(ValueError):
                await fails(scope)
            await respond(send, b"disk full")

        async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
            try:
                await asked(scope)
            except AuthorizationError:
                await for_all(scope, receive, send)

        assert (await request(SessionMiddleware(app, auth=auth))).body == b"disk full"

    @pytest.mark.parametrize("kind", [Starlette, FastAPI])
    async def test_middleware_that_goes_on_without_a_caller_leaves_the_500s_below_it(
        self, auth: FakeAuth, asked: Endpoint, kind: type[Starlette]
    ) -> None:
        class Asks:
            def __init__(self, app: AsgiApp) -> None:
                self.app = app

            async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
                try:
                    await asked(scope)
                except AuthorizationError:
                    await self.app(scope, receive, send)

        async def broken(_request: Request) -> PlainTextResponse:
            return PlainTextResponse("broken", 500)

        api = kind(routes=[Route("/", broken)], middleware=[Middleware(Asks)])
        assert (await request(SessionMiddleware(api, auth=auth))).body == b"broken"

    async def test_the_500_of_an_error_page_that_fails_stays(self, auth: FakeAuth, asked: Endpoint) -> None:
        async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
            try:
                await asked(scope)
            except AuthorizationError:
                with suppress(ValueError):
                    await fails(scope)
                await respond(send, b"template is broken")

        assert (await request(SessionMiddleware(app, auth=auth))).body == b"template is broken"

    async def test_a_handler_of_starlettes_may_answer_with_a_500(self, auth: FakeAuth, asked: Endpoint) -> None:
        async def endpoint(request: Request) -> PlainTextResponse:
            return PlainTextResponse(await asked(request.scope))

        async def page(_request: Request, _error: Exception) -> PlainTextResponse:
            return PlainTextResponse("mine", 500)

        api = Starlette(routes=[Route("/", endpoint)], exception_handlers={AuthorizationError: page})
        assert (await request(SessionMiddleware(api, auth=auth))).body == b"mine"

    async def test_a_framework_that_is_not_known_keeps_its_500(self, auth: FakeAuth, asked: Endpoint) -> None:
        app = SessionMiddleware(framework(asked, module="blog.app"), auth=auth)
        assert (await request(app)).status == 500


async def test_a_refusal_that_starlette_has_answered_and_the_application_has_dropped_has_its_answer(
    auth: FakeAuth,
) -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await notes(request.scope))

    api = Starlette(routes=[Route("/", endpoint)])

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        with suppress(Exception):
            await api(scope, receive, send)

    assert (await request(SessionMiddleware(app, auth=auth))).code == "authentication_required"


async def answer_and_error(app: AsgiApp, **more: Any) -> tuple[Answer, Exception | None]:
    """What the client is sent, and the error that reaches the server."""
    errors: list[Exception] = []

    async def server(scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 (the server logs it)
            errors.append(error)

    answer = await request(server, **more)
    return answer, errors[0] if errors else None


class TestARefusalAfterA500OfAnotherCause:
    """A background task meets it when the response is complete."""

    @pytest.fixture(params=[AuthenticationRequiredError, InsufficientScopeError, StoreUnavailable])
    def error(self, request: pytest.FixtureRequest) -> AnswerableError:
        made: AnswerableError = request.param(*([] if request.param is AuthenticationRequiredError else ["a"]))
        return made

    async def test_the_500_stays_and_the_server_hears_of_the_error(
        self, auth: FakeAuth, error: AnswerableError
    ) -> None:
        async def app(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
            await respond(send, b"mine")
            raise error

        answer, escaped = await answer_and_error(SessionMiddleware(app, auth=auth))
        assert (answer.status, answer.body, escaped) == (500, b"mine", error)

    @pytest.mark.parametrize("kind", [Starlette, FastAPI])
    @pytest.mark.parametrize("is_mounted", [False, True])
    @pytest.mark.parametrize("layers", [0, 1, 2])
    async def test_it_stays_below_starlette_too(
        self, auth: FakeAuth, error: AnswerableError, kind: type[Starlette], is_mounted: bool, layers: int
    ) -> None:
        async def later() -> None:
            raise error

        async def broken(_request: Request) -> PlainTextResponse:
            return PlainTextResponse("mine", 500, background=BackgroundTask(later))

        app = SessionMiddleware(starlette_of(kind, broken, is_mounted, layers), auth=auth)
        answer, escaped = await answer_and_error(app)
        assert (answer.status, answer.body, escaped) == (500, b"mine", error)

    @pytest.mark.parametrize("is_mounted", [False, True])
    @pytest.mark.parametrize("layers", [0, 1, 2])
    async def test_one_of_which_starlette_makes_the_500_has_its_answer(
        self, auth: FakeAuth, error: AnswerableError, is_mounted: bool, layers: int
    ) -> None:
        async def refused(_request: Request) -> PlainTextResponse:
            raise error

        app = SessionMiddleware(starlette_of(Starlette, refused, is_mounted, layers), auth=auth)
        answer, escaped = await answer_and_error(app)
        assert (answer.status, escaped) == (problem_of(error).status, None)

    async def test_it_stays_where_the_application_was_handling_another_refusal(
        self, auth: FakeAuth, error: Exception
    ) -> None:
        async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
            try:
                await notes(scope)
            except AuthorizationError:
                await respond(send, b"mine")
                raise error from None

        answer, escaped = await answer_and_error(SessionMiddleware(app, auth=auth))
        assert (answer.status, answer.body, escaped) == (500, b"mine", error)


def starlette_of(kind: type[Starlette], endpoint: Callable[[Request], Any], is_mounted: bool, layers: int) -> Starlette:
    """An application with the endpoint, below so many layers of Starlette's middleware."""

    async def dispatch(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    middleware = [Middleware(BaseHTTPMiddleware, dispatch=dispatch)] * layers
    routes: list[BaseRoute] = [Route("/", endpoint)]
    if is_mounted:
        routes = [Mount("/", kind(routes=routes, middleware=middleware))]
    return kind(routes=routes, middleware=middleware)


async def test_an_outage_that_was_answered_with_a_500_and_is_met_again_later_leaves_it(
    auth: FakeAuth, manager: FakeTokenManager
) -> None:
    """The error is the same object each time that the application asks."""

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        try:
            authentication_of(scope)
        except StoreUnavailable:
            await respond(send, b"mine")
        authentication_of(scope)

    token = manager.sign_in()
    manager.is_down = True
    answer, escaped = await answer_and_error(SessionMiddleware(app, auth=auth), headers=bearer(token))
    assert (answer.body, type(escaped)) == (b"mine", StoreUnavailable)


async def test_a_refusal_in_a_task_group_that_is_answered_and_raised_again_has_its_answer(auth: FakeAuth) -> None:
    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        async def asks() -> None:
            try:
                await notes(scope)
            except AuthorizationError:
                await respond(send, b"Internal Server Error")
                raise

        async with asyncio.TaskGroup() as group:
            group.create_task(asks())

    assert (await request(SessionMiddleware(app, auth=auth))).code == "authentication_required"


async def test_an_error_that_is_handled_around_the_middleware_is_not_its_applications(auth: FakeAuth) -> None:
    async def app(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 500})
        await send({"type": "http.response.body", "body": b"mine"})

    async def around(scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            raise_a_refusal()
        except AuthorizationError:
            await SessionMiddleware(app, auth=auth)(scope, receive, send)

    def raise_a_refusal() -> None:
        raise InsufficientScopeError(["a"])

    assert (await request(around)).body == b"mine"


async def in_a_task_group(scope: AsgiScope) -> bytes:
    async with asyncio.TaskGroup() as group:
        for name in ("a", "b"):
            group.create_task(notes_of(scope, name))
    return b""


async def notes_of(scope: AsgiScope, name: str) -> None:
    require(scope, f"notes:{name}")


async def in_nested_task_groups(scope: AsgiScope) -> bytes:
    async with asyncio.TaskGroup() as group:
        group.create_task(in_a_task_group(scope))
        group.create_task(notes_of(scope, "a"))
    return b""


async def in_a_task_group_beside_another_error(scope: AsgiScope) -> bytes:
    async with asyncio.TaskGroup() as group:
        group.create_task(in_a_task_group(scope))
        group.create_task(fails(scope))
    return b""


def lets_escape(endpoint: Endpoint) -> AsgiApp:
    async def app(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        await endpoint(scope)

    return app


@pytest.mark.parametrize("endpoint", [in_a_task_group, in_nested_task_groups])
@pytest.mark.parametrize("kind", [framework, lets_escape])
async def test_several_refusals_in_a_task_group_have_the_answer_of_one(
    auth: FakeAuth, manager: FakeTokenManager, endpoint: Endpoint, kind: Callable[[Endpoint], AsgiApp]
) -> None:
    app, token = SessionMiddleware(kind(endpoint), auth=auth), manager.sign_in()
    assert (await request(app)).code == "authentication_required"
    assert (await request(app, headers=bearer(token))).code == "insufficient_scope"
    manager.is_down = True
    assert (await request(app, headers=bearer(token))).code == "store_unavailable"


async def test_an_outage_among_refusals_is_answered_as_one(auth: FakeAuth, manager: FakeTokenManager) -> None:
    async def endpoint(scope: AsgiScope) -> bytes:
        with suppress(AuthorizationError):
            require(scope, "a")
        raise ExceptionGroup("of two", [InsufficientScopeError(["a"]), StoreUnavailable("down")])

    app = SessionMiddleware(lets_escape(endpoint), auth=auth)
    assert (await request(app, headers=bearer(manager.sign_in()))).code == "store_unavailable"


async def test_refusals_beside_another_error_in_a_task_group_stay_a_500(
    auth: FakeAuth, manager: FakeTokenManager
) -> None:
    token = manager.sign_in()
    app = SessionMiddleware(framework(in_a_task_group_beside_another_error), auth=auth)
    assert (await request(app, headers=bearer(token))).body == b"o" * 10
    with pytest.raises(ExceptionGroup):
        await request(SessionMiddleware(lets_escape(in_a_task_group_beside_another_error), auth=auth))


async def test_an_outage_that_was_dealt_with_stays_so(auth: FakeAuth, manager: FakeTokenManager) -> None:
    """The error is the same object each time that the application asks."""

    async def asks_twice(scope: AsgiScope) -> bytes:
        for _ in range(2):
            with suppress(StoreUnavailable):
                authentication_of(scope)
        raise ValueError

    token = manager.sign_in()
    manager.is_down = True
    assert (await request(SessionMiddleware(framework(asks_twice), auth=auth), headers=bearer(token))).status == 500


@pytest.mark.parametrize("status", [400, 404, 502, 200])
async def test_an_answer_that_is_no_500_is_the_applications(auth: FakeAuth, status: int) -> None:
    """It has a handler of its own for ours."""
    answer = await request(SessionMiddleware(framework(notes, status=status), auth=auth))
    assert (answer.status, answer.body) == (status, b"o" * 10)


async def test_a_500_that_was_sent_already_stays(auth: FakeAuth) -> None:
    """More than the megabyte that is held back."""
    answer = await request(SessionMiddleware(framework(notes, size=2_000_000, more=True), auth=auth))
    assert (answer.status, len(answer.body)) == (500, 2_000_000)


async def test_an_exception_that_escapes_after_all_is_not_masked(auth: FakeAuth) -> None:
    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        await framework(notes)(scope, receive, send)
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        await request(SessionMiddleware(app, auth=auth))


async def test_a_websocket_is_left_as_the_framework_has_it(auth: FakeAuth) -> None:
    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        try:
            await notes(scope)
        except AuthorizationError:
            await send({"type": "websocket.close", "code": 4000})

    assert (await websocket(SessionMiddleware(app, auth=auth))).close_code == 4000
