"""Parsing a stream of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 64 * 1024
"""The longest event that is read. Those of a Coatcheck server have about two hundred bytes."""


class Event(NamedTuple):
    """One event. `data` is text for a JSON parser, as bytes."""

    name: str
    data: bytes


class EventLines:
    """Splits a stream into events. Lines may arrive in pieces. They end in LF or CR LF, as those of every server do."""

    def __init__(self) -> None:
        """Begin an empty stream."""
        self.comments: int = 0
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self._bytes = 0

    def feed(self, part: bytes) -> Iterator[Event]:
        """The events that this part completes. `comments` counts comments, which servers send as a sign of life.

        Raises:
            ValueError: an event is longer than MAX_BYTES.
        """
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            self._bytes += len(line)
            self._check_length()
            event = self._take(line.removesuffix(b"\r"))
            if event is not None:
                yield event
        self._check_length()

    def _check_length(self) -> None:
        if self._bytes + len(self._rest) > MAX_BYTES:
            raise ValueError(f"an event is longer than {MAX_BYTES} bytes")

    def _take(self, line: bytes) -> Event | None:
        field, _, value = line.partition(b":")
        if not line:
            event = Event(self._name or "message", b"\n".join(self._data)) if self._data else None
            self._name, self._data, self._bytes = "", [], 0
            return event
        if not field:
            self.comments += 1
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode(errors="replace")
        elif field == b"data":
            self._data.append(value.removeprefix(b" "))
        return None
