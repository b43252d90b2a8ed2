"""The records that a store keeps and hands out. Times are microseconds since the Unix epoch, on the store's clock."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, NewType

from coatcheck.client_info import UNKNOWN_CLIENT, ClientInfo

if TYPE_CHECKING:
    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.announcement import Announcement

__all__ = [
    "Change",
    "EndedSession",
    "ExpiredSweep",
    "IdleSweep",
    "InsertRefusal",
    "Insertion",
    "KeyHash",
    "ListedSession",
    "NewSession",
    "PepperCount",
    "Position",
    "Rehash",
    "ScopeChange",
    "SessionFilter",
    "SessionReading",
    "SessionRecord",
    "SessionUse",
    "UserChange",
    "UserEpochs",
    "UserRecord",
    "epoch_step",
]

_LARGEST_STEP = 2**31
"""Small beside the 63 bits of the epoch, and too large for two steps to be equal by chance."""


class KeyHash(NamedTuple):
    """The stored hash of a secret. `pepper_id` names the pepper; None where the writer did not say."""

    hash: bytes
    """The hash of the secret, the salt and the pepper."""
    salt: bytes
    """The salt."""
    pepper_id: str | None
    """The short name of the pepper; None: the writer did not say."""

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
    """The id of the session. It is no secret."""
    user_id: UserId
    """The user of the session."""
    method: str
    """How the user signed in."""
    scopes: frozenset[Scope] | None
    """The scopes of the session; None: the stored text is no set of scopes."""
    follows_user: bool
    """Whether its scopes are the user's, and change with them."""
    created_at_us: int
    """The moment of insertion."""
    last_used_at_us: int
    """About when it was last used."""
    expires_at_us: int | None
    """The absolute deadline; None: there is none."""
    expire_after_unused_for_us: int | None
    """How many microseconds it lives without being used; None: there is no such limit."""
    key: KeyHash
    """The hash of its secret."""


class SessionReading(NamedTuple):
    """The part of a session that a validation needs, and the store's clock at the moment it was read.

    A tuple, as `KeyHash` is: one is made for every request, and no other record is made faster.
    """

    id: SessionId
    """The id of the session. It is no secret."""
    user_id: UserId
    """The user of the session."""
    scopes: frozenset[Scope] | None
    """The scopes of the session; None: the stored text is no set of scopes."""
    last_used_at_us: int
    """About when it was last used."""
    expires_at_us: int | None
    """The absolute deadline; None: there is none."""
    expire_after_unused_for_us: int | None
    """How many microseconds it lives without being used; None: there is no such limit."""
    key: KeyHash
    """The hash of its secret."""
    now_us: int
    """The store's clock when this was read."""


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session as lists show it: with the client it was made on, which no validation reads."""

    session: SessionRecord
    """The session."""
    client: ClientInfo
    """The device that signed in."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be inserted. The store sets its times by its own clock.

    `expires_at_us` is absolute; without it `lifetime_us`, if any, counts from the insertion. `replaces` is a session,
    of this user or another, that is deleted in the step that inserts this one; it may be gone already.
    """

    id: SessionId
    """The id of the session. It is no secret."""
    user_id: UserId
    """The user of the session."""
    method: str
    """How the user signed in."""
    scopes: frozenset[Scope]
    """The scopes of the session."""
    follows_user: bool
    """Whether its scopes are the user's, and change with them."""
    expires_at_us: int | None
    """The absolute deadline; None: `lifetime_us` counts."""
    lifetime_us: int | None
    """Microseconds from the insertion to the absolute deadline; None: there is none."""
    expire_after_unused_for_us: int | None
    """How many microseconds it lives without being used; None: there is no such limit."""
    key: KeyHash
    """The hash of its secret."""
    client: ClientInfo = UNKNOWN_CLIENT
    """The device that signs in."""
    replaces: SessionId | None = None
    """The session that ends in the same step; None: none does."""

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
    """The session."""
    used_at_us: int
    """The moment of its use."""


@dataclass(frozen=True, slots=True)
class Rehash:
    """Replace one stored hash by another, if it is still the one that was read."""

    session_id: SessionId
    """The session."""
    old: KeyHash
    """The hash that was read."""
    new: KeyHash
    """The hash that takes its place."""


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions are meant: those that match everything that is not None."""

    user_id: UserId | None = None
    """Sessions of this user."""
    session_id: SessionId | None = None
    """This session."""
    method: str | None = None
    """Sessions with this method of sign-in."""


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that was just deleted."""

    user_id: UserId
    """The user of the session."""
    session_id: SessionId
    """The id of the session."""


