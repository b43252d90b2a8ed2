"""The events route: server-sent events by which a client hears of the end of its own session, at once.

    event: session_live
    data: {"session_id":"0198...","ends_in":1209600.0,"heartbeat":15.0}

    :                                                       every `heartbeat_interval`

    event: session_ended
    data: {"title":"Unauthorized","status":401,"code":"invalid_token","reason":"expired",...}

The last event is `SessionMiddleware`'s, which watches over every stream that is open (`web/live`). A stream that
ends without it says nothing about the session.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError
from coatcheck.per_loop import PerLoop
from coatcheck.third_party_internals import is_uvicorn_exiting
from coatcheck.web.exchanges.pending_use import pending_use_of
from coatcheck.web.http.event_stream import MEDIA_TYPE, event
from coatcheck.web.http.problems import event_stream_not_asked_for
from coatcheck.web.requirements import require
from coatcheck.web.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from coatcheck.web.http.problems import Problem

EVENTS_PATH = "/events"
"""The path of the route, below that of the session routes."""

HEARTBEAT_INTERVAL = timedelta(seconds=15)
"""Proxies cut what is silent for 30 to 60 seconds (AWS and nginx: 60), and are often set to less."""

MAX_HEARTBEAT_INTERVAL = timedelta(seconds=30)
"""Our clients take 60 seconds of silence for a dead connection."""

MAX_STREAMS = 10
"""Streams of one session that are open at a time, in one process."""

_EXIT_LOOK_SECONDS = 0.25
_HEADERS = (
    (b"content-type", MEDIA_TYPE + b"; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep small events until there are more
)


class SessionEvents:
    """The streams of one application."""

    def __init__(self, heartbeat_interval: timedelta = HEARTBEAT_INTERVAL) -> None:
        """Begin with no streams.

        Raises:
            ConfigurationError: `heartbeat_interval` is not a timedelta above zero and of 30 seconds at most.
        """
        if not isinstance(heartbeat_interval, timedelta) or not (
            timedelta(0) < heartbeat_interval <= MAX_HEARTBEAT_INTERVAL
        ):
            raise ConfigurationError("heartbeat_interval must be a timedelta above zero, of 30 seconds at most")
        self._heartbeat_seconds = heartbeat_interval.total_seconds()
        self._loops = PerLoop(LoopStreams)

    def stream(self, request: Mapping[str, Any]) -> AsgiApp | Problem | None:
        """The answer to a signed-in caller; None where nothing watches over connections, so that it would never end.

        Opening a stream is no use of the session, and neither is reading it: clients open it again by themselves. A
        request that did not ask for an event stream was counted as a use already, and gets a problem.

        Raises:
            AuthenticationRequiredError: nobody is signed in.
            StoreUnavailable: a token was sent and the store could not say whether it is valid.
        """
        caller = require(request)
        if not settings_of(request).ends_with_session:
            return None
        use = pending_use_of(request)
        if use is None:
            return event_stream_not_asked_for()
        use.drop()
        ends_in_us = use.ends_in_us
        first = {
            "session_id": caller.auth_id,
            "ends_in": None if ends_in_us is None else ends_in_us / 1_000_000,
            "heartbeat": self._heartbeat_seconds,
        }
        live = event("session_live", json.dumps(first, separators=(",", ":")).encode("ascii"))

        async def answer(scope: AsgiScope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            streams = self._loops.here()
            over = streams.begin(caller.auth_id)
            gone = asyncio.ensure_future(_has_gone(receive))
            try:
                await self._keep_open(live, send, over, gone)
            finally:
                gone.cancel()
                streams.forget(caller.auth_id, over)

        return answer

    async def _keep_open(self, part: bytes, send: Send, over: asyncio.Future[None], gone: asyncio.Future[None]) -> None:
        try:
            while not (over.done() or gone.done()):
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.wait((over, gone), timeout=self._heartbeat_seconds, return_when=asyncio.FIRST_COMPLETED)
                part = b":\n\n"
            await send({"type": "http.response.body", "body": b""})
        except OSError:
            pass  # the client has gone


class LoopStreams:
    """The streams of one event loop."""

    def __init__(self) -> None:
        """Begin with no streams."""
        self._streams: dict[str, list[asyncio.Future[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, session_id: str) -> asyncio.Future[None]:
        """Make room for a stream; its future is done when the stream is to end.

        The oldest makes way, and not the newest: of a client whose network has changed it is the one that is dead.
        """
        theirs = self._streams.setdefault(session_id, [])
        for oldest in theirs[: max(0, len(theirs) - MAX_STREAMS + 1)]:
            _finish(oldest)
            theirs.remove(oldest)
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        theirs.append(over)
        if self._timer is None:
            self._timer = loop.call_later(_EXIT_LOOK_SECONDS, self._look_at_server)
        return over

    def forget(self, session_id: str, over: asyncio.Future[None]) -> None:
        """Note that a stream is over."""
        theirs = self._streams.get(session_id, [])
        if over in theirs:
            theirs.remove(over)
        if not theirs:
            self._streams.pop(session_id, None)
        if not self._streams and self._timer is not None:
            self._timer.cancel()  # it would never go off if this event loop ends, and another may follow
            self._timer = None

    def _look_at_server(self) -> None:
        """End all streams where the server is about to exit: uvicorn waits until nothing is open any more."""
        self._timer = None
        if is_uvicorn_exiting():
            for over in [over for theirs in self._streams.values() for over in theirs]:
                _finish(over)
        elif self._streams:
            self._timer = asyncio.get_running_loop().call_later(_EXIT_LOOK_SECONDS, self._look_at_server)


def _finish(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


async def _has_gone(receive: Receive) -> None:
    """Return when the client has."""
    while (await receive())["type"] != "http.disconnect":
        pass
