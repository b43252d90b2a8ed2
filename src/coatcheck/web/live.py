"""Live connections: WebSockets, event streams and other streams, which end with the session they were opened with.

A connection is live once the application, having asked who is calling, has accepted a WebSocket or has sent the first
part of a response and says that more follows. From then on its token is examined again

- at once when something is announced that may concern it (`EventBus`), or when announcements may have been missed,
- when a deadline of the session comes,
- and in any case every `recheck_every`, so that there is a bound where no announcement arrives.

Nothing is ended by an announcement alone: it says when to look, the store says what is true. While the store cannot
answer, connections stay open and are examined again a second later.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from coatcheck.errors import AuthenticationRequiredError, ConfigurationError, InsufficientScopeError, StoreUnavailable
from coatcheck.events import AnnouncementsMissed, RevokedAuthenticationAuthId
from coatcheck.tokens import TokenRefusal
from coatcheck.web.challenges import problem_of
from coatcheck.web.state import request_state

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping, Sequence
    from typing import Any

    from coatcheck.events import EventBus, Message
    from coatcheck.tokens import TokenManager, TokenStanding
    from coatcheck.web.asgi import AsgiMessage, Receive
    from coatcheck.web.challenges import Problem
    from coatcheck.web.exchanges import Exchange
    from coatcheck.web.state import RequestState

_TICK_SECONDS = 0.1
_AFTER_AN_OUTAGE_SECONDS = 1.0
_USE_SECONDS = 0.1  # a tenth of the shortest inactivity timeout there is

_log = logging.getLogger(__name__)


class HasTokenManagerAndEvents(Protocol):
    """What live connections need of `AuthServices`."""

    @property
    def token_manager(self) -> TokenManager:
        """Examines tokens."""
        ...

    @property
    def events(self) -> EventBus:
        """Tells of what has ended."""
        ...


class LiveConnections:
    """All live connections of an application, in one timer wheel. Needs no start and no stop."""

    def __init__(
        self,
        auth: HasTokenManagerAndEvents,
        *,
        recheck_every: timedelta = timedelta(seconds=15),
        grace: timedelta = timedelta(seconds=5),
    ) -> None:
        """Watch over connections to what `auth` validates.

        `recheck_every` is the longest time between two looks at a token; each is up to a fifth earlier, so that they
        spread. `grace` is how long the application may take to clean up after a WebSocket was closed.

        Raises:
            ConfigurationError: one of them is not above zero.
        """
        for name, value in (("recheck_every", recheck_every), ("grace", grace)):
            if not isinstance(value, timedelta) or value <= timedelta(0):
                raise ConfigurationError(f"{name} must be a timedelta above zero")
        self._auth = auth
        self._recheck_seconds = recheck_every.total_seconds()
        self.grace_seconds = grace.total_seconds()
        self._by_user: dict[str, set[LiveConnection]] = {}
        self._slots: dict[int, set[LiveConnection]] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_subscribed = False

    def __len__(self) -> int:
        """How many there are now."""
        return sum(map(len, self._by_user.values()))

    def add(self, connection: LiveConnection) -> None:
        """Watch over a connection from now on."""
        if not self._is_subscribed:
            self._auth.events.subscribe(self._hear)
            self._is_subscribed = True
        self._by_user.setdefault(connection.user_id, set()).add(connection)
        self._look_at([connection])  # what ended between its validation and now was announced to nobody

    def remove(self, connection: LiveConnection) -> None:
        """Leave a connection alone that is over."""
        theirs = self._by_user.get(connection.user_id, set())
        theirs.discard(connection)
        if not theirs:
            self._by_user.pop(connection.user_id, None)
        self._slots.get(connection.slot, set()).discard(connection)

    def note_use(self, connection: LiveConnection) -> None:
        """Count what has arrived on a connection as a use of its session, ten times a second at most."""
        now = asyncio.get_running_loop().time()
        if now >= connection.counts_from:
            connection.counts_from = now + _USE_SECONDS
            self._start(self._use(connection.token, connection))

    def count_use(self, token: str) -> None:
        """Count a use of its session that was not counted when it was examined."""
        self._start(self._use(token))

    async def _use(self, token: str, connection: LiveConnection | None = None) -> None:
        try:
            answer = await self._auth.token_manager.explain_token(token)
        except StoreUnavailable:
            return  # not a use that anybody could have written down
        if connection is not None and isinstance(answer, TokenRefusal):
            self._look_at([connection])

    async def _hear(self, message: Message) -> None:
        if isinstance(message, AnnouncementsMissed):
            concerned: Iterable[LiveConnection] = [one for theirs in self._by_user.values() for one in theirs]
        else:
            concerned = self._by_user.get(message.user_id, ())
            if isinstance(message, RevokedAuthenticationAuthId):
                concerned = [one for one in concerned if one.auth_id == message.auth_id]
        self._look_at(concerned)

    def _look_at(self, connections: Iterable[LiveConnection]) -> None:
        """Examine the token of each, and a token of several once."""
        by_token: dict[str, list[LiveConnection]] = {}
        for connection in connections:
            by_token.setdefault(connection.token, []).append(connection)
        for token, theirs in by_token.items():
            self._start(self._examine(token, theirs))

    async def _examine(self, token: str, connections: Sequence[LiveConnection]) -> None:
        try:
            standing = await self._auth.token_manager.examine_token(token)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is no reason to look no more)
            if not isinstance(error, StoreUnavailable):
                _log.exception("live connections could not be examined")
            for connection in connections:
                self._put_off(connection, _AFTER_AN_OUTAGE_SECONDS)
            return
        answer = standing.answer
        if isinstance(answer, TokenRefusal):
            problem = problem_of(AuthenticationRequiredError(), refusal=answer)
            for connection in connections:
                self._end(connection, problem)
            return
        for connection in connections:
            missing = sorted(connection.required_scopes - answer.scopes)
            if missing:
                required = sorted(connection.required_scopes)
                self._end(connection, problem_of(InsufficientScopeError(missing, required=required)))
            else:
                self._put_off(connection, self._seconds_until_next(standing))

    def _end(self, connection: LiveConnection, problem: Problem) -> None:
        self.remove(connection)
        self._start(connection.end(problem))  # a client that reads nothing keeps nobody else waiting

    def _seconds_until_next(self, standing: TokenStanding) -> float:
        seconds = self._recheck_seconds * random.uniform(0.8, 1)  # noqa: S311 (spreads load, guards nothing)
        return seconds if standing.ends_in_us is None else min(seconds, standing.ends_in_us / 1_000_000)

    def _start(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(step)
        self._under_way.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._under_way.discard)

    def _put_off(self, connection: LiveConnection, seconds: float) -> None:
        if connection not in self._by_user.get(connection.user_id, ()):
            return  # it is over
        loop = asyncio.get_running_loop()
        self._slots.get(connection.slot, set()).discard(connection)
        connection.slot = math.ceil((loop.time() + seconds) / _TICK_SECONDS)
        self._slots.setdefault(connection.slot, set()).add(connection)
        if self._timer is None:
            self._timer = loop.call_later(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time() / _TICK_SECONDS
        due = [slot for slot in self._slots if slot <= now]
        self._look_at([connection for slot in due for connection in self._slots.pop(slot)])
        self._timer = loop.call_later(_TICK_SECONDS, self._tick) if self._slots else None


def traffic_is_use(connection: Mapping[str, Any]) -> None:
    """From now on, what arrives on this WebSocket counts as a use of its session, as a request does.

        traffic_is_use(websocket)

    `connection` is an ASGI scope, or a Starlette `WebSocket`. Without this an open connection does not keep its session
    from its inactivity timeout, whatever goes over it.

    Raises:
        ConfigurationError: `SessionMiddleware` did not run for this connection.
    """
    request_state(connection).traffic_is_use = True


class LiveConnection:
    """One request of a signed-in caller, and what becomes of it once it is live."""

    __slots__ = (
        "_connections",
        "_exchange",
        "_forced_end",
        "_has_cancelled",
        "_has_finished",
        "_is_live",
        "_pending",
        "_problem",
        "_state",
        "_task",
        "_told",
        "auth_id",
        "counts_from",
        "slot",
        "token",
        "user_id",
    )

    def __init__(
        self,
        connections: LiveConnections,
        exchange: Exchange,
        state: RequestState,
        task: asyncio.Task[object] | None,
        *,
        token: str,
        user_id: str,
        auth_id: str,
    ) -> None:
        """The application runs in `task`. Nothing happens before `begin`."""
        self._connections = connections
        self._exchange = exchange
        self._state = state
        self.token = token
        self.user_id = user_id
        self.auth_id = auth_id
        self.slot = 0
        self.counts_from = 0.0
        self._task = task
        self._is_live = False
        self._problem: Problem | None = None
        self._pending: asyncio.Future[AsgiMessage] | None = None
        self._told: asyncio.Future[AsgiMessage] | None = None
        self._has_cancelled = False
        self._has_finished = False
        self._forced_end: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        """Show whose it is, and never the token."""
        return f"LiveConnection(user_id={self.user_id!r}, auth_id={self.auth_id!r})"

    def begin(self) -> None:
        """Something was sent, and more may follow: it is live from now on, or from when the application has asked.

        Nothing is watched where the application does not ask who is calling: it serves everybody.
        """
        if not self._is_live and self._state.was_asked:
            self._is_live = True
            self._connections.add(self)

    def finish(self) -> None:
        """The application has ended: from now on its task is somebody else's."""
        self._has_finished = True
        if self._forced_end is not None:
            self._forced_end.cancel()
        if self._pending is not None:
            self._pending.cancel()
        if self._is_live:
            self._connections.remove(self)

    @property
    def required_scopes(self) -> frozenset[str]:
        """What the application has required of the caller."""
        return self._state.required_scopes

    async def end(self, problem: Problem) -> None:
        """Tell the client why, then the application."""
        if self._problem is not None or self._has_finished:
            return
        self._problem = problem
        grace = self._connections.grace_seconds
        # A client that reads nothing must not keep its connection open by that.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(grace):
                await self._exchange.end(problem)
        if self._has_finished:
            return
        if self._told is not None:
            self._told.cancel()
            self._forced_end = asyncio.get_running_loop().call_later(grace, self._cancel)
        else:
            self._cancel()

    def receiving(self, receive: Receive) -> Receive:
        """`receive` for the application of a WebSocket: it is told of the end as of a client that has gone."""
        told: asyncio.Future[AsgiMessage] = asyncio.get_running_loop().create_future()
        self._told = told

        async def receive_or_end() -> AsgiMessage:
            if self._pending is None:
                self._pending = asyncio.ensure_future(receive())
            await asyncio.wait((self._pending, told), return_when=asyncio.FIRST_COMPLETED)
            if self._problem is not None and told.done():
                return {"type": "websocket.disconnect", "code": self._problem.close_code, "reason": self._problem.code}
            pending, self._pending = self._pending, None
            message = pending.result()
            if self._is_live and self._state.traffic_is_use and message["type"] == "websocket.receive":
                self._connections.note_use(self)
            return message

        return receive_or_end

    def was_cancelled_by_us(self) -> bool:
        """Whether a CancelledError in the application's task is ours alone."""
        return self._has_cancelled and self._task is not None and self._task.uncancel() == 0

    def _cancel(self) -> None:
        if self._task is not None:
            self._has_cancelled = True
            self._task.cancel()
