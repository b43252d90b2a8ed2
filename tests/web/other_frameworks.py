"""A program that asks applications of Litestar, Quart and Django, below our middleware, and prints what they answer.

It takes a folder for its stores. `test_other_frameworks.py` runs it, in an environment that has these frameworks:
`requirements/frameworks.txt`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import django
import httpx2
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path
from litestar import Litestar, Request, get, post
from litestar.middleware import DefineMiddleware
from quart import Quart
from quart import request as quart_request

from coatcheck import AuthorizationError, Pod, ServerSideSessionsConfig, StoreUnavailable
from coatcheck.web import SessionMiddleware, authentication_of, require, sign_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coatcheck import AuthServices
    from coatcheck.web.asgi import AsgiApp

PEPPER = "a pepper of thirty-two bytes ok!"


def read_notes(scope: Mapping[str, Any]) -> dict[str, str]:
    """What the routes `/notes` do."""
    return {"of": require(scope, "notes:read").user_identifier}


def fail(scope: Mapping[str, Any]) -> dict[str, str]:
    """What the routes `/broken` do."""
    require(scope)
    raise ValueError


def deal_with_it_and_fail(scope: Mapping[str, Any]) -> dict[str, str]:
    """What the routes `/dealt-with` do."""
    with suppress(AuthorizationError):
        read_notes(scope)
    authentication_of(scope)
    raise ValueError


async def ask_in_tasks(scope: Mapping[str, Any]) -> dict[str, str]:
    """What the routes `/several` do."""

    async def ask() -> None:
        read_notes(scope)

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(ask())
    return {}


def litestar_routes(auth: AuthServices) -> list[Any]:
    @get("/notes", sync_to_thread=True)
    def notes(request: Request[Any, Any, Any]) -> dict[str, str]:
        return read_notes(request.scope)

    @get("/broken")
    async def broken(request: Request[Any, Any, Any]) -> dict[str, str]:
        return fail(request.scope)

    @get("/dealt-with", sync_to_thread=True)
    def dealt_with(request: Request[Any, Any, Any]) -> dict[str, str]:
        return deal_with_it_and_fail(request.scope)

    @get("/several")
    async def several(request: Request[Any, Any, Any]) -> dict[str, str]:
        return await ask_in_tasks(request.scope)

    @post("/sign-in")
    async def sign_in_route(request: Request[Any, Any, Any]) -> None:
        await sign_in(auth, request.scope, auth_user_id="nobody", method="email")

    return [notes, broken, dealt_with, several, sign_in_route]


def with_litestar(auth: AuthServices) -> AsgiApp:
    return SessionMiddleware(Litestar(litestar_routes(auth)), auth=auth)


def inside_of_litestar(auth: AuthServices) -> AsgiApp:
    app: AsgiApp = Litestar(litestar_routes(auth), middleware=[DefineMiddleware(SessionMiddleware, auth=auth)])
    return app


def with_quart(auth: AuthServices) -> AsgiApp:
    app = Quart("notes")

    @app.get("/notes")
    async def notes() -> dict[str, str]:
        return read_notes(quart_request.scope)

    @app.get("/broken")
    async def broken() -> dict[str, str]:
        return fail(quart_request.scope)

    @app.get("/dealt-with")
    async def dealt_with() -> dict[str, str]:
        return deal_with_it_and_fail(quart_request.scope)

    @app.get("/several")
    async def several() -> dict[str, str]:
        return await ask_in_tasks(quart_request.scope)

    @app.post("/sign-in")
    async def sign_in_route() -> str:
        await sign_in(auth, quart_request.scope, auth_user_id="nobody", method="email")
        return ""

    return SessionMiddleware(app, auth=auth)


def with_django(auth: AuthServices) -> AsgiApp:
    def notes(request: Any) -> HttpResponse:  # Django runs it in a thread
        return JsonResponse(read_notes(request.scope))

    async def broken(request: Any) -> HttpResponse:
        return JsonResponse(fail(request.scope))

    def dealt_with(request: Any) -> HttpResponse:
        return JsonResponse(deal_with_it_and_fail(request.scope))

    async def several(request: Any) -> HttpResponse:
        return JsonResponse(await ask_in_tasks(request.scope))

    async def sign_in_route(request: Any) -> HttpResponse:
        await sign_in(auth, request.scope, auth_user_id="nobody", method="email")
        return HttpResponse()

    sys.modules[__name__].urlpatterns = [  # type: ignore[attr-defined]  # where Django looks
        path("notes", notes),
        path("broken", broken),
        path("dealt-with", dealt_with),
        path("several", several),
        path("sign-in", sign_in_route),
    ]
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    django.setup()
    return SessionMiddleware(get_asgi_application(), auth=auth)


async def answers_of(make: Callable[[AuthServices], AsgiApp]) -> dict[str, str]:
    pod = Pod(f"sqlite:///{sys.argv[1]}/{make.__name__}.db", environ={})
    auth = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )
    async with pod:
        reader, other = [await auth.auth_users.create(scopes=scopes) for scopes in ({"notes:read"}, set[str]())]
        tokens = [
            await auth.token_manager.create_token(auth_user_id=user.id, method="email") for user in (reader, other)
        ]
        allowed, refused = [{"Authorization": f"Bearer {success.token}"} for success in tokens]
        transport = httpx2.ASGITransport(make(auth), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://notes.example") as http:
            found = {
                "allowed": await http.get("/notes", headers=allowed),
                "no token": await http.get("/notes"),
                "bad token": await http.get("/notes", headers={"Authorization": "Bearer abc"}),
                "no scope": await http.get("/notes", headers=refused),
                "its own error": await http.get("/broken", headers=allowed),
                "a refusal that was dealt with": await http.get("/dealt-with", headers=refused),
                "two refusals at once": await http.get("/several", headers=refused),
                "refused sign-in": await http.post("/sign-in"),
            }

            async def down(*_: object) -> None:
                raise StoreUnavailable("down")

            pod.store.read_session = down  # type: ignore[assignment, method-assign]  # a store that fails
            found["outage"] = await http.get("/notes", headers=allowed)
    return {name: _in_short(answer) for name, answer in found.items()}


def _in_short(answer: httpx2.Response) -> str:
    is_ours = answer.headers.get("content-type") == "application/problem+json"
    return f"{answer.status_code} {answer.json()['code'] if is_ours else '-'}"


async def main() -> None:
    logging.disable(logging.CRITICAL)  # each of them logs the exceptions that it answers
    frameworks = [with_litestar, inside_of_litestar, with_quart, with_django]
    print(json.dumps({make.__name__: await answers_of(make) for make in frameworks}))  # noqa: T201 (its output)


if __name__ == "__main__":
    asyncio.run(main())
