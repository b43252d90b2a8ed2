"""Live connections: WebSockets, event streams and other streams, which end with the session they were opened with.

A connection is live once it is open and the application has asked who is calling, in whichever order. It is open when a
WebSocket was accepted, an event stream has begun, or the first part of another response has said that more follows.
From then on its token is examined again

- at once when something is announced that may concern it (`EventBus`), or when announcements may have been missed,
- when a deadline of the session comes,
- and in any case every `recheck_every`, so that there is a bound where no announcement arrives.

Nothing is ended by an announcement alone: it says when to look, the store says what is true. While the store cannot
answer, connections stay open and are examined again once a probe is answered (`revalidation_queue.py`), until
`unanswered_timeout` is over: then they end as a request does that meets an outage, and nobody is told that a session
has ended.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from coatcheck.errors import (
    AuthenticationRequiredError,
    ConfigurationError,
    InsufficientScopeError,
    NotOpenError,
    StoreUnavailable,
)
from coatcheck.events import RevokedAuthenticationAuthId, RevokedAuthenticationScope
from coatcheck.per_loop import PerLoop
from coatcheck.tokens import TokenRefusal
from coatcheck.web.http.problems import problem_of
from coatcheck.web.live.closing_queue import ClosingQueue
from coatcheck.web.live.revalidation_queue import Looks
from coatcheck.web.live.timer_wheel import TimerWheel

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Iterable, Sequence
    from typing import Any

    from coatcheck.events import Message
    from coatcheck.tokens import TokenStanding
    from coatcheck.web.auth_services import HasTokenManagerAndEvents
    from coatcheck.web.http.problems import Problem
    from coatcheck.web.live.connection import LiveConnection

_USE_SECONDS = 0.1  # a tenth of the shortest inactivity timeout there is

_log = logging.getLogger(__name__)


class LiveConnections:
    """All live connections of an application, and when each is looked at. Needs no start and no stop."""

    def __init__(
        self,
        auth: HasTokenManagerAndEvents,
        *,
        recheck_every: timedelta = timedelta(seconds=15),
        unanswered_timeout: timedelta | None = timedelta(minutes=1),
        grace: timedelta = timedelta(seconds=5),
        postpone_full_collections: bool = False,
    ) -> None:
        """Watch over connections to what `auth` validates.

        `recheck_every` is the longest time between two looks at a token; each is up to a fifth earlier, so that they
        spread. `unanswered_timeout` is how long a connection stays open without an answer from the store, None for as
        long as that takes. `grace` is how long the application may take to clean up after a WebSocket was closed.

        `postpone_full_collections` has Python's full garbage collections wait while more than fifty connections end,
        for a second at most. It sets `gc.set_threshold`, which is the whole process's, so it is off unless you ask for
        it. Want it where thousands end at once and a third of a second matters: with 2000 open connections a full
        collection takes some 0.3 s, in which nobody is told anything. Where all of them ended at once, the 99th
        percentile was 0.4 to 0.6 s in about half of the rounds without this, and below 0.3 s in each round with it
        (`make bench-live`).

        Raises:
            ConfigurationError: a time is not above zero, or `postpone_full_collections` is neither True nor False.
        """
        for name, value in (
            ("recheck_every", recheck_every),
            ("unanswered_timeout", unanswered_timeout),
            ("grace", grace),
        ):
            is_none = value is None and name == "unanswered_timeout"
            if not is_none and (not isinstance(value, timedelta) or value <= timedelta(0)):
                raise ConfigurationError(f"{name} must be a timedelta above zero")
        if not isinstance(postpone_full_collections, bool):
            raise ConfigurationError("postpone_full_collections must be True or False")
        self._auth = auth
        self._is_subscribed = False
        self._loops = PerLoop(
            lambda: LoopConnections(
                auth,
                recheck_seconds=recheck_every.total_seconds(),
                unanswered_seconds=None if unanswered_timeout is None else unanswered_timeout.total_seconds(),
                endings=ClosingQueue(grace.total_seconds(), postpone_full_collections=postpone_full_collections),
            )
        )

    def __len__(self) -> int:
        """How many there are now."""
        return sum(len(connections) for _, connections in self._loops.all())

    def add(self, connection: LiveConnection) -> None:
        """Watch over a connection from now on."""
        if not self._is_subscribed:
            self._auth.events.subscribe(self._hear)
            self._is_subscribed = True
        self._loops.here().add(connection)

    def remove(self, connection: LiveConnection) -> None:
        """Leave a connection alone that is over."""
        for _, connections in self._loops.all():  # not `here`: a request that is thrown away may end without a loop
            connections.remove(connection)

    def note_use(self, connection: LiveConnection) -> None:
        """Count what has arrived on a connection as a use of its session, ten times a second at most, one at a time."""
        self._loops.here().note_use(connection)

    def count_use(self, token: str) -> None:
        """Count a use of its session that was not counted when it was examined."""
        self._loops.here().count_use(token)

    async def _hear(self, message: Message) -> None:
        here = asyncio.get_running_loop()
        for loop, connections in self._loops.all():
            if loop is here:
                connections.hear(message)
            else:
                with suppress(RuntimeError):  # it has just ended
                    loop.call_soon_threadsafe(connections.hear, message)


class LoopConnections:
    """The live connections of one event loop."""

    def __init__(
        self,
        auth: HasTokenManagerAndEvents,
        *,
        recheck_seconds: float,
        unanswered_seconds: float | None,
        endings: ClosingQueue,
    ) -> None:
        """See `LiveConnections`. `endings` ends them."""
        self._auth = auth
        self._recheck_seconds = recheck_seconds
        self._unanswered_seconds = unanswered_seconds
        # By user and session: many sessions of one user may end one by one.
        self._watched: dict[str, dict[str, set[LiveConnection]]] = {}
        self._looks = Looks(self._examine, self._leave_unanswered, self._of_the_session)
        self._due: TimerWheel[LiveConnection] = TimerWheel(self._looks.add)
        self._endings = endings
        self._under_way: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many there are now."""
        return sum(len(theirs) for sessions in self._watched.values() for theirs in sessions.values())

    def add(self, connection: LiveConnection) -> None:
        """See `LiveConnections.add`."""
        self._watched.setdefault(connection.user_id, {}).setdefault(connection.session_id, set()).add(connection)
        self._looks.add([connection])  # what ended between its validation and now was announced to nobody

    def remove(self, connection: LiveConnection) -> None:
        """See `LiveConnections.remove`."""
        sessions = self._watched.get(connection.user_id, {})
        theirs = sessions.get(connection.session_id, set())
        theirs.discard(connection)
        if not theirs:
            sessions.pop(connection.session_id, None)
        if not sessions:
            self._watched.pop(connection.user_id, None)
        self._due.discard(connection)
        self._looks.discard(connection)

    def note_use(self, connection: LiveConnection) -> None:
        """See `LiveConnections.note_use`."""
        now = asyncio.get_running_loop().time()
        if now >= connection.counts_from and not connection.is_being_used:
            connection.counts_from = now + _USE_SECONDS
            connection.is_being_used = True
            self._start(self._use(connection.token, connection))

    def count_use(self, token: str) -> None:
        """See `LiveConnections.count_use`."""
        self._start(self._use(token))

    async def _use(self, token: str, connection: LiveConnection | None = None) -> None:
        try:
            answer = await self._auth.token_manager.explain_token(token)
        except (StoreUnavailable, NotOpenError):
            return  # not a use that anybody could have written down
        finally:
            if connection is not None:
                connection.is_being_used = False
        if connection is not None and isinstance(answer, TokenRefusal):
            self._looks.add([connection])

    def hear(self, message: Message) -> None:
        """Look at the connections that a message concerns."""
        if message.user_id is None:
            everybody = self._watched.values()
            self._looks.add_all([one for sessions in everybody for theirs in sessions.values() for one in theirs])
            return
        sessions = self._watched.get(message.user_id, {})
        session_id = None
        if isinstance(message, RevokedAuthenticationAuthId | RevokedAuthenticationScope):
            session_id = message.auth_id
        if session_id is None:
            self._looks.add([one for theirs in sessions.values() for one in theirs])
        else:
            self._looks.add(sessions.get(session_id, ()))

    async def _examine(self, token: str, connections: Sequence[LiveConnection]) -> bool:
        """Look at the token of these connections. Returns whether the store has answered."""
        asked_at = asyncio.get_running_loop().time()
        try:
            standing = await self._auth.token_manager.examine_token(token)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is no reason to look no more)
            if not isinstance(error, StoreUnavailable | NotOpenError):  # or the pod closes before its server does
                _log.exception("live connections could not be examined")
            self._leave_unanswered(connections)
            return False
        answer = standing.answer
        if isinstance(answer, TokenRefusal):
            self._end(connections, problem_of(AuthenticationRequiredError(), refusal=answer))
            return True
        for connection in connections:
            connection.confirm(answer, asked_at)  # first: what the application requires from now on is judged by it
            missing = sorted(connection.required_scopes - answer.scopes)
            if missing:
                required = sorted(connection.required_scopes)
                self._end([connection], problem_of(InsufficientScopeError(missing, required=required)))
            else:
                self._put_off(connection, self._seconds_until_next(standing))
        return True

    def _leave_unanswered(self, connections: Collection[LiveConnection]) -> None:
        """End those that have been without an answer for too long, and set the others aside."""
        now = asyncio.get_running_loop().time()
        given_up = []
        for connection in connections:
            if not self._is_watched(connection):
                continue
            if self._unanswered_seconds is None:
                self._looks.set_aside(connection)
                continue
            seconds = connection.confirmed_at + self._unanswered_seconds - now
            if seconds > 0:
                self._due.put(connection, seconds)
                self._looks.set_aside(connection)
            else:
                given_up.append(connection)
        if given_up:
            self._end(given_up, problem_of(StoreUnavailable()))

    def _end(self, connections: Iterable[LiveConnection], problem: Problem) -> None:
        ending = [connection for connection in connections if self._is_watched(connection)]
        for connection in ending:
            self.remove(connection)
            connection.stop(problem)
        self._endings.add(ending)

    def _put_off(self, connection: LiveConnection, seconds: float) -> None:
        if self._is_watched(connection):
            self._due.put(connection, seconds)

    def _is_watched(self, connection: LiveConnection) -> bool:
        """Whether it is neither over nor ending."""
        return connection in self._of_the_session(connection)

    def _of_the_session(self, connection: LiveConnection) -> Collection[LiveConnection]:
        return self._watched.get(connection.user_id, {}).get(connection.session_id, ())

    def _seconds_until_next(self, standing: TokenStanding) -> float:
        seconds = self._recheck_seconds * random.uniform(0.8, 1)  # noqa: S311 (spreads load, guards nothing)
        return seconds if standing.ends_in_us is None else min(seconds, standing.ends_in_us / 1_000_000)

    def _start(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(step)
        self._under_way.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._under_way.discard)
