"""An HTTP request and what was already sent in answer to it."""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

from coatcheck.tokens import AuthenticationInfo
from coatcheck.web.exchanges.exchange import DEAF_SECONDS
from coatcheck.web.exchanges.verdict import Begun500
from coatcheck.web.http.event_stream import MEDIA_TYPE, event
from coatcheck.web.http.vary import with_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from coatcheck.web.asgi import AsgiMessage, Receive, Send
    from coatcheck.web.exchanges.exchange import Exchange
    from coatcheck.web.exchanges.open_connection import OpenConnection
    from coatcheck.web.exchanges.pending_use import PendingUse
    from coatcheck.web.exchanges.reply import Reply
    from coatcheck.web.exchanges.verdict import Verdict
    from coatcheck.web.http.problems import Problem

MAX_HELD_BYTES = 1024 * 1024
"""Bytes of a 500 response that are held back until the application has ended."""

_VARY = (b"Authorization",)
_VARY_WITH_COOKIE = (b"Authorization", b"Cookie")


class HttpExchange:
    """An HTTP request.

    A response with status 500 is held back until the application has ended. A FastAPI or Starlette application that
    is mounted inside another answers 500 to every exception it does not know and then raises it again
    (`ServerErrorMiddleware`): without holding it back, our 401, 403 and 503 would come out of a mounted application
    as 500, unless its author registers handlers there. Other frameworks answer it and do not raise it again; where the
    middleware knows for certain that one of ours has failed, it answers in place of their 500.

    `opens` makes the connection of a request that stays open; few do, so hardly anything is made for the others. `use`
    is counted when a response begins.
    """

    __slots__ = (
        "__weakref__",
        "_end",
        "_has_started",
        "_held",
        "_held_bytes",
        "_is_event_stream",
        "_is_stopped",
        "_receive",
        "_reply",
        "_send",
        "_verdict",
        "connection",
        "is_unfinished",
        "opens",
        "use",
    )

    def __init__(self, receive: Receive, send: Send, verdict: Verdict, reply: Reply) -> None:
        """Begin with nothing sent."""
        self._receive = receive
        self._send = send
        self._verdict = verdict
        self._reply = reply
        self.opens: Callable[[Exchange], OpenConnection] | None = None
        self.connection: OpenConnection | None = None
        self.use: PendingUse | None = None
        self.is_unfinished: bool = False
        self._has_started = False
        self._held: list[AsgiMessage] | None = None
        self._held_bytes = 0
        self._is_event_stream = False
        self._is_stopped = False
        self._end: AsgiMessage | None = None

    async def receive(self) -> AsgiMessage:
        """The next event of the client. The application hears of an end of ours late: see `until_left`."""
        message = await self._receive()
        if self.connection is not None:
            await self.connection.until_left()
        if message["type"] == "http.disconnect":
            self.note_over()
        return message

    async def send(self, message: AsgiMessage) -> None:
        """Send a message of the application on, or hold it back."""
        if self._is_stopped:
            await asyncio.sleep(DEAF_SECONDS)
            return
        kind = message["type"]
        if kind == "http.response.start":
            message = self._begin(message)
            if message["status"] == 500:
                self._held, self.is_unfinished = [message], True
                handled = sys.exception()
                self._verdict.begun_500 = Begun500(handled, None if handled is None else handled.__traceback__)
                return
            await self._send(message)
            if self._is_event_stream and self.opens is not None:
                self._note_open()  # it may be long until there is an event
            return
        if self._held is not None:
            await self._hold(self._held, message)
            return
        if message.get("more_body"):
            if self.opens is not None:
                self._note_open()
        elif kind == "http.response.body":  # over, before it is sent: what the server has nobody can take back
            self.opens = None
            if self.connection is not None:
                self.connection.finish()
        await self._send(message)

    async def answer(self, problem: Problem) -> bool:
        """Answer with a problem, in place of a 500 that is held back. False if another response has begun."""
        if self._is_stopped:
            await self.tell()
            return True
        if self._has_started and self._held is None:
            return False
        self._held = None
        start = {"type": "http.response.start", "status": problem.status, "headers": problem.headers}
        await self._send(self._begin(start))
        await self._send({"type": "http.response.body", "body": problem.body})
        return True

    async def finish(self) -> None:
        """Send what was held back, or the end of an event stream that was stopped."""
        held, self._held = self._held, None
        for message in held or ():
            await self._send(message)
        await self.tell()

    def note_over(self) -> None:
        """Note that nothing is open any more, and nothing will be."""
        self.opens = None
        if self.use is not None:
            self.use.count()
        if self.connection is not None:
            self.connection.finish()

    def stop(self, problem: Problem) -> None:
        """Have an event stream end with a last event, `session_ended` with the problem as its data.

        There is no such event where the store could not say whether the session has ended. Any other stream is left as
        it is, incomplete: one that ended in order would look like all there is.
        """
        self._is_stopped = self.is_unfinished = True
        if self._is_event_stream:
            is_outage = problem.status == HTTPStatus.SERVICE_UNAVAILABLE
            # An empty line ends whatever event the application was in the middle of.
            last = b"" if is_outage else b"\n\n" + event("session_ended", problem.body)
            self._end = {"type": "http.response.body", "body": last, "more_body": False}

    async def tell(self) -> None:
        """Send the end of an event stream."""
        end, self._end = self._end, None
        if end is not None:
            await self._send(end)

    def _note_open(self) -> None:
        opens, self.opens = self.opens, None
        if opens is not None:
            self.connection = opens(self)
            self.connection.begin()

    async def _hold(self, held: list[AsgiMessage], message: AsgiMessage) -> None:
        held.append(message)
        self._held_bytes += len(message.get("body", b""))
        if self._held_bytes > MAX_HELD_BYTES:
            await self.finish()

    def _begin(self, start: AsgiMessage) -> AsgiMessage:
        """The head of a response with what ours have to carry."""
        self._has_started = True
        if self.use is not None:
            self.use.count()
        verdict, reply = self._verdict, self._reply
        headers: list[tuple[bytes, bytes]] = []
        vary_lines: list[bytes] = []
        is_stream = has_length = has_cache_control = False
        for name, value in start.get("headers", ()):
            lower = bytes(name).lower()
            if lower == b"vary" and verdict.was_asked:
                vary_lines.append(bytes(value))
                continue
            if lower == b"content-type":
                is_stream = bytes(value).partition(b";")[0].strip().lower() == MEDIA_TYPE
            elif lower == b"content-length":
                has_length = True
            elif lower == b"cache-control":
                has_cache_control = True
            headers.append((bytes(name), bytes(value)))
        # Of a length that was announced, nothing can be left out and nothing added.
        self._is_event_stream = is_stream and not has_length
        is_private = isinstance(verdict.answer, AuthenticationInfo)
        if reply.has_wishes and reply.fulfil(start["status"], headers):
            is_private = True
            has_cache_control = any(name.lower() == b"cache-control" for name, _ in headers)
        # RFC 9111 section 3.5 keeps shared caches from storing the answer to a request with an Authorization header,
        # but says nothing of cookies, of private caches, or of a token that a response hands out.
        if is_private and not has_cache_control:
            headers.append((b"cache-control", b"no-store"))
        # Only a response for which the application looked at the caller can differ by caller; one that is the same
        # for all, a stylesheet say, stays cacheable for all. `Authorization` is named although RFC 9110 section 12.5.5
        # sees no need: an anonymous answer that was stored may else be served to someone signed in, and after
        # `Cache-Control: public` one user's answer to another.
        if verdict.was_asked:
            names = _VARY if reply.cookie is None else _VARY_WITH_COOKIE
            headers.append((b"vary", with_names(vary_lines, names) if vary_lines else b", ".join(names)))
        return {**start, "headers": headers}
