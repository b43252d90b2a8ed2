"""The messages to subscribers when sessions end or lose scopes.

The names are Serverpod's, except for `AnnouncementsMissed`, which it does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from coatcheck.identifiers import UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.announcement import Announcement


@dataclass(frozen=True, slots=True)
class RevokedAuthenticationUser:
    """All sessions of a user ended. `except_auth_id` is the one that was spared, if any."""

    user_id: UserId
    """The user whose sessions have all ended."""
    except_auth_id: str | None = None
    """The one session that lives on; None: none does."""


@dataclass(frozen=True, slots=True)
class RevokedAuthenticationAuthId:
    """One session ended."""

    user_id: UserId
    """The user of the session."""
    auth_id: str
    """The id of the session that has ended."""


@dataclass(frozen=True, slots=True)
class RevokedAuthenticationScope:
    """Scopes were taken from one session, or (`auth_id` None) from all sessions of a user."""

    user_id: UserId
    """The user of the sessions."""
    scopes: frozenset[Scope]
    """The scopes that were lost."""
    auth_id: str | None = None
    """The session that lost them; None: all of the user's."""


@dataclass(frozen=True, slots=True)
class AnnouncementsMissed:
    """Sessions may have ended or lost scopes without a message to this process.

    Either the store could not be reached, or there were too many announcements at once, or the outcome of a change of
    this process is not known. An application that keeps a connection or a cache for a session validates it again.
    `user_id` is the user whose sessions are concerned; None: the sessions of any user.
    """

    user_id: UserId | None = None
    """The user whose sessions may have ended; None: any user."""


Message: TypeAlias = (
    RevokedAuthenticationUser | RevokedAuthenticationAuthId | RevokedAuthenticationScope | AnnouncementsMissed
)


def message_of(announcement: Announcement) -> Message:
    """The message to subscribers about an announcement."""
    user_id, session_id = announcement.user_id, announcement.session_id
    if announcement.removed_scopes is not None:
        return RevokedAuthenticationScope(user_id, announcement.removed_scopes, session_id)
    if session_id is not None:
        return RevokedAuthenticationAuthId(user_id, session_id)
    return RevokedAuthenticationUser(user_id, announcement.spared)
