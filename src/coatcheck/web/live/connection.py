"""One request of a signed-in caller that stays open, and how it ends.

It ends in three steps, at moments that `ClosingQueue` chooses: it is stopped, its client is told, and its application
is made to leave.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast
from weakref import ref

from coatcheck.hidden import shown_when_made
from coatcheck.web.exchanges.exchange import DEAF_SECONDS
from coatcheck.web.state import request_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from coatcheck.identifiers import UserId
    from coatcheck.tokens import AuthenticationInfo
    from coatcheck.web.asgi import AsgiMessage, Receive
    from coatcheck.web.exchanges.exchange import Exchange
    from coatcheck.web.exchanges.verdict import Verdict
    from coatcheck.web.http.problems import Problem

CONNECTION_KEY = "coatcheck.connection"
"""The key of the ASGI scope under which the middleware leaves the `LiveConnection` of a WebSocket."""


def traffic_is_use(connection: Mapping[str, Any]) -> None:
    """From now on, what arrives on this WebSocket counts as a use of its session, as a request does.

        traffic_is_use(websocket)

    `connection` is an ASGI scope, or a Starlette `WebSocket`. Without this an open connection does not keep its session
    from its inactivity timeout, whatever goes over it.

    Raises:
        ConfigurationError: `SessionMiddleware` did not run for this connection.
    """
    request_state(connection)
    live = connection.get(CONNECTION_KEY)
    if isinstance(live, LiveConnection):  # a stranger's connection is the use of no session
        live.traffic_is_use = True


class Watch(Protocol):
    """A watch over connections while they are live."""

    def add(self, connection: LiveConnection) -> None:
        """Watch over it from now on."""
        ...

    def remove(self, connection: LiveConnection) -> None:
        """Leave it alone: it is over."""
        ...

    def note_use(self, connection: LiveConnection) -> None:
        """Count what has arrived on it as a use of its session."""
        ...


class LiveConnection:
    """One request of a signed-in caller, and what becomes of it once it is live.

    Its exchange holds it, and the running request holds the exchange. The scope, the verdict in it and this connection
    refer to the exchange weakly or not at all, so nothing is left for the garbage collector, however the request ends.
    """

    __slots__ = (
        "__weakref__",
        "_exchange",
        "_forced_end",
        "_has_cancelled",
        "_has_finished",
        "_has_left",
        "_is_live",
        "_is_open",
        "_left",
        "_loop",
        "_problem",
        "_receiver",
        "_task",
        "_tells_application",
        "_verdict",
        "_watch",
        "confirmed_at",
        "counts_from",
        "is_being_used",
        "session_id",
        "token",
        "traffic_is_use",
        "user_id",
    )

    def __init__(
        self,
        watch: Watch,
        verdict: Verdict,
        caller: AuthenticationInfo,
        token: str,
        task: asyncio.Task[object] | None,
        confirmed_at: float,
        exchange: Exchange,
    ) -> None:
        """The application runs in `task`. Nothing happens before `begin`.

        `confirmed_at` is when the read began that validated the token, by the event loop's clock: a request may have
        taken its time before it became live.
        """
        self._watch = watch
        self._exchange = ref(exchange)
        self._verdict = verdict
        self._task = (
            None if task is None else ref(task)
        )  # weakly: the exception of one that failed refers to the request
        self.token: str = token
        self.user_id: UserId = caller.user_identifier
        self.session_id: str = caller.auth_id
        self._loop = asyncio.get_running_loop()
        self.confirmed_at: float = confirmed_at
        self.counts_from: float = 0.0  # by the event loop's clock too
        self.is_being_used: bool = False
        self.traffic_is_use: bool = False
        self._is_open = False
        self._is_live = False
        self._problem: Problem | None = None
        self._receiver: asyncio.Task[object] | None = None
        self._tells_application = False
        self._left: asyncio.Future[None] | None = None
        self._has_left = False
        self._has_cancelled = False
        self._has_finished = False
        self._forced_end: asyncio.TimerHandle | None = None
        verdict.connection = ref(self)

    @shown_when_made
    def __repr__(self) -> str:
        """Show whose it is, and never the token."""
        return f"LiveConnection(user_id={self.user_id!r}, session_id={self.session_id!r})"

    def begin(self) -> None:
        """Note that something was sent, and more may follow.

        The connection is live from now on, or from when the application has asked who is calling. One whose application
        does not ask serves everybody, and is not watched.
        """
        self._is_open = True
        if not self._is_live and not self._has_finished and self._verdict.was_asked:
            self._is_live = True
            self._watch.add(self)

    def note_asked(self) -> None:
        """Note that the application has asked, maybe when it was open already, and maybe in another thread."""
        if self._is_open and not self._has_finished:
            self._loop.call_soon_threadsafe(self.begin)

    def finish(self) -> None:
        """Note that it is over, or that the application has ended: from now on its task is not ours to cancel."""
        self._has_finished = True
        if self._forced_end is not None:
            self._forced_end.cancel()
        if self._left is not None and not self._left.done():
            self._left.set_result(None)
        if self._is_live:
            self._watch.remove(self)

    @property
    def client_answers(self) -> bool:
        """Whether its client answers what it is told: that of a WebSocket does, with a close frame."""
        return self._tells_application

    @property
    def required_scopes(self) -> frozenset[str]:
        """All scopes that the application has required of the caller."""
        return self._verdict.required_scopes

    def confirm(self, answer: AuthenticationInfo, asked_at: float) -> None:
        """Note that the session lives, with these scopes, by a read that was begun at `asked_at`."""
        if asked_at >= self.confirmed_at:  # else there is a newer answer already
            self.confirmed_at = asked_at
            if answer != self._verdict.answer:  # else the new one leaves nothing to the garbage collector
                self._verdict.answer = answer

    def stop(self, problem: Problem) -> None:
        """Let neither side hear of the other any more."""
        self._problem = problem
        exchange = self._exchange()
        if exchange is not None:
            exchange.stop(problem)

    async def tell(self) -> None:
        """Tell the client why.

        Raises:
            OSError: it has gone.
        """
        exchange = self._exchange()
        if exchange is not None and not self._has_finished:
            await exchange.tell()

    def leave(self, grace_seconds: float) -> None:
        """Have the application end. That of a WebSocket is told, and cancelled if that does not help in time."""
        if self._has_finished:
            return
        self._has_left = True
        if self._left is not None and not self._left.done():
            self._left.set_result(None)
        if not self._tells_application:
            self._cancel()
            return
        if self._receiver is not None:
            self._receiver.cancel()
        self._forced_end = self._loop.call_later(grace_seconds, self._cancel)

    async def until_left(self) -> None:
        """Wait until the application is to end; not at all, as long as nothing ends.

        A server tells the application that the client has gone as soon as we have told the client. It would be busy
        with that before other clients are told.
        """
        if self._problem is None or self._has_left or self._has_finished:
            return
        if self._left is None:
            self._left = self._loop.create_future()
        await asyncio.shield(self._left)  # another may wait for it too

    def receiving(self, receive: Receive) -> Receive:
        """`receive` for the application of a WebSocket: it is told of the end as of a client that has gone."""
        self._tells_application = True

        async def receive_or_end() -> AsgiMessage:
            message = await self._unless_left(receive)
            if message is None:
                problem = cast("Problem", self._problem)
                return {"type": "websocket.disconnect", "code": problem.close_code, "reason": problem.code}
            if self._is_live and self.traffic_is_use and message["type"] == "websocket.receive":
                self._watch.note_use(self)
            return message

        return receive_or_end

    async def _unless_left(self, receive: Receive) -> AsgiMessage | None:
        """The next message, or None when the application is to end. A message that arrives after `stop` is dropped."""
        if self._problem is None:
            self._receiver = task = cast("asyncio.Task[object]", asyncio.current_task())
            cancelling = task.cancelling()
            try:
                message = await receive()
            except asyncio.CancelledError:
                if not self._has_left:
                    raise
            else:
                if self._problem is None:
                    if message["type"] == "websocket.disconnect":
                        self.finish()
                    return message
            finally:
                self._receiver = None
            if self._has_left and task.uncancel() > cancelling:
                raise asyncio.CancelledError  # somebody else has cancelled it too
        elif self._has_left:
            await asyncio.sleep(DEAF_SECONDS)  # it may be a loop that does not care what it is told
        await self.until_left()
        return None

    def was_cancelled_by_us(self) -> bool:
        """Whether a CancelledError in the application's task is ours alone."""
        task = None if self._task is None else self._task()
        return self._has_cancelled and task is not None and task.uncancel() == 0

    def _cancel(self) -> None:
        task = None if self._task is None else self._task()
        if task is not None:
            self._has_cancelled = True
            task.cancel()
