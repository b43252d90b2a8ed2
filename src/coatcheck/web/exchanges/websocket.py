"""A WebSocket connection and what was already sent over it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from coatcheck.tokens import AuthenticationInfo
from coatcheck.web.exchanges.exchange import DEAF_SECONDS

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiMessage, AsgiScope, Send
    from coatcheck.web.exchanges.open_connection import OpenConnection
    from coatcheck.web.exchanges.verdict import Verdict
    from coatcheck.web.http.problems import Problem


class WebSocketExchange:
    """A WebSocket connection.

    Before it is accepted, a problem is sent as an HTTP response where the server offers the extension
    (`websocket.http.response`), else the handshake is closed, which the client sees as HTTP 403. Afterwards it is
    closed with the problem's close code.
    """

    def __init__(self, scope: AsgiScope, send: Send, verdict: Verdict) -> None:
        """Begin with nothing sent."""
        self._verdict = verdict
        self._can_deny = "websocket.http.response" in (scope.get("extensions") or {})
        self._send = send
        self.connection: OpenConnection | None = None
        self.is_unfinished: bool = False
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
            if self.connection is not None:
                self.connection.begin()
        elif message["type"] in {"websocket.close", "websocket.http.response.start"}:
            self._is_over = True
            self.note_over()
            if message["type"] == "websocket.http.response.start":
                message = self._private(message)
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
        """Close a connection that was stopped. Nothing else is ever held back."""
        await self.tell()

    def note_over(self) -> None:
        """Note that nothing is open any more."""
        if self.connection is not None:
            self.connection.finish()

    def stop(self, problem: Problem) -> None:
        """Have the connection be closed with the problem's close code and name."""
        self._problem = problem
        self.is_unfinished = True

    async def tell(self) -> None:
        """Close the connection."""
        if self._problem is not None:
            await self.answer(self._problem)

    def _private(self, start: AsgiMessage) -> AsgiMessage:
        """The head of the application's own denial, kept out of caches where it is for a signed-in caller."""
        headers = list(start.get("headers", ()))
        if not isinstance(self._verdict.answer, AuthenticationInfo) or any(
            bytes(name).lower() == b"cache-control" for name, _ in headers
        ):
            return start
        return {**start, "headers": [*headers, (b"cache-control", b"no-store")]}
