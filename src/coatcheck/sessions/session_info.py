"""A session as lists show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coatcheck.clock import from_us

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from coatcheck.client_info import ClientInfo
    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.records import ListedSession


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session as lists show it. Times are aware UTC datetimes.

    `last_used_at` is as exact as uses are recorded: to a minute, or to a tenth of the inactivity timeout.
    `follows_user` says that the scopes are the user's and change with them. `client` is the device of the session.
    """

    id: SessionId
    """The id of the session. It is no secret."""
    user_id: UserId
    """The user of the session."""
    method: str
    """How the user signed in."""
    scopes: frozenset[Scope]
    """The scopes of the session, as of now."""
    follows_user: bool
    """Whether its scopes are the user's, and change with them."""
    created_at: datetime
    """The moment of sign-in, in UTC."""
    last_used_at: datetime
    """About when it was last used, in UTC."""
    expires_at: datetime | None
    """The absolute deadline, in UTC; None: there is none."""
    expire_after_unused_for: timedelta | None
    """How long it lives without being used; None: there is no such limit."""
    client: ClientInfo
    """The device that signed in."""


def session_info(listed: ListedSession) -> SessionInfo:
    """A listed session as callers see it."""
    session = listed.session
    unused_for_us = session.expire_after_unused_for_us
    return SessionInfo(
        id=session.id,
        user_id=session.user_id,
        method=session.method,
        scopes=session.scopes or frozenset(),
        follows_user=session.follows_user,
        created_at=from_us(session.created_at_us),
        last_used_at=from_us(session.last_used_at_us),
        expires_at=None if session.expires_at_us is None else from_us(session.expires_at_us),
        expire_after_unused_for=None if unused_for_us is None else from_us(unused_for_us) - from_us(0),
        client=listed.client,
    )
