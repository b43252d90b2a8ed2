"""The ASGI middleware: who is calling, for every request, in any framework.

    app = SessionMiddleware(api, auth=auth)                       # any ASGI application, FastAPI and Starlette too
    api.add_middleware(SessionMiddleware, auth=auth)              # FastAPI, Starlette; but for what they say to a 500

It leaves a `RequestState` in the ASGI scope; `authentication_of(scope)` and `require(scope, "notes:write")` read it.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, cast

from coatcheck.errors import ConfigurationError, CrossSiteRequestError, StoreUnavailable, TooManyCookiesError
from coatcheck.events import EventBus
from coatcheck.tokens import AuthenticationInfo, Token, TokenRefusal
from coatcheck.web.asgi import facts_of
from coatcheck.web.cookie_clashes import CookieWatch
from coatcheck.web.exchanges.http import HttpExchange
from coatcheck.web.exchanges.pending_use import USE_KEY, PendingUse
from coatcheck.web.exchanges.reply import REPLY_KEY, Reply
from coatcheck.web.exchanges.verdict import Begun500, Verdict
from coatcheck.web.exchanges.websocket import WebSocketExchange
from coatcheck.web.http.cookie import SessionCookie
from coatcheck.web.http.credentials import presented_credential
from coatcheck.web.http.devices import ClientCapture
from coatcheck.web.http.event_stream import asks_for_event_stream
from coatcheck.web.http.except_paths import ExceptPaths
from coatcheck.web.http.problems import problem_of
from coatcheck.web.live.connection import CONNECTION_KEY, LiveConnection
from coatcheck.web.live.revalidation import LiveConnections
from coatcheck.web.not_run import LEFT_ALONE
from coatcheck.web.refusals import answer_to, answerable_in, is_behind_500, refusal_behind_500
from coatcheck.web.root import ROOT_KEY, path_below
from coatcheck.web.settings import SETTINGS_KEY, WebSettings
from coatcheck.web.state import SCOPE_KEY, RequestState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from coatcheck.web.auth_services import HasTokenManager, HasTokenManagerAndEvents
    from coatcheck.web.exchanges.exchange import Exchange
    from coatcheck.web.exchanges.verdict import Answer
    from coatcheck.web.http.cookie import RequestCookie


_READS = frozenset({"GET", "HEAD"})


class SessionMiddleware:
    """Validates the token of every HTTP and WebSocket request, and answers for the errors that come of it.

    - Without a token, or with something that cannot be one, the store is not read.
    - `AuthenticationRequiredError`, `InsufficientScopeError` and `StoreUnavailable` may escape the application: they
      become 401, 403 and 503 problems (see `http/problems.py`), or the matching end of a WebSocket connection.
    - With `cookie`, the token may come in the session cookie too. An unsafe request or a WebSocket that another
      origin's page opened with that cookie is refused (403 `cross_site_request`) before the application sees it.
    - Responses to signed-in callers get `Cache-Control: no-store` unless the application set its own Cache-Control.

    Put it around the whole application: what is made outside of it, such as Starlette's response to an exception that
    nothing handles, lacks `no-store` and the cookie. Only what must see its answers too goes around it, CORS headers
    for example: `CORSMiddleware(SessionMiddleware(api, auth=auth), ...)`.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        auth: HasTokenManager,
        cookie: SessionCookie | None = None,
        clients: ClientCapture | None = None,
        live: LiveConnections | None = None,
        except_paths: Iterable[str] = (),
    ) -> None:
        """Wrap `app`. `auth` is what `pod.initialize_auth_services(...)` returned.

        `cookie` switches cookie mode on, beside header mode; None (the default) reads and sets no cookie. `clients`
        says what is kept of a client that signs in; None keeps what `ClientCapture()` does. `live` watches over
        connections that stay open; None: `LiveConnections(auth)`, with its own settings.

        `except_paths` are left alone, as if the middleware were not there: no token is read, no header is added. A path
        that ends with a slash is everything below it, another is that path alone: `["/static/", "/healthz"]`, below
        the application's prefix (`root_path`). Routes there cannot ask who is calling (`ConfigurationError`).

        Raises:
            ConfigurationError: `cookie`, `clients`, `live` or `except_paths` is something else.
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
        self._cookie_watch = None if cookie is None else CookieWatch(auth, cookie)
        if live is None and isinstance(getattr(auth, "events", None), EventBus):
            live = LiveConnections(cast("HasTokenManagerAndEvents", auth))
        self._live = live
        excepted = ExceptPaths(except_paths)
        self._except_paths = excepted if excepted.are_any else None
        self._settings = WebSettings(clients or ClientCapture(), ends_with_session=live is not None)

    async def __call__(  # noqa: C901, PLR0912 (in parts it would be a call more for every request)
        self, scope: AsgiScope, receive: Receive, send: Send
    ) -> None:
        """Handle one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if self._except_paths is not None and (
            path_below(scope.get("root_path", ""), scope["path"]) in self._except_paths
        ):
            scope[SCOPE_KEY] = scope[REPLY_KEY] = scope[SETTINGS_KEY] = LEFT_ALONE
            await self._app(scope, receive, send)
            return
        scope[ROOT_KEY] = scope.get("root_path", "")
        cookie = None if self._cookie is None else self._cookie.on(facts_of(scope))
        credential = presented_credential(scope["headers"], None if cookie is None else cookie.name)
        token: Token | None
        answer: Answer
        token, in_cookie, answer = (None, False, None) if credential is None else credential
        if in_cookie and cookie is not None and cookie.is_forged:
            await _refuse_forged(scope, receive, send)
            return
        is_http = scope["type"] == "http"
        asked_at = asyncio.get_running_loop().time()
        use = None
        if token is not None:
            try:
                may_be_no_use = is_http and scope["method"] in _READS and asks_for_event_stream(scope["headers"])
                if self._live is not None and may_be_no_use:
                    standing = await self._auth.token_manager.examine_token(token)
                    answer = standing.answer
                    use = PendingUse(partial(self._live.count_use, token), standing.ends_in_us)
                else:
                    answer = await self._auth.token_manager.explain_token(token)
            except StoreUnavailable as error:
                answer = error.with_traceback(None)  # which leads to this frame, and so back to the verdict
        verdict = Verdict(answer)
        reply = Reply(cookie, token if in_cookie else None, answer)
        if in_cookie and cookie is not None and not isinstance(answer, AuthenticationInfo):
            self._note_useless(cookie, answer)
        state = RequestState(verdict)
        scope[SCOPE_KEY], scope[REPLY_KEY], scope[SETTINGS_KEY] = state, reply, self._settings
        exchange = HttpExchange(receive, send, verdict, reply) if is_http else WebSocketExchange(scope, send, verdict)
        if self._live is not None and token is not None and isinstance(answer, AuthenticationInfo):
            opens = partial(LiveConnection, self._live, verdict, answer, token, asyncio.current_task(), asked_at)
            receive = _watched(scope, receive, exchange, opens, use)
        try:
            await self._app(scope, receive, exchange.send)
            if exchange.is_unfinished:
                await _finish(exchange, verdict, state)
        except (asyncio.CancelledError, Exception) as error:
            if not await _is_settled(error, exchange, verdict, state):
                raise
        finally:
            exchange.note_over()
            verdict.failure = verdict.begun_500 = None

    def _note_useless(self, cookie: RequestCookie, answer: Answer) -> None:
        if self._cookie_watch is None:
            return
        if isinstance(answer, TooManyCookiesError):
            self._cookie_watch.note_too_long()
        elif isinstance(answer, TokenRefusal):
            self._cookie_watch.note_refused(cookie, answer)


