"""Requirements of a route on its caller: the one check that every framework's module goes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.scope import Scope
from coatcheck.web.state import request_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from coatcheck.tokens import AuthenticationInfo


def required_scopes(scopes: Iterable[str]) -> tuple[Scope, ...]:
    """Check the names of required scopes where a route is defined, and drop duplicates.

    Raises:
        InvalidArgumentError: one of them is not a scope. A route that asks for a misspelt one never opens.
    """
    return tuple(dict.fromkeys(Scope(scope) for scope in scopes))


def require(connection: Mapping[str, Any], *scopes: str) -> AuthenticationInfo:
    """The caller, who is signed in and has all of `scopes`.

        user = require(request, "notes:write")

    `connection` is an ASGI scope, or a Starlette `Request` or `WebSocket`. Without scopes, being signed in is enough.

    Raises:
        AuthenticationRequiredError: nobody is signed in (HTTP 401).
        InsufficientScopeError: the session lacks a scope (HTTP 403).
        StoreUnavailable: the store could not say (HTTP 503).
        ConfigurationError: `SessionMiddleware` did not run for this request.
    """
    return request_state(connection).require(*scopes)
