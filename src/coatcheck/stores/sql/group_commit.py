"""Sign-ins and revocations that may share a transaction with others of their kind (group commit).

They compare by identity: of two revocations of one session only one has ended it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from coatcheck.errors import RevocationIndeterminate
from coatcheck.stores.batching import Batcher
from coatcheck.stores.scope_text import encode_scopes
from coatcheck.stores.sql.transactions import INDETERMINATE

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.batching import BatchRunner
    from coatcheck.stores.records import EndedSession, NewSession, Position, SessionFilter

K_contra = TypeVar("K_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)


class Batches(Protocol[K_contra, V_co]):
    """Writes that share a transaction. With an event loop that is a `Batcher`; a store may do without."""

    def open(self) -> None:
        """Start."""
        ...

    async def close(self) -> None:
        """Stop. A caller that still waits gets StoreUnavailable."""
        ...

    def submit(self, key: K_contra, /) -> Awaitable[V_co | None]:
        """Write this with others. None: it has to be done by itself, in a transaction of its own."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PlainInsertion:
    """A sign-in that touches nothing but its own session's row, where its user's row is as it expects.

    `known_scopes` is the text of the scopes that the row of a user who lives in the application has to have noted
    already; None: the user has to be registered.
    """

    session: NewSession
    expected_revocations: int
    expected_rescopes: int | None
    began_at: Position | None
    known_scopes: str | None


@dataclass(frozen=True, slots=True, eq=False)
class PlainDeletion:
    """The end of one session, with `user_id` only if it is this user's."""

    session_id: SessionId
    user_id: UserId | None


def plain_insertion(
    session: NewSession,
    *,
    expected_revocations: int,
    expected_rescopes: int | None,
    began_at: Position | None,
    user_scopes: frozenset[Scope] | None,
) -> PlainInsertion | None:
    """The sign-in as one that may share; None where it does more than to insert a row."""
    if session.replaces is not None or (user_scopes is not None and expected_rescopes is None):
        return None
    known_scopes = None if user_scopes is None else encode_scopes(user_scopes)
    return PlainInsertion(session, expected_revocations, expected_rescopes, began_at, known_scopes)


def plain_deletion(which: SessionFilter, *, limit: int | None) -> PlainDeletion | None:
    """The revocation as one that may share; None where it is not of one session by its id."""
    if which.session_id is None or which.method is not None or limit is not None:
        return None
    return PlainDeletion(which.session_id, which.user_id)


def revocation_batcher(
    deleter: BatchRunner[PlainDeletion, EndedSession], *, timeout_seconds: float
) -> Batcher[PlainDeletion, EndedSession]:
    """Revocations of single sessions that share a transaction. One that is cut off has an outcome that nobody knows."""
    return Batcher(
        [deleter],
        timeout_seconds=timeout_seconds,
        when_cut_off=lambda _: RevocationIndeterminate(INDETERMINATE),
    )
