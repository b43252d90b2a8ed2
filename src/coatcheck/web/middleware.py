"""The ASGI middleware: who is calling, for every request, in any framework.

    app = SessionMiddleware(app, auth=auth)                       # any ASGI application
    app.add_middleware(SessionMiddleware, auth=auth)              # FastAPI, Starlette

It leaves a `RequestState` in the ASGI scope; `authentication_of(scope)` and `require(scope, "notes:write")` read it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from coatcheck.errors import AuthenticationRequiredError, ConfigurationError, CrossSiteRequestError, StoreUnavailable
from coatcheck.events import EventBus
from coatcheck.tokens import AuthenticationInfo, TokenRefusal
from coatcheck.web.exchanges import exchange_of
from coatcheck.web.http.cookie import SessionCookie
from coatcheck.web.http.credentials import presented_credential
from coatcheck.web.http.cross_site import is_forged
from coatcheck.web.http.devices import ClientCapture
from coatcheck.web.http.problems import ANSWERABLE_ERRORS, jittered_retry_after_s, problem_of
from coatcheck.web.live.connection import LiveConnection, holding_back
from coatcheck.web.live.connections import LiveConnections
from coatcheck.web.state import SCOPE_KEY, RequestState

if TYPE_CHECKING:
    from typing import TypeAlias

    from coatcheck.tokens import TokenManager
    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from coatcheck.web.exchanges import Exchange
    from coatcheck.web.http.credentials import Credential
    from coatcheck.web.http.problems import AnswerableError, Problem
    from coatcheck.web.live.connections import HasTokenManagerAndEvents

    Answer: TypeAlias = AuthenticationInfo | TokenRefusal | StoreUnavailable

EVENTS_PATH = "/events"
"""How the path of the events route ends, wherever the session routes are."""

_COUNTED_WITHIN_SECONDS = 1.0
"""As late as a use is written down in any case, as long as its session does not run out before."""

_HANDLED_TOO_LATE = "Caught handled exception, but response already started."  # the text in Starlette 1.x


class HasTokenManager(Protocol):
    """What the web layer needs of `AuthServices`."""

    @property
    def token_manager(self) -> TokenManager:
        """Validates, lists and revokes tokens."""
        ...


class SessionMiddleware:
    """Validates the token of every HTTP and WebSocket request, and answers for the errors that come of it.

    - Without a token, or with something that cannot be one, the store is not read.
    - `AuthenticationRequiredError`, `InsufficientScopeError` and `StoreUnavailable` may escape the application: they
      become 401, 403 and 503 problems (see `challenges.py`), or the matching end of a WebSocket connection.
    - With `cookie`, the token may come in the session cookie too. An unsafe request or a WebSocket that another
      origin's page opened with that cookie is refused (403 `cross_site_request`) before the application sees it.
    - Responses to signed-in callers get `Cache-Control: no-store` unless the application set its own Cache-Control.

    Put it inside of whatever must see its answers too, CORS headers for example: with Starlette and FastAPI, add it
    before `CORSMiddleware`.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        auth: HasTokenManager,
        cookie: SessionCookie | None = None,
        clients: ClientCapture | None = None,
        live: LiveConnections | None = None,
    ) -> None:
        """Wrap `app`. `auth` is what `pod.initialize_auth_services(...)` returned.

        `cookie` switches cookie mode on, beside header mode; None (the default) reads and sets no cookie. `clients`
        says what is kept of a client that signs in; None keeps what `ClientCapture()` does. `live` watches over
        connections that stay open; None: `LiveConnections(auth)`, with its own settings.

        Raises:
            ConfigurationError: `cookie`, `clients` or `live` is something else.
        """
        if cookie is not None and not isinstance(cookie, SessionCookie):
            raise ConfigurationError("cookie must be None or a SessionCookie, for example SessionCookie()")
        if clients is not None and not isinstance(clients, ClientCapture):
            raise ConfigurationError("clients must be None or a ClientCapture, for example ClientCapture()")
        if live is not None and not isinstance(live, LiveConnections):
            raise ConfigurationError("live must be None or a LiveConnections, for example LiveConnections(auth)")
        self._app = app
        self._auth = auth
        self._cookie = cookie
        self._clients = clients or ClientCapture()
        self._live = live
        if live is None and isinstance(getattr(auth, "events", None), EventBus):
            self._live = LiveConnections(cast("HasTokenManagerAndEvents", auth))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        cookie = None if self._cookie is None else self._cookie.on(scope)
        credential = presented_credential(scope["headers"], None if cookie is None else cookie.name)
        in_cookie = credential is not None and credential.in_cookie
        if cookie is not None and in_cookie and is_forged(scope, cookie.settings.trusted_origins):
            await exchange_of(scope, send, RequestState(scope, None)).answer(answer_to(CrossSiteRequestError(), None))
            return
        # Whether a request is a use of the session only its route can say, and where the routes are nobody has told us.
        # One that may be the events route's is therefore examined first. It is counted when a response begins, a
        # second later, or when the application ends, whichever is first, unless the route has said that it is no use.
        counts_later = (
            self._live is not None
            and scope["type"] == "http"
            and scope["path"].endswith(EVENTS_PATH)
            and scope["method"] in {"GET", "HEAD"}
        )
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        answer, ends_in_us = (None, None) if credential is None else await self._answer(credential, counts_later)
        state = RequestState(scope, answer, token_in_cookie=in_cookie, cookie=cookie, clients=self._clients)
        state.ends_in_us = ends_in_us
        scope[SCOPE_KEY] = state
        exchange = exchange_of(scope, send, state)
        if self._live is not None and credential is not None and isinstance(answer, AuthenticationInfo):
            made = partial(self._made_live, exchange, state, credential, answer, asked_at, asyncio.current_task())
            if scope["type"] == "websocket":
                receive = made().receiving(receive)
            else:  # few requests become live: hardly anything is made for the others
                state.when_live, receive = lambda: made().begin(), holding_back(receive, state)
                if counts_later:
                    state.when_used = partial(self._live.count_use, cast("str", credential.token))
                    seconds = _COUNTED_WITHIN_SECONDS if ends_in_us is None else ends_in_us / 2_000_000
                    loop.call_later(min(seconds, _COUNTED_WITHIN_SECONDS), state.count_use)
        try:
            await self._app(scope, receive, exchange.send)
            await exchange.finish()
        except asyncio.CancelledError:
            if state.live is None or not state.live.was_cancelled_by_us():
                raise
        except Exception as error:
            answerable = answerable_in(error)
            if answerable is None or not await exchange.answer(answer_to(answerable, state)):
                await exchange.finish()
                raise
        finally:
            state.finish()

    def _made_live(
        self,
        exchange: Exchange,
        state: RequestState,
        credential: Credential,
        answer: AuthenticationInfo,
        asked_at: float,
        task: asyncio.Task[object] | None,
    ) -> LiveConnection:
        live = LiveConnection(
            cast("LiveConnections", self._live),
            exchange,
            state,
            task,
            token=cast("str", credential.token),
            user_id=answer.user_identifier,
            auth_id=answer.auth_id,
            confirmed_at=asked_at,
        )
        state.live, state.when_live = live, live.begin
        return live

    async def _answer(self, credential: Credential, counts_later: bool) -> tuple[Answer, int | None]:
        """Who it is, and where that has not counted as a use, the microseconds until a deadline."""
        if credential.token is None:
            return TokenRefusal.NOT_A_TOKEN, None
        try:
            if counts_later:
                return await self._auth.token_manager.examine_token(credential.token)
            return await self._auth.token_manager.explain_token(credential.token), None
        except StoreUnavailable as error:
            return error, None


def answer_to(error: AnswerableError, state: RequestState | None) -> Problem:
    """The answer to a request that ended in `error`; `state` is None where the middleware did not run.

    While the store cannot say who is calling, nobody is told to sign in, whatever the application concluded.
    """
    refusal = None
    if state is not None and isinstance(error, AuthenticationRequiredError):
        try:
            refusal = state.refusal
        except StoreUnavailable as outage:
            error = outage
    return problem_of(error, refusal=refusal, retry_after_s=jittered_retry_after_s())


def answerable_in(error: BaseException) -> AnswerableError | None:
    """The error we have an answer to, taken out of what wraps it on its way up; None if it is another.

    Wrapped it is by task groups, in a group of one, and by Starlette, where an outer application has a handler for
    what a mounted one has met with a 500 already.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, RuntimeError) and error.args == (_HANDLED_TOO_LATE,) and error.__cause__ is not None:
        return answerable_in(error.__cause__)
    return error if isinstance(error, ANSWERABLE_ERRORS) else None
