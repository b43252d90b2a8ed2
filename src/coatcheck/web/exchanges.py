"""One request and what was already sent in answer to it: what may still be said, and how.

An exchange stands between the application and the server. It knows whether a response has begun, adds the headers
that keep an authenticated response out of caches, and can answer with a problem as long as that is possible.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coatcheck.web.asgi import AsgiMessage, AsgiScope, Send
    from coatcheck.web.http.problems import Problem
    from coatcheck.web.state import RequestState

MAX_HELD_BYTES = 1024 * 1024
"""Bytes of a 500 response that are held back until the application has ended."""

DEAF_SECONDS = 0.1
"""How long a call takes by which the application would hear of a client, or be heard, that it has lost.

Some applications pause only where they wait for the client. One that did not pause any more would keep the event loop
to itself, and nobody would come to end it. Giving way is not enough: a thousand of them would keep it busy.
"""

_VARY = (b"Authorization",)
_VARY_WITH_COOKIE = (b"Authorization", b"Cookie")


class Exchange(Protocol):
    """What the middleware needs of either kind of connection."""

    async def send(self, message: AsgiMessage) -> None:
        """Send an event of the application on to the client."""
        ...

    async def answer(self, problem: Problem) -> bool:
        """Answer with a problem, or with that of `stop`. False if it is too late for that; nothing was sent then."""
        ...

    async def finish(self) -> None:
        """Send what was held back, and what `stop` has left to tell: the application has ended."""
        ...

    def stop(self, problem: Problem) -> None:
        """Send nothing of the application any more: what is open ends with this problem."""
        ...

    async def tell(self) -> None:
        """Tell the client of that problem, if it was not told yet."""
        ...


def exchange_of(scope: AsgiScope, send: Send, state: RequestState) -> Exchange:
    """The exchange for an `http` or `websocket` scope."""
    if scope["type"] == "websocket":
        return WebSocketExchange(scope, send, state)
    return HttpExchange(send, state)


class HttpExchange:
    """An HTTP request.

    A response with status 500 is held back until the application has ended. A FastAPI or Starlette application that
    is mounted inside another answers 500 to every exception it does not know and then raises it again
    (`ServerErrorMiddleware`): without holding it back, our 401, 403 and 503 would come out of a mounted application
    as 500, unless its author registers handlers there.
    """

    __slots__ = ("_end", "_has_started", "_held", "_held_bytes", "_is_event_stream", "_is_stopped", "_send", "_state")

    def __init__(self, send: Send, state: RequestState) -> None:
        """Begin with nothing sent."""
        self._send = send
        self._state = state
        self._has_started = False
        self._held: list[AsgiMessage] = []
        self._held_bytes = 0
        self._is_event_stream = False
        self._is_stopped = False
        self._end: AsgiMessage | None = None

    async def send(self, message: AsgiMessage) -> None:
        """Send a message of the application on, or hold it back."""
        if self._is_stopped:
            await asyncio.sleep(DEAF_SECONDS)
            return
        if message["type"] == "http.response.start":
            self._has_started = True
            self._state.count_use()
            self._is_event_stream = _is_event_stream(message)
            is_open = self._is_event_stream and not _has(message.get("headers", ()), b"content-length")
            message = self._with_our_headers(message)
            if message["status"] == 500:
                self._held.append(message)
                return
            await self._send(message)
            if is_open and self._state.when_live is not None:
                self._state.when_live()  # it may be long until there is an event
            return
        if not self._held:
            if message.get("more_body"):
                if self._state.when_live is not None:
                    self._state.when_live()
            elif message["type"] == "http.response.body":
                self._state.finish()  # before it is sent: what is in the server's hands nobody can take back
            await self._send(message)
            return
        self._held.append(message)
        self._held_bytes += len(message.get("body", b""))
        if self._held_bytes > MAX_HELD_BYTES:
            await self.finish()

    async def answer(self, problem: Problem) -> bool:
        """Answer with a problem, in place of a 500 that is held back. False if another response has begun."""
        if self._is_stopped:
            await self.tell()
            return True
        if self._has_started and not self._held:
            return False
        self._held = []
        self._state.count_use()
        start = {"type": "http.response.start", "status": problem.status, "headers": list(problem.headers)}
        self._has_started = True
        await self._send(self._with_our_headers(start))
        await self._send({"type": "http.response.body", "body": problem.body})
        return True

    async def finish(self) -> None:
        """Send what was held back, or the end of an event stream that was stopped."""
        held, self._held = self._held, []
        for message in held:
            await self._send(message)
        await self.tell()

    def stop(self, problem: Problem) -> None:
        """Have an event stream end with a last event, `session_ended` with the problem as its data.

        There is no such event where the store could not say whether the session has ended. Any other stream is left as
        it is, incomplete: one that ended in order would look like all there is.
        """
        self._is_stopped = True
        if self._is_event_stream:
            is_outage = problem.status == HTTPStatus.SERVICE_UNAVAILABLE
            # Whatever the application was in the middle of, an empty line ends it.
            last = b"" if is_outage else b"\n\nevent: session_ended\ndata: " + problem.body + b"\n\n"
            self._end = {"type": "http.response.body", "body": last, "more_body": False}

    async def tell(self) -> None:
        """Send the end of an event stream."""
        end, self._end = self._end, None
        if end is not None:
            await self._send(end)

    def _with_our_headers(self, start: AsgiMessage) -> AsgiMessage:
        headers = [(bytes(name), bytes(value)) for name, value in start.get("headers", ())]
        state = self._state
        cookie_header = state.cookie_header
        if cookie_header is not None:
            headers.append((b"set-cookie", cookie_header))
        # RFC 9111 section 3.5 keeps shared caches from storing the answer to a request with an Authorization header,
        # but says nothing of cookies, of private caches, or of a token that a response hands out.
        if state.is_private and not _has(headers, b"cache-control"):
            headers.append((b"cache-control", b"no-store"))
        # Only a response for which the application looked at the caller can differ by caller; one that is the same
        # for all, a stylesheet say, stays cacheable for all. `Authorization` is named although RFC 9110 section 12.5.5
        # sees no need: an anonymous answer that was stored may else be served to someone signed in, and after
        # `Cache-Control: public` one user's answer to another.
        if state.was_asked:
            headers = with_vary(headers, _VARY_WITH_COOKIE if state.uses_cookie else _VARY)
        return {**start, "headers": headers}


class WebSocketExchange:
    """A WebSocket connection.

    Before it is accepted, a problem is sent as an HTTP response where the server offers the extension
    (`websocket.http.response`), else the handshake is closed, which the client sees as HTTP 403. Afterwards it is
    closed with the problem's close code.
    """

    def __init__(self, scope: AsgiScope, send: Send, state: RequestState) -> None:
        """Begin with nothing sent."""
        self._state = state
        self._can_deny = "websocket.http.response" in (scope.get("extensions") or {})
        self._send = send
        self._is_accepted = False
        self._is_over = False
        self._problem: Problem | None = None

    async def send(self, message: AsgiMessage) -> None:
        """Send a message of the application on."""
        if self._problem is not None:
            await asyncio.sleep(DEAF_SECONDS)
            return
        if message["type"] == "websocket.accept":
            self._is_accepted = True
        if message["type"] in {"websocket.accept", "websocket.send"}:
            if self._state.when_live is not None:
                self._state.when_live()
        elif message["type"] in {"websocket.close", "websocket.http.response.start"}:
            self._is_over = True
            self._state.finish()
        await self._send(message)

    async def answer(self, problem: Problem) -> bool:
        """Deny or close the connection. False if the application has done so already."""
        if self._is_over:
            return self._problem is not None
        self._is_over = True
        if self._can_deny and not self._is_accepted:
            headers = list(problem.headers)
            await self._send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
            await self._send({"type": "websocket.http.response.body", "body": problem.body})
            return True
        with suppress(OSError):  # the client has gone already
            await self._send({"type": "websocket.close", "code": problem.close_code, "reason": problem.code})
        return True

    async def finish(self) -> None:
        """Close what was stopped. Nothing else is ever held back."""
        await self.tell()

    def stop(self, problem: Problem) -> None:
        """Have the connection be closed with the problem's close code and name."""
        self._problem = problem

    async def tell(self) -> None:
        """Close the connection."""
        if self._problem is not None:
            await self.answer(self._problem)


def with_vary(headers: Iterable[tuple[bytes, bytes]], names: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """The headers with `names` in one Vary field (RFC 9110 section 12.5.5), after those already there."""
    others, lines = [], []
    for name, value in headers:
        if name.lower() == b"vary":
            lines.append(value)
        else:
            others.append((name, value))
    if not lines:
        others.append((b"vary", b", ".join(names)))
        return others
    present = [item.strip() for line in lines for item in line.split(b",") if item.strip()]
    known = {item.lower() for item in present}
    if b"*" in known:
        return [*others, (b"vary", b"*")]
    return [*others, (b"vary", b", ".join([*present, *(name for name in names if name.lower() not in known)]))]


def _is_event_stream(start: AsgiMessage) -> bool:
    types = [value for name, value in start.get("headers", ()) if name.lower() == b"content-type"]
    return any(value.partition(b";")[0].strip().lower() == b"text/event-stream" for value in types)


def _has(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bool:
    return wanted in [name.lower() for name, _ in headers]
