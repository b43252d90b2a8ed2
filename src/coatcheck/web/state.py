"""The state of a request, which tells the application who is calling: `scope["coatcheck"]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.errors import AuthenticationRequiredError, InsufficientScopeError
from coatcheck.hidden import shown_when_made
from coatcheck.tokens import AuthenticationInfo, TokenRefusal
from coatcheck.web.not_run import middleware_did_not_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from coatcheck.web.exchanges.verdict import Verdict
    from coatcheck.web.http.problems import AnswerableError

SCOPE_KEY = "coatcheck"
"""The key of the ASGI scope under which the middleware leaves a `RequestState`."""


class RequestState:
    """It says who is calling, as far as the token tells. It never shows the token that was sent.

    Where the connection stays open, each look at the session renews what this says, until the session ends: the
    connection ends with it, and the application may still want to know for whom it has to clean up.
    """

    __slots__ = ("_verdict",)

    def __init__(self, verdict: Verdict) -> None:
        """Show this verdict."""
        self._verdict = verdict

    @shown_when_made
    def __repr__(self) -> str:
        """Show the answer."""
        return f"RequestState({self._verdict.answer!r})"

    @property
    def authentication(self) -> AuthenticationInfo | None:
        """The caller; None if no valid token was sent.

        Raises:
            StoreUnavailable: a token was sent and the store could not say whether it is valid.
        """
        answer = self._verdict.ask()
        return answer if isinstance(answer, AuthenticationInfo) else None

    @property
    def refusal(self) -> TokenRefusal | None:
        """The reason why the token that was sent does not validate; None if it does, or if none was sent.

        Raises:
            StoreUnavailable: as `authentication`.
        """
        answer = self._verdict.ask()
        return answer if isinstance(answer, TokenRefusal) else None

    @property
    def was_asked(self) -> bool:
        """Whether the application looked at who is calling, so that its response may depend on it."""
        return self._verdict.was_asked

    @property
    def required_scopes(self) -> frozenset[str]:
        """All scopes that were required of the caller so far."""
        return self._verdict.required_scopes

    def require(self, *scopes: str) -> AuthenticationInfo:
        """The caller, who is signed in and has all of `scopes`. A connection that stays open ends if one is taken away.

        Raises:
            AuthenticationRequiredError: nobody is signed in (HTTP 401).
            InsufficientScopeError: the session lacks a scope (HTTP 403).
            StoreUnavailable: the store could not say (HTTP 503).
        """
        verdict = self._verdict
        if scopes:
            verdict.required_scopes = verdict.required_scopes.union(scopes)
        caller = verdict.ask()
        if not isinstance(caller, AuthenticationInfo):
            verdict.failure = AuthenticationRequiredError()
            raise verdict.failure
        if not caller.scopes.issuperset(scopes):
            missing = [scope for scope in scopes if scope not in caller.scopes]
            verdict.failure = InsufficientScopeError(missing, required=scopes)
            raise verdict.failure
        return caller

    def note_failure(self, error: AnswerableError) -> None:
        """Note that a sign-in or a sign-out of this request has failed with `error`, before it is raised."""
        self._verdict.failure = error


def request_state(connection: Mapping[str, Any]) -> RequestState:
    """The state the middleware left in an ASGI scope, or in a Starlette `Request` or `WebSocket` around one.

    Raises:
        ConfigurationError: there is none, so nobody validated anything: the request must not be let through.
    """
    try:
        state = connection[SCOPE_KEY]  # not `get`, which in a Starlette request is a call more
    except KeyError:
        state = None
    if not isinstance(state, RequestState):
        raise middleware_did_not_run(state)
    return state


def authentication_of(connection: Mapping[str, Any]) -> AuthenticationInfo | None:
    """The caller, or None: `authentication_of(scope)`, `authentication_of(request)`.

    Raises:
        StoreUnavailable: a token was sent and the store could not say whether it is valid (HTTP 503).
        ConfigurationError: `SessionMiddleware` did not run for this request.
    """
    return request_state(connection).authentication
