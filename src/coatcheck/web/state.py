"""What the middleware found out about a request, and where it is kept: `scope["coatcheck"]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.tokens import AuthenticationInfo, TokenRefusal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SCOPE_KEY = "coatcheck"
"""The key of the ASGI scope under which the middleware leaves a `RequestState`."""


class RequestState:
    """Who is calling, as far as the token says. It never holds the token.

    The answer of a validation is one of: nobody (no token was sent), a refusal, an `AuthenticationInfo`, or "the
    store cannot say". The last is raised when somebody asks, so that what does not depend on the caller keeps
    working while the store is down, and what does is neither refused nor served as to a stranger.
    """

    __slots__ = ("_answer", "_cookie_is_forgotten", "_token_in_cookie", "_was_asked")

    def __init__(
        self,
        answer: AuthenticationInfo | TokenRefusal | StoreUnavailable | None,
        *,
        token_in_cookie: bool = False,
    ) -> None:
        """Keep the `answer` to the token that was sent; None if none was."""
        self._answer = answer
        self._token_in_cookie = token_in_cookie
        self._was_asked = False
        self._cookie_is_forgotten = False

    @property
    def authentication(self) -> AuthenticationInfo | None:
        """Who is calling; None if no valid token was sent.

        Raises:
            StoreUnavailable: a token was sent and the store could not say whether it is valid.
        """
        answer = self._asked()
        return answer if isinstance(answer, AuthenticationInfo) else None

    @property
    def refusal(self) -> TokenRefusal | None:
        """Why the token that was sent does not validate; None if it does, or if none was sent.

        Raises:
            StoreUnavailable: as `authentication`.
        """
        answer = self._asked()
        return answer if isinstance(answer, TokenRefusal) else None

    def forget_cookie(self) -> None:
        """Have the browser forget the session cookie, whatever the response will be, an error included.

        Does nothing where the token did not come in the cookie.
        """
        self._cookie_is_forgotten = self._token_in_cookie

    @property
    def is_authenticated(self) -> bool:
        """Whether a valid token was sent. Does not count as asking, and never raises."""
        return isinstance(self._answer, AuthenticationInfo)

    @property
    def was_asked(self) -> bool:
        """Whether the application looked at who is calling, so that its response may depend on it."""
        return self._was_asked

    @property
    def cookie_is_forgotten(self) -> bool:
        """Whether the response is to remove the session cookie."""
        return self._cookie_is_forgotten

    def __repr__(self) -> str:
        """Show the answer."""
        return f"RequestState({self._answer!r})"

    def _asked(self) -> AuthenticationInfo | TokenRefusal | None:
        self._was_asked = True
        if isinstance(self._answer, StoreUnavailable):
            raise self._answer
        return self._answer


def request_state(connection: Mapping[str, Any]) -> RequestState:
    """The state the middleware left in an ASGI scope, or in a Starlette `Request` or `WebSocket` around one.

    Raises:
        ConfigurationError: there is none, so nobody validated anything: the request must not be let through.
    """
    try:
        state = connection[SCOPE_KEY]
    except KeyError:
        state = None
    if not isinstance(state, RequestState):
        raise ConfigurationError(
            "who is calling is not known, because coatcheck.web.SessionMiddleware did not run for this request; "
            "add it to the application, for example app.add_middleware(SessionMiddleware, auth=auth)"
        )
    return state


def authentication_of(connection: Mapping[str, Any]) -> AuthenticationInfo | None:
    """Who is calling, or None: `authentication_of(scope)`, `authentication_of(request)`.

    Raises:
        StoreUnavailable: a token was sent and the store could not say whether it is valid (HTTP 503).
        ConfigurationError: `SessionMiddleware` did not run for this request.
    """
    return request_state(connection).authentication
