"""The records that a store keeps and hands out. Times are microseconds since the Unix epoch, on the store's clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, NewType

from coatcheck.client_info import UNKNOWN_CLIENT, ClientInfo

if TYPE_CHECKING:
    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.announcement import Announcement


class KeyHash(NamedTuple):
    """The stored hash of a secret. `pepper_id` names the pepper; None where the writer did not say."""

    hash: bytes
    salt: bytes
    pepper_id: str | None

    def __repr__(self) -> str:
        """Show the pepper's id only."""
        return f"KeyHash(pepper_id={self.pepper_id!r})"


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session as it is stored.

    `scopes` is None where the row holds something that is not a set of scopes; such a session is refused.
    `follows_user` says that the scopes are the user's and change with them.
    """

    id: SessionId
    user_id: UserId
    method: str
    scopes: frozenset[Scope] | None
    follows_user: bool
    created_at_us: int
    last_used_at_us: int
    expires_at_us: int | None
    expire_after_unused_for_us: int | None
    key: KeyHash


class SessionReading(NamedTuple):
    """The part of a session that a validation needs, and the store's clock at the moment it was read.

    A tuple, as `KeyHash` is: one is made for every request, and no other record is made faster.
    """

    id: SessionId
    user_id: UserId
    scopes: frozenset[Scope] | None
    last_used_at_us: int
    expires_at_us: int | None
    expire_after_unused_for_us: int | None
    key: KeyHash
    now_us: int


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session as lists show it: with the client it was made on, which no validation reads."""

    session: SessionRecord
    client: ClientInfo


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be inserted. The store sets its times by its own clock.

    `expires_at_us` is absolute; without it `lifetime_us`, if any, counts from the insertion. `replaces` is a session,
    of this user or another, that is deleted in the step that inserts this one; it may be gone already.
    """

    id: SessionId
    user_id: UserId
    method: str
    scopes: frozenset[Scope]
    follows_user: bool
    expires_at_us: int | None
    lifetime_us: int | None
    expire_after_unused_for_us: int | None
    key: KeyHash
    client: ClientInfo = UNKNOWN_CLIENT
    replaces: SessionId | None = None

    def expires_at_us_from(self, now_us: int) -> int | None:
        """The absolute deadline of a session that is inserted at this time; None where it has none."""
        if self.expires_at_us is None and self.lifetime_us is not None:
            return now_us + self.lifetime_us
        return self.expires_at_us

    def inserted(self, now_us: int) -> SessionRecord:
        """The session as it is stored when it was inserted at this time."""
        return SessionRecord(
            id=self.id,
            user_id=self.user_id,
            method=self.method,
            scopes=self.scopes,
            follows_user=self.follows_user,
            created_at_us=now_us,
            last_used_at_us=now_us,
            expires_at_us=self.expires_at_us_from(now_us),
            expire_after_unused_for_us=self.expire_after_unused_for_us,
            key=self.key,
        )


@dataclass(frozen=True, slots=True)
class SessionUse:
    """A session was used at this time of the store's clock."""

    session_id: SessionId
    used_at_us: int


@dataclass(frozen=True, slots=True)
class Rehash:
    """Replace one stored hash by another, if it is still the one that was read."""

    session_id: SessionId
    old: KeyHash
    new: KeyHash


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions are meant: those that match everything that is not None."""

    user_id: UserId | None = None
    session_id: SessionId | None = None
    method: str | None = None


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that was just deleted."""

    user_id: UserId
    session_id: SessionId


@dataclass(frozen=True, slots=True)
class UserEpochs:
    """Two counters: one moves when all sessions of a user are ended, the other when their scopes are changed.

    A sign-in reads both before it checks anything, and hands them in with the insertion: if one has moved, the
    sign-in was overtaken. A user without a row is at (0, 0). They outlive the user: whoever gets the id next is not
    taken for the one before.
    """

    revocations: int = 0
    rescopes: int = 0


@dataclass(frozen=True, slots=True)
class UserRecord:
    """One user as stored.

    `is_registered` says that the user was made by `insert_user`. Where users live in the application the store
    keeps a row for the epochs and the scopes it last heard of, and it is False.
    """

    id: UserId
    created_at_us: int
    scopes: frozenset[Scope]
    blocked: bool
    is_registered: bool
    epochs: UserEpochs


Position = NewType("Position", str)
"""A place in the history of a store: a change is before it if it was committed before. The text is opaque."""


class InsertRefusal(Enum):
    """Why a store did not insert a session."""

    USER_REVOKED = "all sessions of the user were ended since the epochs were read, or after the position"
    USER_RESCOPED = "the scopes of the user changed since the epochs were read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The sessions that a call has ended, and the scopes that it has taken away: such a call returns one of these.

    `ended` has the sessions that were deleted. `announced` is what the store has told other processes, in the same
    transaction: with it the caller tells its own. Only pruning deletes sessions without announcing it.
    """

    ended: tuple[EndedSession, ...] = ()
    announced: tuple[Announcement, ...] = ()


@dataclass(frozen=True, slots=True)
class Insertion(Change):
    """A session that was inserted. The session that it has replaced, if any, is in `ended`."""

    session: SessionRecord


@dataclass(frozen=True, slots=True)
class UserChange(Change):
    """A user after a change, and the scopes that were taken away from them and from their sessions."""

    user: UserRecord
    removed_scopes: frozenset[Scope] = frozenset()


@dataclass(frozen=True, slots=True)
class ScopeChange(Change):
    """A session after its scopes were changed, and the scopes it lost."""

    session: SessionRecord
    removed_scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class ExpiredSweep(Change):
    """One step of pruning by the absolute deadline. `is_done`: it found fewer sessions than it may delete."""

    is_done: bool


@dataclass(frozen=True, slots=True)
class IdleSweep(Change):
    """One step of pruning by the idle deadline, and the id to go on after (None: done)."""

    next_after: SessionId | None


@dataclass(frozen=True, slots=True)
class PepperCount:
    """How many sessions were hashed with a pepper; `pepper_id` None counts rows that do not say."""

    pepper_id: str | None
    sessions: int


@dataclass(frozen=True, slots=True)
class PepperRecord:
    """A pepper that sessions of this store are hashed with: its id, and 32 bytes by which a process knows it again."""

    id: str
    check_value: bytes = field(repr=False)
