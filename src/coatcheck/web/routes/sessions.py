"""A signed-in person looks after their sessions: the logic behind the routes of every framework's module.

Each coroutine takes the ASGI scope (or a Starlette `Request` around it) after `SessionMiddleware`, and returns plain
data or a `Problem`. The user is always taken from the caller's own session, never from the request.
"""

# FastAPI reads these annotations when it describes the routes, so their names are imported for real.

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coatcheck.errors import InvalidArgumentError
from coatcheck.pages import DEFAULT_PAGE_SIZE
from coatcheck.tokens import TokenInfo
from coatcheck.web.auth_services import HasTokenManager
from coatcheck.web.http.problems import Problem, invalid_request, session_not_found
from coatcheck.web.http.redirects import reason_of
from coatcheck.web.requirements import require
from coatcheck.web.routes.events import EVENTS_PATH
from coatcheck.web.settings import settings_of
from coatcheck.web.state import request_state

MAX_AFTER_LENGTH = 1024
"""Characters of a page's `after` that are handed on to the token manager."""


@dataclass(frozen=True, slots=True)
class Status:
    """Whether the caller is signed in. `reason` says why not, where a token was shown.

    It is "expired" or "inactive" where their own session has ended so, and "revoked" where there is no such session.
    `events` is where a client may listen for the end of the session, relative to where the session routes are; None
    where nobody is signed in, or where nothing watches over open connections.
    """

    signed_in: bool
    """Whether somebody is signed in."""
    user_id: str | None = None
    """The caller."""
    session_id: str | None = None
    """The session of this request."""
    scopes: tuple[str, ...] = ()
    """Its scopes, sorted."""
    reason: str | None = None
    """Why the session that was sent is over, where it may be told."""
    events: str | None = None
    """Where to hear of its end, relative to this route; None: nowhere."""


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """One of the caller's sessions. Times are aware UTC datetimes; `current` marks the one that asks.

    `label`, `user_agent` and `ip_address` are what was known of the client when it signed in.
    """

    id: str
    """The id, by which it can be ended."""
    method: str
    """How the user signed in."""
    scopes: tuple[str, ...]
    """Its scopes, sorted."""
    created_at: datetime
    """The moment of sign-in."""
    last_used_at: datetime
    """About when it was last used."""
    expires_at: datetime | None
    """The absolute deadline; None: there is none."""
    current: bool
    """Whether it is that of this request."""
    label: str | None
    """A name of the device, for people."""
    user_agent: str | None
    """The User-Agent header of the sign-in."""
    ip_address: str | None
    """The address of the sign-in."""


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of the caller's sessions. `next_after` is the `after` of the next page, None on the last."""

    sessions: tuple[SessionSummary, ...]
    """The sessions, in order of id."""
    next_after: str | None
    """The `after` of the next page; None on the last."""


async def status(request: Mapping[str, Any]) -> Status:
    """Say whether the caller is signed in. Strangers are answered as well.

    Raises:
        StoreUnavailable: a token was sent and the store could not say whether it is valid.
    """
    state = request_state(request)
    caller = state.authentication
    if caller is None:
        return Status(signed_in=False, reason=reason_of(state.refusal))
    events = EVENTS_PATH.removeprefix("/") if settings_of(request).ends_with_session else None
    return Status(True, caller.user_identifier, caller.auth_id, tuple(sorted(caller.scopes)), events=events)


async def my_sessions(
    auth: HasTokenManager, request: Mapping[str, Any], *, after: str | None = None, limit: int = DEFAULT_PAGE_SIZE
) -> SessionPage | Problem:
    """The caller's sessions, a page at a time; never a token. A 400 problem if `after` or `limit` is wrong.

    Raises:
        AuthenticationRequiredError: nobody is signed in.
        StoreUnavailable: the store cannot answer.
    """
    caller = require(request)
    if after is not None and len(after) > MAX_AFTER_LENGTH:
        return invalid_request(InvalidArgumentError("after must be the next_after of an earlier page"))
    try:
        page = await auth.token_manager.list_tokens(auth_user_id=caller.user_identifier, after=after, limit=limit)
    except InvalidArgumentError as error:
        return invalid_request(error)
    return SessionPage(tuple(_summary(token, current=caller.auth_id) for token in page), page.next_after)


async def end_session(auth: HasTokenManager, request: Mapping[str, Any], session_id: str) -> Problem | None:
    """End one of the caller's sessions; None if that was done.

    Somebody else's session, one that is over and an id that never was get the same 404 problem and are left alone.

    Raises:
        AuthenticationRequiredError: nobody is signed in.
        StoreUnavailable, RevocationIndeterminate: as `sign_out`.
    """
    caller = require(request)
    try:
        ended = await auth.token_manager.revoke_token(token_id=session_id, auth_user_id=caller.user_identifier)
    except InvalidArgumentError:  # it is no id at all
        ended = False
    return None if ended else session_not_found()


def _summary(token: TokenInfo, *, current: str) -> SessionSummary:
    return SessionSummary(
        id=token.token_id,
        method=token.method,
        scopes=tuple(sorted(token.scopes)),
        created_at=token.created_at,
        last_used_at=token.last_used_at,
        expires_at=token.expires_at,
        current=token.token_id == current,
        label=token.client.label,
        user_agent=token.client.user_agent,
        ip_address=token.client.ip_address,
    )
