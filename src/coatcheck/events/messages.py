"""What is announced when authentication ends or shrinks. The names are the seed's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from coatcheck.identifiers import UserId
    from coatcheck.scope import Scope


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


Message: TypeAlias = RevokedAuthenticationUser | RevokedAuthenticationAuthId | RevokedAuthenticationScope
