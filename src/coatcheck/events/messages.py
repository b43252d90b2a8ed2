"""What is announced when authentication ends or shrinks. The names are the seed's."""

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
    except_auth_id: str | None = None


@dataclass(frozen=True, slots=True)
class RevokedAuthenticationAuthId:
    """One session ended."""

    user_id: UserId
    auth_id: str


@dataclass(frozen=True, slots=True)
class RevokedAuthenticationScope:
    """Scopes were taken from one session, or (`auth_id` None) from all sessions of a user."""

    user_id: UserId
    scopes: frozenset[Scope]
    auth_id: str | None = None


@dataclass(frozen=True, slots=True)
class AnnouncementsMissed:
    """Something may have ended or been taken away that this process has not heard of, and never will.

    The store was out of reach, there was too much at once, or a change of this process's own had an outcome that is not
    known. Whoever keeps something open for a session, a connection or a cache of their own, validates it again.
    `user_id` is whose sessions that concerns, None: anybody's. The only message that is not the seed's.
    """

    user_id: UserId | None = None


Message: TypeAlias = (
    RevokedAuthenticationUser | RevokedAuthenticationAuthId | RevokedAuthenticationScope | AnnouncementsMissed
)


def message_of(announcement: Announcement) -> Message:
    """What subscribers are told of an announcement."""
    user_id, session_id = announcement.user_id, announcement.session_id
    if announcement.removed_scopes is not None:
        return RevokedAuthenticationScope(user_id, announcement.removed_scopes, session_id)
    if session_id is not None:
        return RevokedAuthenticationAuthId(user_id, session_id)
    return RevokedAuthenticationUser(user_id, announcement.spared)
