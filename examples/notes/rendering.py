"""Rendering pages from templates."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from accounts import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH
from coatcheck import StoreUnavailable
from coatcheck.web import authentication_of
from notes import MAX_NOTE_LENGTH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

# Only our own files are loaded and run, and no other site may show our pages in a frame (ASVS 3.4.3, 3.4.6).
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: object,
) -> HTMLResponse:
    """The page from `template` and `context`. Every template has `caller`, which is None if nobody is signed in."""
    try:
        caller = authentication_of(request)
    except StoreUnavailable:
        caller = None  # the page for an outage is rendered too
    html = _templates.get_template(template, globals=_LIMITS).render(caller=caller, path=request.url.path, **context)
    return HTMLResponse(html, status, {**_HEADERS, **(headers or {})})


def ago(moment: datetime, now: datetime | None = None) -> str:
    """A time in the past in words. A page does not know the reader's time zone, and a distance needs none."""
    seconds = max(0, int(((now or datetime.now(UTC)) - moment).total_seconds()))
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def ticket_number(session_id: str) -> str:
    """The last digits that differ between a person's sessions, to tell two devices of one kind apart.

    The very last two digits depend on the user only, and are the same for all of the user's sessions.
    """
    return session_id[-6:-2].upper()


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"ago": ago, "ticket_number": ticket_number}
_LIMITS = {
    "max_note_length": MAX_NOTE_LENGTH,
    "min_password_length": MIN_PASSWORD_LENGTH,
    "max_password_length": MAX_PASSWORD_LENGTH,
}