def epoch_step() -> int:
    """By how much a change moves an epoch of its user: a random number.

    A history may go back: a transaction is rolled back, a database is restored from a backup, another server takes
    over. A sign-in that has read an epoch which is gone must not be good again when the next change moves it.
    """
    return 1 + secrets.randbelow(_LARGEST_STEP)


@dataclass(frozen=True, slots=True)
class UserEpochs:
    """Two counters: one moves when all sessions of a user are ended, the other when their scopes are changed.

    A sign-in reads both before it checks anything, and hands them in with the insertion: if one has moved, the
    sign-in was overtaken. A user without a row is at (0, 0). They outlive the user: whoever gets the id next is not
    taken for the one before.
    """

    revocations: int = 0
    """Moves when all sessions of the user are ended."""
    rescopes: int = 0
    """Moves when the user's scopes are changed."""


@dataclass(frozen=True, slots=True)
class UserRecord:
    """One user as stored.

    `is_registered` says that the user was made by `insert_user`. Where users live in the application the store
    keeps a row for the epochs and the scopes it last heard of, and it is False.
    """

    id: UserId
    """The id of the user."""
    created_at_us: int
    """The moment of insertion."""
    scopes: frozenset[Scope]
    """The scopes of sessions that follow the user."""
    blocked: bool
    """Whether the user may not sign in."""
    is_registered: bool
    """Whether `insert_user` has made the user."""
    epochs: UserEpochs
    """The counters by which a sign-in knows that it was overtaken."""


Position = NewType("Position", str)
"""A place in the history of a store: a change is before it if it was committed before. The text is opaque."""


class InsertRefusal(Enum):
    """Why a store did not insert a session."""

    USER_REVOKED = "all sessions of the user were ended since the epochs were read, or after the position"
    """All sessions of the user were ended meanwhile."""
    USER_RESCOPED = "the scopes of the user changed since the epochs were read"
    """The user's scopes changed meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The sessions that a call has ended, and the scopes that it has taken away: such a call returns one of these.

    `ended` has the sessions that were deleted. `announced` is what the store has told other processes, in the same
    transaction: with it the caller tells its own. Only pruning deletes sessions without announcing it.
    """

    ended: tuple[EndedSession, ...] = ()
    """The sessions that were deleted."""
    announced: tuple[Announcement, ...] = ()
    """The announcements for other processes."""


@dataclass(frozen=True, slots=True)
class Insertion(Change):
    """A session that was inserted. The session that it has replaced, if any, is in `ended`."""

    session: SessionRecord
    """The session as it was inserted."""


@dataclass(frozen=True, slots=True)
class UserChange(Change):
    """A user after a change, and the scopes that were taken away from them and from their sessions."""

    user: UserRecord
    """The user after the change."""
    removed_scopes: frozenset[Scope] = frozenset()
    """The scopes that were taken away."""


@dataclass(frozen=True, slots=True)
class ScopeChange(Change):
    """A session after its scopes were changed, and the scopes it lost."""

    session: SessionRecord
    """The session after the change."""
    removed_scopes: frozenset[Scope]
    """The scopes that it has lost."""


@dataclass(frozen=True, slots=True)
class ExpiredSweep(Change):
    """One step of pruning by the absolute deadline. `is_done`: it found fewer sessions than it may delete."""

    is_done: bool
    """Whether it found fewer sessions than it may delete."""


@dataclass(frozen=True, slots=True)
class IdleSweep(Change):
    """One step of pruning by the idle deadline, and the id to go on after (None: done)."""

    next_after: SessionId | None
    """The id to go on after; None: all were looked at."""


@dataclass(frozen=True, slots=True)
class PepperCount:
    """How many sessions were hashed with a pepper; `pepper_id` None counts rows that do not say."""

    pepper_id: str | None
    """The short name of the pepper; None: rows that do not say."""
    sessions: int
    """The number of sessions."""


@dataclass(frozen=True, slots=True)
class PepperRecord:
    """A pepper that sessions of this store are hashed with: its id, and 32 bytes by which a process knows it again."""

    id: str
    """The short name of the pepper."""
    check_value: bytes = field(repr=False)
    """The 32 bytes."""
