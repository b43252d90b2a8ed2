"""What the middleware found out about a request, and where it is kept: `scope["coatcheck"]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from coatcheck.errors import ConfigurationError, CrossSiteRequestError, StoreUnavailable
from coatcheck.tokens import AuthenticationInfo, TokenRefusal
from coatcheck.web.http.cross_site import is_forged
from coatcheck.web.http.devices import ClientCapture
from coatcheck.web.http.headers import only_value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from coatcheck.client_info import ClientInfo
    from coatcheck.tokens import AuthSuccess
    from coatcheck.web.http.cookie import RequestCookie
    from coatcheck.web.live.connection import LiveConnection

SCOPE_KEY = "coatcheck"
"""The key of the ASGI scope under which the middleware leaves a `RequestState`."""

MODE_HEADER = b"coatcheck-mode"
"""The header by which a client asks for its token in a cookie: `Coatcheck-Mode: cookie`."""

Mode: TypeAlias = Literal["header", "cookie"]
"""How a client carries its token."""


class RequestState:
    """Who is calling, as far as the token says. It never shows the token that was sent.

    The answer of a validation is one of: nobody (no token was sent), a refusal, an `AuthenticationInfo`, or "the
    store cannot say". The last is raised when somebody asks, so that what does not depend on the caller keeps
    working while the store is down, and what does is neither refused nor served as to a stranger.
    """

    __slots__ = (
        "_answer",
        "_clients",
        "_connection",
        "_cookie",
        "_cookie_is_forgotten",
        "_hands_out_token",
        "_new_cookie",
        "_required_scopes",
        "_token_in_cookie",
        "_was_asked",
        "ends_in_us",
        "live",
        "traffic_is_use",
        "when_live",
        "when_used",
    )

    def __init__(
        self,
        connection: Mapping[str, Any],
        answer: AuthenticationInfo | TokenRefusal | StoreUnavailable | None,
        *,
        token_in_cookie: bool = False,
        cookie: RequestCookie | None = None,
        clients: ClientCapture | None = None,
    ) -> None:
        """Keep the `answer` to the token that was sent with `connection`; None if none was.

        `cookie` is the session cookie as this connection has it, None where no cookie is used.
        """
        # A copy, because the state is put into the scope: one that held the scope would be a cycle, and each request
        # with all it refers to would stay until the garbage collector comes, and stops the process for it.
        self._connection = {**connection}
        self._answer = answer
        self._token_in_cookie = token_in_cookie
        self._cookie = cookie
        self._clients = clients
        self._was_asked = False
        self._required_scopes: frozenset[str] = frozenset()
        self.live: LiveConnection | None = None
        self.traffic_is_use = False
        # What the exchange calls when something was sent and more may follow.
        self.when_live: Callable[[], object] | None = None
        # Where validating has not counted as a use of the session: what counts it, and the time until a deadline.
        self.when_used: Callable[[], object] | None = None
        self.ends_in_us: int | None = None
        self._hands_out_token = False
        self._cookie_is_forgotten = False
        self._new_cookie: bytes | None = None

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

    def renew(self, answer: AuthenticationInfo) -> None:
        """Whatever the application asks from now on is judged by this: the connection is open, and was looked at again.

        There is no such word of the end of a session: the connection ends with it, and the application may still want
        to know for whom it has to clean up.
        """
        self._answer = answer

    @property
    def client(self) -> ClientInfo:
        """What is to be kept of the client that sent this request, should it sign in."""
        return (self._clients or ClientCapture()).of(self._connection)

    def mode(self, wanted: Mode | None = None) -> Mode:
        """How this client is to get a token: as `wanted`, else in a cookie where it asks for one and there is one.

        Raises:
            ConfigurationError: a cookie is `wanted`, and the middleware was given none.
        """
        if wanted is None:
            asks_for_cookie = only_value_of(self._connection, MODE_HEADER) == "cookie"
            return "cookie" if asks_for_cookie and self._cookie is not None else "header"
        if wanted == "cookie" and self._cookie is None:
            raise ConfigurationError('mode "cookie" needs SessionMiddleware(..., cookie=SessionCookie())')
        return wanted

    def check_may_get(self, mode: Mode) -> None:
        """Check that a token may be handed out in this way, before one is made.

        Raises:
            CrossSiteRequestError: another site's page would sign this browser in (login CSRF).
            ConfigurationError: the cookie cannot be set over this connection.
        """
        if mode == "cookie" and self._cookie is not None:
            if is_forged(self._connection, self._cookie.settings.trusted_origins):
                raise CrossSiteRequestError
            self._cookie.check_may_be_set()

    def hand_out(self, success: AuthSuccess, mode: Mode) -> None:
        """Have the response carry the token in the cookie, or at least be kept out of caches.

        Raises:
            CrossSiteRequestError, ConfigurationError: as `check_may_get`.
        """
        self.check_may_get(mode)
        self._hands_out_token = True
        if mode == "cookie" and self._cookie is not None:
            self._new_cookie = self._cookie.carrying(success)

    def forget_cookie(self) -> None:
        """Have the browser forget the session cookie, whatever the response will be, an error included.

        Does nothing where the token did not come in the cookie.
        """
        self._cookie_is_forgotten = self._token_in_cookie

    @property
    def is_private(self) -> bool:
        """Whether the response is for one caller only. Does not count as asking, and never raises."""
        return isinstance(self._answer, AuthenticationInfo) or self._hands_out_token or self.cookie_header is not None

    @property
    def was_asked(self) -> bool:
        """Whether the application looked at who is calling, so that its response may depend on it."""
        return self._was_asked

    @property
    def required_scopes(self) -> frozenset[str]:
        """All scopes that were required of the caller so far."""
        return self._required_scopes

    def note_required(self, scopes: Collection[str]) -> None:
        """Keep in mind what a connection that stays open needs to stay so."""
        if scopes:
            self._required_scopes |= frozenset(scopes)

    @property
    def cookie_header(self) -> bytes | None:
        """The Set-Cookie value for the response, None if the cookie stays as it is."""
        if self._new_cookie is not None or self._cookie is None:
            return self._new_cookie
        return self._cookie.expired() if self._cookie_is_forgotten or self._shows_dead_cookie() else None

    @property
    def uses_cookie(self) -> bool:
        """Whether the caller may be known from a cookie."""
        return self._cookie is not None

    @property
    def ends_with_session(self) -> bool:
        """Whether what is opened now will be ended with the caller's session."""
        return self.when_live is not None

    def is_no_use(self) -> None:
        """This request says nothing about whether the person is still there."""
        self.when_used = None

    def count_use(self) -> None:
        """By now the route would have said so if the request were no use of the session."""
        use, self.when_used = self.when_used, None
        if use is not None:
            use()

    def finish(self) -> None:
        """Nothing is open any more: what the application does from now on, a background task, is its own affair."""
        self.count_use()
        self.when_live = None  # it refers to this state: a cycle would wait for the garbage collector
        if self.live is not None:
            self.live.finish()

    def __repr__(self) -> str:
        """Show the answer."""
        return f"RequestState({self._answer!r})"

    def _shows_dead_cookie(self) -> bool:
        """Whether a browser has come with the cookie of a session that is over, to be rid of it.

        Only where it opens a page. A script's request may still be on its way with the old cookie while a sign-in in
        another tab brings the new one, and would take that one away: browsers know no "delete if it is this one".
        """
        if not self._token_in_cookie or not isinstance(self._answer, TokenRefusal):
            return False
        return only_value_of(self._connection, b"sec-fetch-mode") in {None, "navigate"}

    def _asked(self) -> AuthenticationInfo | TokenRefusal | None:
        if not self._was_asked:
            self._was_asked = True
            if self.live is not None:
                self.live.note_asked()
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
