"""Listening for the end of the session: one flow for blocking and asynchronous programs, as in `flows.py`.

While somebody is signed in here, the flow opens the server's events route, reads the events, and opens the route again
when the stream breaks. Otherwise it waits for a sign-in. Only two things end the session here: the problem in the
last event, or the server's 401 in place of a stream. A broken stream, an outage and silence do not.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from coatcheck.client.answers import is_event_stream
from coatcheck.client.event_lines import EventLines
from coatcheck.client.flows import Need, Send
from coatcheck.client.http_library import http_errors
from coatcheck.client.refusal_body import MAX_BYTES
from coatcheck.errors import StorageError

if TYPE_CHECKING:
    import httpx2

    from coatcheck.client.flows import Flows
    from coatcheck.tokens import AuthSuccess

T = TypeVar("T")

OPEN_SECONDS = 10.0
"""The time limit of each step until the head of the answer has arrived."""

SILENCE_SECONDS = 60.0
"""A connection that is silent for so long is dead: servers send a comment at least every 30 seconds."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

_log = logging.getLogger("coatcheck.client")


class Interrupted(Exception):  # noqa: N818 (no error: who is signed in may have changed)
    """Somebody has signed in or out, so the wait is over."""


class Attend:
    """From now on, a sign-in or sign-out interrupts the needs below."""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Send the request; the result is the response as soon as its head has arrived. May raise `Interrupted`."""

    request: Send


@dataclass(frozen=True, slots=True)
class ReadStream:
    """Read the next part of the body; the result is None at its end. May raise `Interrupted`."""

    response: httpx2.Response


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Close the response."""

    response: httpx2.Response


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for `seconds`. May raise `Interrupted`."""

    seconds: float


ListeningNeed: TypeAlias = Need | Attend | OpenStream | ReadStream | CloseStream | Pause
ListeningFlow: TypeAlias = Generator[ListeningNeed, Any, T]


def opening_timeout() -> float:
    """The time limit of each step until the head of the answer has arrived."""
    return OPEN_SECONDS


def allow_silence(response: httpx2.Response) -> None:
    """Allow more time for each part of the body than for the head."""
    # httpx2 has one limit for both. Its transport reads it from here again before it reads the body.
    response.request.extensions["timeout"]["read"] = SILENCE_SECONDS


def listening(flows: Flows) -> ListeningFlow[None]:
    """Listen until the runner raises an exception to stop it."""
    pauses = _Pauses()
    while True:
        yield Attend()
        try:
            yield from _listen_once(flows, pauses)
        except Interrupted:
            continue
        with suppress(Interrupted):
            yield Pause(pauses.next())


def _listen_once(flows: Flows, pauses: _Pauses) -> ListeningFlow[None]:
    """Listen until the stream breaks."""
    try:
        info = yield from flows.current()
        if info is None:
            pauses.reset()
            yield Pause(LONGEST_PAUSE_SECONDS)  # then check whether another process has signed in
        else:
            yield from _hear(flows, info, pauses)
    except http_errors(StorageError):
        pass  # the stream is opened again after a pause
    except Interrupted:
        raise
    except Exception:  # noqa: BLE001 (an unexpected error is logged; otherwise the listening would stop in silence)
        _log.exception("listening for the end of the session was interrupted")


def _hear(flows: Flows, info: AuthSuccess, pauses: _Pauses) -> ListeningFlow[None]:
    response: httpx2.Response = yield OpenStream(flows.events_request(info))
    try:
        if flows.may_be_the_end(response):
            body = yield from _body(response)
            yield from flows.after(body, info)
        elif is_event_stream(response, flows.origin):
            lines = EventLines()
            while (part := (yield ReadStream(response))) is not None:
                for event in lines.feed(part):
                    if event.name == "session_ended":
                        yield from flows.after(event.data, info)
                        return
                if lines.comments:
                    pauses.reset()  # the stream has lasted; one that is cut at once is opened at growing intervals
    finally:
        yield CloseStream(response)


def _body(response: httpx2.Response) -> ListeningFlow[bytes | None]:
    """The body of a refusal; None if it is longer than MAX_BYTES."""
    body = b""
    while (part := (yield ReadStream(response))) is not None:
        body += part
        if len(body) > MAX_BYTES:
            return None
    return body


class _Pauses:
    """The pauses before the stream is opened again: twice as long each time, and random, so that clients spread out."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE_SECONDS

    def reset(self) -> None:
        self._seconds = FIRST_PAUSE_SECONDS

    def next(self) -> float:
        seconds, self._seconds = self._seconds, min(2 * self._seconds, LONGEST_PAUSE_SECONDS)
        return seconds * random.uniform(0.5, 1.5)  # noqa: S311 (spreads load, guards nothing)
