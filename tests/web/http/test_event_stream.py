"""Server-sent events: asked for by name, and written as their standard has it."""

from __future__ import annotations

import pytest

from coatcheck.web.http.event_stream import asks_for_event_stream, event


@pytest.mark.parametrize(
    ("headers", "asks"),
    [
        ([], False),
        ([(b"accept", b"text/event-stream")], True),
        ([(b"accept", b"TEXT/Event-Stream, */*;q=0.1")], True),
        ([(b"accept", b"text/html"), (b"accept", b"text/event-stream")], True),
        ([(b"accept", b"*/*")], False),
        ([(b"accept", b"text/*")], False),
        ([(b"content-type", b"text/event-stream")], False),
    ],
)
def test_only_a_client_that_names_the_media_type_asks_for_an_event_stream(
    headers: list[tuple[bytes, bytes]], *, asks: bool
) -> None:
    assert asks_for_event_stream(headers) is asks


def test_an_event_has_a_name_one_line_of_data_and_an_empty_line() -> None:
    assert event("session_live", b"{}") == b"event: session_live\ndata: {}\n\n"
