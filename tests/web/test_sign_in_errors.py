"""A sign-in that is refused has an answer, which tells nobody anything about users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.routing import Route

from coatcheck import SignInSupersededError, UserNotFoundError
from coatcheck.web import SessionMiddleware, sign_in
from coatcheck.web import fastapi as with_fastapi
from coatcheck.web import starlette as with_starlette
from tests.web.asgi_calls import bearer, request
from tests.web.fakes import SID
from tests.web.test_frameworks_that_catch import framework

if TYPE_CHECKING:
    from collections.abc import Callable

    from coatcheck import AuthServices, SignInAttempt
    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from tests.web.asgi_calls import Answer
    from tests.worlds import World

Call = dict[str, Any]


def bare(auth: AuthServices, call: Call) -> AsgiApp:
    async def app(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        await sign_in(auth, scope, method="email", **call)

    return app


def starlette(auth: AuthServices, call: Call) -> AsgiApp:
    async def route(request: Request) -> None:
        await sign_in(auth, request, method="email", **call)

    return Starlette(routes=[Route("/", route, methods=["POST"])])


def starlette_with_handlers(auth: AuthServices, call: Call) -> AsgiApp:
    app = starlette(auth, call)
    assert isinstance(app, Starlette)
    app.exception_handlers.update(with_starlette.exception_handlers)
    return app


def fastapi_with_handlers(auth: AuthServices, call: Call) -> AsgiApp:
    app = FastAPI(exception_handlers=with_fastapi.exception_handlers)

    @app.post("/")
    async def route(request: Request) -> None:
        await sign_in(auth, request, method="email", **call)

    return app


def catching(auth: AuthServices, call: Call) -> AsgiApp:
    """A framework that answers every exception by itself."""

    async def endpoint(scope: AsgiScope) -> bytes:
        await sign_in(auth, scope, method="email", **call)
        return b""

    return framework(endpoint)


@pytest.fixture(params=[bare, starlette, starlette_with_handlers, fastapi_with_handlers, catching])
def make(request: pytest.FixtureRequest) -> Callable[[AuthServices, Call], AsgiApp]:
    made: Callable[[AuthServices, Call], AsgiApp] = request.param
    return made


async def post(app: AsgiApp, world: World, token: str | None = None) -> Answer:
    wrapped = SessionMiddleware(app, auth=world.auth, cookie=SID)
    return await request(wrapped, headers=[] if token is None else bearer(token), method="POST", scheme="https")


async def test_a_caller_who_is_somebody_else_signs_out_first(world: World, make: Any) -> None:
    """Any client can cause this, with a token of its own."""
    ann, bob = await world.user(), await world.user()
    anns = await world.sign_in(ann)
    answer = await post(make(world.auth, {"auth_user_id": bob.id}), world, anns.token)
    assert (answer.status, answer.code) == (409, "sign_in_while_authenticated")
    assert bob.id not in answer.body.decode()
    assert len(await world.tokens.list_tokens(auth_user_id=bob.id)) == 0


async def test_an_overtaken_sign_in_is_to_be_repeated(world: World, make: Any) -> None:
    user = await world.user()
    attempt: SignInAttempt = await world.tokens.begin_sign_in(user.id)
    await world.tokens.revoke_all_tokens(auth_user_id=user.id)
    answer = await post(make(world.auth, {"auth_user_id": user.id, "attempt": attempt}), world)
    assert (answer.status, answer.code) == (409, "sign_in_superseded")


async def test_whether_a_user_is_blocked_or_unknown_is_not_said(world: World, make: Any) -> None:
    blocked = await world.user()
    await world.auth.auth_users.update(blocked.id, blocked=True)
    answers = [await post(make(world.auth, {"auth_user_id": user_id}), world) for user_id in (blocked.id, "nobody")]
    assert answers[0] == answers[1]
    assert (answers[0].status, answers[0].code) == (403, "sign_in_refused")
    assert blocked.id not in answers[0].body.decode()


async def test_an_unknown_user_outside_of_a_sign_in_is_the_applications_affair(world: World) -> None:
    """A page for operators: nothing is refused to the caller."""

    async def app(_scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        await world.auth.auth_users.update("nobody", blocked=True)

    with pytest.raises(UserNotFoundError):
        await post(app, world)


async def test_a_sign_in_in_a_transaction_of_the_applications_is_answered_too(world: World) -> None:
    user = await world.user()

    async def app(_scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        raise SignInSupersededError(user.id)  # as `issue_token` does

    assert (await post(app, world)).code == "sign_in_superseded"
