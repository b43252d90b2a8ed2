"""Listening for the end of the session: one flow for both kinds of program, as in `flows.py`.

It opens the server's events route, hears what it says, and opens it again when it breaks, for as long as somebody is
signed in here; then it waits for the next one. Only what ends a session anywhere else ends it here: the last event's
problem, or a 401 of ours in place of a stream. A stream that breaks, an outage and silence say nothing.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import httpx

from coatcheck.client.answers import is_event_stream
from coatcheck.client.event_lines import EventLines
from coatcheck.client.flows import Need, Send
from coatcheck.client.refusal_body import MAX_BYTES
from coatcheck.errors import StorageError

if TYPE_CHECKING:
    from coatcheck.client.flows import Flows
    from coatcheck.tokens import AuthSuccess

T = TypeVar("T")

OPEN_SECONDS = 10.0
"""For each step until the head of the answer is there."""

SILENCE_SECONDS = 60.0
"""After so long without a sign of life the connection is dead; servers send one every 30 seconds or more often."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

_log = logging.getLogger("coatcheck.client")


class Interrupted(Exception):  # noqa: N818 (no error: who is signed in may have changed)
    """Somebody has signed in or out: what was waited for is of no interest any more."""


class Attend:
    """From now on, be interrupted by whoever signs in or out."""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Send the request, and give back the response as soon as its head is there. May raise `Interrupted`."""

    request: Send


@dataclass(frozen=True, slots=True)
class ReadStream:
    """Give back the next part of the body, None at its end. May raise `Interrupted`."""

    response: httpx.Response


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Close the response."""

    response: httpx.Response


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so long. May raise `Interrupted`."""

    seconds: float


ListeningNeed: TypeAlias = Need | Attend | OpenStream | ReadStream | CloseStream | Pause
ListeningFlow: TypeAlias = Generator[ListeningNeed, Any, T]


def opening_timeout() -> httpx.Timeout:
    """The limits of each step until the head of the answer is there."""
    return httpx.Timeout(OPEN_SECONDS)


def bear_silence(response: httpx.Response) -> None:
    """Let each part of the body take longer than its head might."""
    # httpx has one limit for both. Its transport looks it up again, here, before it reads the body.
    response.request.extensions["timeout"]["read"] = SILENCE_SECONDS


def listening(flows: Flows) -> ListeningFlow[None]:
    """Listen until it is stopped by an exception that is none of ours."""
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
    """Until what is listened to breaks."""
    try:
        info = yield from flows.current()
        if info is None:
            pauses.reset()
            yield Pause(LONGEST_PAUSE_SECONDS)  # and then look whether another process has signed in
        else:
            yield from _hear(flows, info, pauses)
    except (httpx.HTTPError, StorageError):
        pass  # broken; the pause is all there is to do
    except Interrupted:
        raise
    except Exception:  # noqa: BLE001 (nobody would hear of it, and nothing would be heard any more)
        _log.exception("listening for the end of the session was interrupted")


def _hear(flows: Flows, info: AuthSuccess, pauses: _Pauses) -> ListeningFlow[None]:
    response: httpx.Response = yield OpenStream(flows.asking_for_events(info))
    try:
        if flows.is_news(response):
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
                    pauses.reset()  # it has lasted: one that is cut at once is opened less and less often
    finally:
        yield CloseStream(response)


def _body(response: httpx.Response) -> ListeningFlow[bytes | None]:
    """The body of a refusal; None if it is too long to be ours."""
    body = b""
    while (part := (yield ReadStream(response))) is not None:
        body += part
        if len(body) > MAX_BYTES:
            return None
    return body


class _Pauses:
    """How long to wait before the stream is opened again: twice as long each time, and never all at once."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE_SECONDS

    def reset(self) -> None:
        self._seconds = FIRST_PAUSE_SECONDS

    def next(self) -> float:
        seconds, self._seconds = self._seconds, min(2 * self._seconds, LONGEST_PAUSE_SECONDS)
        return seconds * random.uniform(0.5, 1.5)  # noqa: S311 (spreads load, guards nothing)
