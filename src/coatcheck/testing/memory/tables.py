"""The rows of a `MemoryDatabase`, and the changes that several calls of a store make to them. No I/O, no waiting."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import Change, EndedSession, SessionFilter, UserChange, UserEpochs, UserRecord, epoch_step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coatcheck.clock import Clock
    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.records import ListedSession, PepperRecord, SessionRecord, SessionUse


class Tables:
    """All rows, and the clock. The records are frozen, so that a copy of the mappings is a copy of everything."""

    def __init__(self, clock: Clock) -> None:
        """Without rows."""
        self._clock = clock
        self.sessions: dict[SessionId, ListedSession] = {}
        self.users: dict[UserId, UserRecord] = {}
        self.locks: dict[str, tuple[str, int]] = {}
        self.peppers: dict[str, PepperRecord] = {}
        self.endings: int = 0  # goes up whenever all sessions of a user are ended
        self.last_ending: dict[UserId, int] = {}

    def copy(self) -> Tables:
        """Tables of their own with the same rows."""
        tables = Tables(self._clock)
        tables.sessions, tables.users, tables.locks = dict(self.sessions), dict(self.users), dict(self.locks)
        tables.peppers = dict(self.peppers)
        tables.endings, tables.last_ending = self.endings, dict(self.last_ending)
        return tables

    @property
    def now_us(self) -> int:
        """The clock that judges deadlines."""
        return self._clock.now_us()

    def user(self, user_id: UserId) -> UserRecord:
        """The user's row. A user without one is not registered, and at the first epochs."""
        unknown = UserRecord(user_id, self.now_us, frozenset(), blocked=False, is_registered=False, epochs=UserEpochs())
        return self.users.get(user_id, unknown)

    def matching(self, which: SessionFilter, *, after: SessionId | None = None) -> list[SessionRecord]:
        """The sessions that match, in order of id, behind the id `after`."""
        return [
            session
            for session in (self.sessions[session_id].session for session_id in sorted(self.sessions))
            if which.user_id in (None, session.user_id)
            and which.session_id in (None, session.id)
            and which.method in (None, session.method)
            and (after is None or session.id > after)
        ]

    def is_past_deadline(self, session: SessionRecord) -> bool:
        """Whether the absolute deadline has come."""
        return session.expires_at_us is not None and self.now_us >= session.expires_at_us

    def is_idle(self, session: SessionRecord) -> bool:
        """Whether the idle deadline has come."""
        unused_for_us = session.expire_after_unused_for_us
        return unused_for_us is not None and self.now_us >= session.last_used_at_us + unused_for_us

    def update(self, session: SessionRecord) -> None:
        """Write a session whose row is there."""
        self.sessions[session.id] = replace(self.sessions[session.id], session=session)

    def touch(self, use: SessionUse) -> None:
        """Move a last use forward, or back from the future of the clock, and never past the clock."""
        session = self.sessions[use.session_id].session
        is_ahead = session.last_used_at_us > self.now_us
        used_at_us = use.used_at_us if is_ahead else max(use.used_at_us, session.last_used_at_us)
        self.update(replace(session, last_used_at_us=min(used_at_us, self.now_us)))

    def delete(self, sessions: Iterable[SessionRecord]) -> Change:
        """Delete rows that are there, each with an announcement of its own."""
        gone = [self.sessions.pop(one.id).session for one in sessions]
        ended = tuple(EndedSession(one.user_id, one.id) for one in gone)
        return Change(ended=ended, announced=tuple(Announcement(one.user_id, one.id) for one in gone))

    def end_user(self, user_id: UserId, *, method: str | None = None, spared: SessionId | None = None) -> Change:
        """Move the revocations epoch, and delete the user's sessions: all, those of a method, all but one."""
        user = self.user(user_id)
        revocations = user.epochs.revocations + epoch_step()
        self.users[user_id] = replace(user, epochs=replace(user.epochs, revocations=revocations))
        self.endings = max(self.endings + 1, self.now_us)  # above what it was before the tables were emptied, too
        self.last_ending[user_id] = self.endings
        theirs = self.matching(SessionFilter(user_id=user_id, method=method))
        change = self.delete(one for one in theirs if one.id != spared)
        return change if method is not None else replace(change, announced=(Announcement(user_id, spared=spared),))

    def rescope_user(self, user_id: UserId, scopes: frozenset[Scope]) -> UserChange:
        """Move the user's rescopes epoch, and change their scopes and those of their sessions."""
        before = self.user(user_id)
        removed = before.scopes - scopes
        epochs = replace(before.epochs, rescopes=before.epochs.rescopes + epoch_step())
        self.users[user_id] = replace(before, scopes=scopes, epochs=epochs)
        for session in self.matching(SessionFilter(user_id=user_id)):
            if session.follows_user:
                self.update(replace(session, scopes=scopes))
            elif session.scopes is not None:
                self.update(replace(session, scopes=session.scopes - removed))
        lost = (Announcement(user_id, removed_scopes=removed),) if removed else ()
        return UserChange(self.users[user_id], removed, announced=lost)
