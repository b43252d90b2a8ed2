"""Callers that are not signed in, for routes of FastAPI that are tested without sessions."""

# Annotations here are read by FastAPI when a route is called, so their names are imported for real.

import json
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

from fastapi import HTTPException
from fastapi.security import SecurityScopes
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection

from coatcheck.errors import AuthenticationRequiredError, InsufficientScopeError
from coatcheck.identifiers import user_id_of
from coatcheck.scope import scope_set
from coatcheck.tokens import AuthenticationInfo
from coatcheck.web.exchanges.verdict import Verdict
from coatcheck.web.fastapi import possible_caller, required_caller
from coatcheck.web.http.problems import problem_of
from coatcheck.web.requirements import require
from coatcheck.web.state import SCOPE_KEY, RequestState


class HasDependencyOverrides(Protocol):
    """A `FastAPI` application."""

    dependency_overrides: dict[Callable[..., Any], Callable[..., Any]]
    """The dependencies that are replaced, each with what replaces it."""


@contextmanager
def acting_as(
    api: HasDependencyOverrides, scopes: AbstractSet[str] | None = frozenset(), *, user_id: str = "somebody"
) -> Iterator[None]:
    """Inside this block every request to the routes of `api` comes from one caller, without a pod, a store or a token.

        with acting_as(api, {"notes:read"}, user_id="ann"):
            assert TestClient(api).get("/notes").status_code == 200
            assert TestClient(api).post("/notes").status_code == 403  # which requires notes:write

    `Requires`, `SignedIn` and `MaybeSignedIn` see this caller, and scopes are checked as ever. `dependency_overrides`
    are as before when the block ends.

    Args:
        api: the FastAPI application, inside of `SessionMiddleware` or without it.
        scopes: those of the caller; None: nobody is signed in.
        user_id: the id of the caller.

    Raises:
        InvalidArgumentError: a scope or the id is not allowed.
    """
    caller = (
        None if scopes is None else AuthenticationInfo(user_id_of(user_id), scope_set(scopes), "a session of a test")
    )

    async def fake_required_caller(connection: HTTPConnection, scopes: SecurityScopes) -> AuthenticationInfo:
        is_behind_middleware = SCOPE_KEY in connection.scope
        connection.scope[SCOPE_KEY] = RequestState(Verdict(caller))
        try:
            return require(connection, *scopes.scopes)
        except (AuthenticationRequiredError, InsufficientScopeError) as error:
            if is_behind_middleware:  # which answers it
                raise
            _answer(connection, error)

    async def fake_possible_caller(connection: HTTPConnection) -> AuthenticationInfo | None:
        connection.scope[SCOPE_KEY] = RequestState(Verdict(caller))
        return caller

    before = dict(api.dependency_overrides)
    api.dependency_overrides |= {required_caller: fake_required_caller, possible_caller: fake_possible_caller}
    try:
        yield
    finally:
        api.dependency_overrides.clear()
        api.dependency_overrides.update(before)


def _answer(connection: HTTPConnection, error: AuthenticationRequiredError | InsufficientScopeError) -> NoReturn:
    """The refusal, where no middleware of ours would answer the error."""
    problem = problem_of(error)
    if connection.scope["type"] == "websocket":
        raise WebSocketException(problem.close_code, problem.code) from error
    headers = {name.decode("ascii"): value.decode("ascii") for name, value in problem.headers}
    challenge = {name: value for name, value in headers.items() if name == "www-authenticate"}
    raise HTTPException(problem.status, json.loads(problem.body), challenge) from error
