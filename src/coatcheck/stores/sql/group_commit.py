"""Sign-ins and revocations that may share a transaction with others of their kind.

They compare by identity: of two revocations of one session only one has ended it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coatcheck.stores.records import NewSession, SessionRecord
from coatcheck.stores.scope_text import encode_scopes

if TYPE_CHECKING:
    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.records import SessionFilter


@dataclass(frozen=True, slots=True, eq=False)
class Insertion:
    """A sign-in that touches nothing but its own session's row, where its user's row is as it expects.

    `known_scopes` is the text of the scopes that the row of a user who lives in the application has to have noted
    already; None: the user has to be registered.
    """

    session: NewSession
    expected_revocations: int
    expected_rescopes: int | None
    known_scopes: str | None

    def inserted(self, created_at_us: int, expires_at_us: int | None) -> SessionRecord:
        """The session as it is stored, with the times that the store has given it."""
        new = self.session
        return SessionRecord(
            new.id,
            new.user_id,
            new.method,
            new.scopes,
            new.follows_user,
            created_at_us,
            created_at_us,
            expires_at_us,
            new.expire_after_unused_for_us,
            new.key,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Deletion:
    """The end of one session, with `user_id` only if it is this user's."""

    session_id: SessionId
    user_id: UserId | None


def insertion_of(
    session: NewSession,
    *,
    expected_revocations: int,
    expected_rescopes: int | None,
    user_scopes: frozenset[Scope] | None,
) -> Insertion | None:
    """The sign-in as one that may share; None where it does more than to insert a row."""
    if session.replaces is not None or (user_scopes is not None and expected_rescopes is None):
        return None
    known_scopes = None if user_scopes is None else encode_scopes(user_scopes)
    return Insertion(session, expected_revocations, expected_rescopes, known_scopes)


def deletion_of(which: SessionFilter, *, limit: int | None) -> Deletion | None:
    """The revocation as one that may share; None where it is not of one session by its id."""
    if which.session_id is None or which.method is not None or limit is not None:
        return None
    return Deletion(which.session_id, which.user_id)
