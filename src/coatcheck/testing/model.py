"""A model of a store: the sessions and users that it should hold, small enough to be believed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from coatcheck.scope import Scope
from coatcheck.stores.records import (
    EndedSession,
    SessionFilter,
    SessionRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.stores.records import NewSession, UserEpochs


Scopes = frozenset[Scope]


@dataclass
class ModelUser:
    """A user as they should be. The epochs are the model's own: it matters whether they moved, not how far."""

    scopes: Scopes = frozenset()
    blocked: bool = False
    is_registered: bool = False
    revocations: int = 0
    rescopes: int = 0


@dataclass(frozen=True)
class Attempt:
    """A sign-in that has begun: what it read of the store, and where the model stood then."""

    user_id: UserId
    epochs: UserEpochs
    scopes: Scopes
    revocations: int
    rescopes: int


@dataclass(frozen=True)
class Wish:
    """The wanted properties of a session of any user. `scopes` None: those of the user."""

    number: int
    method: str
    scopes: Scopes | None
    lifetime_us: int | None
    unused_for_us: int | None


@dataclass
class Model:
    """The rows that the store should hold."""

    now_us: int
    users: dict[UserId, ModelUser] = field(default_factory=dict)
    sessions: dict[SessionId, SessionRecord] = field(default_factory=dict)

    def user(self, user_id: UserId) -> ModelUser:
        """The user, whom the model knows from the start."""
        return self.users.setdefault(user_id, ModelUser())

    def is_past_absolute_deadline(self, session: SessionRecord) -> bool:
        """Whether the absolute deadline has come."""
        return session.expires_at_us is not None and self.now_us >= session.expires_at_us

    def is_idle(self, session: SessionRecord) -> bool:
        """Whether the idle deadline has come."""
        unused_for_us = session.expire_after_unused_for_us
        return unused_for_us is not None and self.now_us >= session.last_used_at_us + unused_for_us

    def is_expired(self, session: SessionRecord) -> bool:
        """Past either deadline."""
        return self.is_past_absolute_deadline(session) or self.is_idle(session)

    def matching(self, which: SessionFilter, *, expired: bool | None = None) -> list[SessionRecord]:
        """The sessions that match, in order of id."""
        return [
            session
            for _, session in sorted(self.sessions.items())
            if which.user_id in (None, session.user_id)
            and which.session_id in (None, session.id)
            and which.method in (None, session.method)
            and expired in (None, self.is_expired(session))
        ]

    def insert(self, new: NewSession) -> SessionRecord:
        """Sign in."""
        self.sessions[new.id] = SessionRecord(
            id=new.id,
            user_id=new.user_id,
            method=new.method,
            scopes=new.scopes,
            follows_user=new.follows_user,
            created_at_us=self.now_us,
            last_used_at_us=self.now_us,
            expires_at_us=None if new.lifetime_us is None else self.now_us + new.lifetime_us,
            expire_after_unused_for_us=new.expire_after_unused_for_us,
            key=new.key,
        )
        return self.sessions[new.id]

    def end(self, sessions: Iterable[SessionRecord]) -> set[EndedSession]:
        """Remove sessions, and say how a store reports it."""
        gone = list(sessions)
        for session in gone:
            del self.sessions[session.id]
        return {EndedSession(session.user_id, session.id) for session in gone}

    def touch(self, session_id: SessionId, used_at_us: int) -> None:
        """Forward, or back where the stored time is ahead of the clock; never past the clock."""
        session = self.sessions[session_id]
        is_ahead = session.last_used_at_us > self.now_us
        used_at_us = used_at_us if is_ahead else max(used_at_us, session.last_used_at_us)
        self.sessions[session_id] = replace(session, last_used_at_us=min(used_at_us, self.now_us))

    def rescope_user(self, user_id: UserId, scopes: Scopes) -> Scopes:
        """Change a user's scopes and those of their sessions, and say what was taken away."""
        user = self.user(user_id)
        removed, user.scopes = user.scopes - scopes, scopes
        user.rescopes += 1
        for session in self.matching(SessionFilter(user_id=user_id)):
            assert session.scopes is not None
            now = scopes if session.follows_user else session.scopes - removed
            self.sessions[session.id] = replace(session, scopes=now)
        return removed
