"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): asked for, and written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MEDIA_TYPE = b"text/event-stream"


def asks_for_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the client has named the media type in Accept. "*/*" does not ask for an event stream."""
    for name, value in headers:  # noqa: SIM110 (a generator is entered anew for each header of each request)
        if name == b"accept" and MEDIA_TYPE in value.lower():
            return True
    return False


def event(name: str, data: bytes) -> bytes:
    """One event, whose data is one line."""
    return b"event: " + name.encode("ascii") + b"\ndata: " + data + b"\n\n"
