"""A bare ASGI application and its pod, started and stopped together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from coatcheck.web.asgi import AsgiApp, AsgiMessage, AsgiScope, Receive, Send


class PodLifespan:
    """Opens `pod` before the application starts and closes it after the application has stopped.

        app = PodLifespan(SessionMiddleware(app, auth=auth), pod)

    For applications with a lifespan of their own and for those without; FastAPI and Starlette may take
    `lifespan=pod.lifespan` instead. `pod` is any async context manager; it is entered and left in the same task. If
    it cannot be opened or closed, the server is told so, with the error's text, and the error is raised.
    """

    def __init__(self, app: AsgiApp, pod: AbstractAsyncContextManager[object]) -> None:
        """Wrap `app`."""
        self._app = app
        self._pod = pod

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Handle one connection, or the lifespan."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        inner = _InnerLifespan(receive, send)
        try:
            await inner.receive_startup()
            async with self._pod:
                await inner.run(self._app, scope)
        except Exception as error:
            await send(inner.failure(error))
            raise
        await send(inner.last_word or {"type": "lifespan.shutdown.complete"})


class _InnerLifespan:
    """The lifespan as the wrapped application sees it; its last word is kept until the pod is closed."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.last_word: AsgiMessage | None = None
        self._receive = receive
        self._send = send
        self._startup: AsgiMessage | None = None
        self._has_started = False
        self._is_stopping = False

    async def receive_startup(self) -> None:
        """Wait until the server starts."""
        self._startup = await self._receive()

    async def run(self, app: AsgiApp, scope: AsgiScope) -> None:
        """Run until the server stops, or until the application failed to start."""
        try:
            await app(scope, self._next_event, self._say)
        except Exception:
            # An application without a lifespan raises before it has said anything (ASGI, "Lifespan Protocol").
            if self._has_started or self.last_word is not None:
                raise
        if self.last_word is None and not self._is_stopping:
            if not self._has_started:
                await self._say({"type": "lifespan.startup.complete"})
            await self._receive()

    def failure(self, error: Exception) -> AsgiMessage:
        """The event that tells the server of an error: the application's own, if it had one."""
        if self.last_word is not None and self.last_word["type"].endswith(".failed"):
            return self.last_word
        phase = "shutdown" if self._has_started else "startup"
        return {"type": f"lifespan.{phase}.failed", "message": str(error)}

    async def _next_event(self) -> AsgiMessage:
        if self._startup is not None:
            startup, self._startup = self._startup, None
            return startup
        event = await self._receive()
        self._is_stopping = True
        return event

    async def _say(self, message: AsgiMessage) -> None:
        if message["type"] == "lifespan.startup.complete":
            self._has_started = True
            await self._send(message)
        else:
            self.last_word = message