async def _refuse_forged(scope: AsgiScope, receive: Receive, send: Send) -> None:
    problem = problem_of(CrossSiteRequestError())
    if scope["type"] == "http":
        await HttpExchange(receive, send, Verdict(None), Reply()).answer(problem)
    else:
        await WebSocketExchange(scope, send, Verdict(None)).answer(problem)


def _watched(
    scope: AsgiScope,
    receive: Receive,
    exchange: HttpExchange | WebSocketExchange,
    opens: Callable[[Exchange], LiveConnection],
    use: PendingUse | None,
) -> Receive:
    """Have the connection be watched over once it is open; `receive` for the application."""
    if isinstance(exchange, WebSocketExchange):
        scope[CONNECTION_KEY] = exchange.connection = connection = opens(exchange)
        return connection.receiving(receive)
    exchange.opens = opens  # few requests stay open: hardly anything is made for the others
    if use is not None:
        scope[USE_KEY] = exchange.use = use
        asyncio.get_running_loop().call_later(use.counted_within_seconds, use.count)
    return exchange.receive


async def _finish(exchange: Exchange, verdict: Verdict, state: RequestState) -> None:
    """Send what was held back, or our own answer where the application has made a 500 of the error that has one.

    Litestar, Quart and Django answer errors that they do not know by themselves, so that ours never arrive here. Any
    other 500 is the application's.
    """
    around = sys.exception()  # where the server itself calls us from an `except` block
    begun = verdict.begun_500
    if begun is not None and begun.handled is around:
        begun = Begun500(None, None)
    refusal = None if begun is None else refusal_behind_500(begun, verdict.failure)
    if refusal is None or not await exchange.answer(answer_to(refusal, state)):
        await exchange.finish()


async def _is_settled(error: BaseException, exchange: Exchange, verdict: Verdict, state: RequestState) -> bool:
    """Whether an error that ended the application needs to go no further; all is sent that was to be."""
    if isinstance(error, asyncio.CancelledError):
        return exchange.connection is not None and exchange.connection.was_cancelled_by_us()
    begun = verdict.begun_500
    answerable = answerable_in(error, verdict.failure) if begun is None or is_behind_500(error, begun) else None
    if answerable is not None and await exchange.answer(answer_to(answerable, state)):
        # It may be that of the verdict, and its traceback leads to frames that refer to the verdict.
        error.__traceback__ = answerable.__traceback__ = None
        return True
    await exchange.finish()
    return False
