"""No call overlooks what was committed while the caller's transaction was open, however that was begun.

A table: every call of the protocol that writes, in every kind of transaction that the store's harness names. What was
committed after the transaction's first read is over, or changed, when the transaction is committed; or else the call
or the COMMIT refuses.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import pytest
from sqlalchemy.exc import DBAPIError

from coatcheck.errors import CoatcheckError, InvalidArgumentError
from coatcheck.identifiers import UserId
from coatcheck.scope import scope_set
from coatcheck.stores.records import Insertion, SessionFilter, SessionRecord
from coatcheck.stores.store import Store
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.samples import (
    epochs_of,
    insert,
    new_session,
    read,
    read_present,
    read_user_present,
    register,
    sign_in,
)
from coatcheck.testing.transaction_kinds import ChangedMindError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from coatcheck.identifiers import SessionId
    from coatcheck.scope import Scope
    from coatcheck.stores.records import UserEpochs, UserRecord
    from coatcheck.stores.store import Transaction
    from coatcheck.testing.harness import StoreHarness
    from coatcheck.testing.transaction_kinds import TransactionKind

REFUSALS = (CoatcheckError, DBAPIError)
"""How a call or a COMMIT refuses."""


def writing_calls() -> set[str]:
    """The calls of the protocol that take a transaction and write, by name; those that only read say so in theirs."""
    takes_part = {
        name
        for name, call in inspect.getmembers(Store, inspect.isfunction)
        if (parameter := inspect.signature(call).parameters.get("transaction")) is not None
        and parameter.default is None
    }
    return {name for name in takes_part if not name.startswith(("read_", "list_"))}


@dataclass(frozen=True, slots=True)
class Given:
    """The subject of a call: a user, a session of theirs, and the epochs as they were before anybody else wrote."""

    user_id: UserId
    session: SessionRecord | None
    epochs: UserEpochs

    @property
    def session_id(self) -> SessionId:
        """The session's."""
        assert self.session is not None, "a new user has no session"
        return self.session.id


_Call: TypeAlias = "Callable[[Store, Given, Transaction], Awaitable[object]]"


@dataclass(frozen=True, slots=True)
class Row:
    """One call, and what is committed while its transaction is open."""

    name: str
    call: _Call

    meanwhile: Callable[[Store, UserId], Awaitable[object]]
    """A change that another process commits. If it is to a session, the call is about that one, not an earlier one."""

    holds: Callable[[Store, Given], Awaitable[bool]]
    """Whether the call has reached what was committed meanwhile, or was stopped by it."""

    of_a_new_user: bool = False


_A = scope_set({"a"})
_A_AND_B = scope_set({"a", "b"})


async def _sign_in(store: Store, user_id: UserId) -> SessionRecord:
    return await sign_in(store, user_id, scopes=_A_AND_B)


async def _is_gone(store: Store, given: Given) -> bool:
    return await read(store, given.session_id) is None


async def _has_lost_b(store: Store, given: Given) -> bool:
    return (await read_present(store, given.session_id)).scopes == _A


async def _has_not_signed_in(store: Store, given: Given) -> bool:
    return not await store.list_sessions(SessionFilter(user_id=given.user_id, method="late"))


async def _is_the_others(store: Store, given: Given) -> bool:
    return (await read_user_present(store, given.user_id)).scopes == _A_AND_B


def _ends(name: str, call: _Call) -> Row:
    """A call that has to end the session that is made meanwhile."""
    return Row(name, call, _sign_in, _is_gone)


def _narrows(name: str, call: _Call) -> Row:
    """A call that has to take a scope from the session that is made meanwhile."""
    return Row(name, call, _sign_in, _has_lost_b)


def _deletion(*, method: str | None = None, by_id: bool = False, limit: int | None = None) -> _Call:
    def call(store: Store, given: Given, transaction: Transaction) -> Awaitable[object]:
        which = SessionFilter(user_id=given.user_id, method=method, session_id=given.session_id if by_id else None)
        return store.delete_sessions(which, limit=limit, transaction=transaction)

    return call


def _insertion(
    *, replaces: bool = False, follows_user: bool = False, user_scopes: frozenset[Scope] | None = None
) -> _Call:
    def call(store: Store, given: Given, transaction: Transaction) -> Awaitable[object]:
        replaced = given.session_id if replaces else None
        session = new_session(given.user_id, method="late", scopes=_A, follows_user=follows_user, replaces=replaced)
        return insert(store, session, epochs=given.epochs, user_scopes=user_scopes, transaction=transaction)

    return call


ROWS: dict[str, tuple[Row, ...]] = {
    "insert_session": (
        Row(
            "overtaken by the end of all sessions",
            _insertion(),
            lambda store, user: store.end_user_sessions(user),
            _has_not_signed_in,
        ),
        Row(
            "overtaken by the end of all sessions of a user of the application's",
            _insertion(user_scopes=_A),
            lambda store, user: store.end_user_sessions(user),
            _has_not_signed_in,
            of_a_new_user=True,
        ),
        Row(
            "overtaken by other scopes",
            _insertion(follows_user=True),
            lambda store, user: store.set_user_scopes(user, frozenset()),
            _has_not_signed_in,
        ),
        _ends("in place of another session", _insertion(replaces=True)),
    ),
    "delete_sessions": (
        _ends("by id", _deletion(by_id=True)),
        _ends("by user", _deletion()),
        _ends("by method", _deletion(method="email")),
        _ends("so many", _deletion(limit=1000)),
    ),
    "end_user_sessions": (
        _ends("all", lambda store, given, tx: store.end_user_sessions(given.user_id, transaction=tx)),
        _ends(
            "by method",
            lambda store, given, tx: store.end_user_sessions(given.user_id, method="email", transaction=tx),
        ),
    ),
    "set_session_scopes": (
        _narrows("its own", lambda store, given, tx: store.set_session_scopes(given.session_id, _A, transaction=tx)),
    ),
    "insert_user": (
        Row(
            "overtaken by another of this id",
            lambda store, given, tx: store.insert_user(given.user_id, scopes=_A, blocked=False, transaction=tx),
            lambda store, user: store.insert_user(user, scopes=_A_AND_B, blocked=False),
            _is_the_others,
            of_a_new_user=True,
        ),
    ),
    "set_user_scopes": (
        _narrows("fewer", lambda store, given, tx: store.set_user_scopes(given.user_id, _A, transaction=tx)),
    ),
    "update_user": (
        _narrows("scopes", lambda store, given, tx: store.update_user(given.user_id, scopes=_A, transaction=tx)),
        _ends("blocked", lambda store, given, tx: store.update_user(given.user_id, blocked=True, transaction=tx)),
    ),
    "delete_user": (_ends("by id", lambda store, given, tx: store.delete_user(given.user_id, transaction=tx)),),
}
"""By the call of the protocol. None of `writing_calls` is missing."""

EVERY_CALL = pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{call}, {row.name}") for call, rows in ROWS.items() for row in rows]
)


class IsolationPromises(Promises):
    """Promise of the protocol: in the caller's transaction too, a call sees what is committed, or refuses."""

    def test_every_call_that_writes_in_a_transaction_is_in_the_table(self) -> None:
        assert set(ROWS) == writing_calls()

    @EVERY_CALL
    async def test_no_call_overlooks_what_was_committed_after_the_callers_transaction_had_read(
        self, harness: StoreHarness, held: Store, other: Store, row: Row
    ) -> None:
        async for kind, before in _in_each_kind(harness, held, row):
            meeting = Meeting(held, other, row, before)
            refusal = await meeting.take_place(kind)
            if refusal is None:
                assert kind.is_accepted, f"{kind.name} was not refused"
                assert await row.holds(other, meeting.given), f"overlooked in {kind.name}"
            else:
                assert not kind.is_accepted or kind.may_come_too_late, f"{kind.name} was refused: {refusal!r}"
                assert await _state(other, before.user_id) == meeting.committed, f"half done in {kind.name}"

    @EVERY_CALL
    async def test_a_call_is_done_with_the_commit_and_undone_with_the_rollback_or_refuses_before_it_writes(
        self, harness: StoreHarness, held: Store, other: Store, row: Row
    ) -> None:
        async for kind, given in _in_each_kind(harness, held, row):
            before = await _state(other, given.user_id)
            for commits in (False, True):
                with suppress(ChangedMindError):
                    async with kind.begin() as transaction:
                        if kind.is_accepted:
                            await row.call(held, given, transaction)
                        else:
                            with pytest.raises(InvalidArgumentError):
                                await row.call(held, given, transaction)
                        if not commits:
                            raise ChangedMindError
                is_done = await _state(other, given.user_id) != before
                assert is_done is (commits and kind.is_accepted), f"{kind.name}, commits: {commits}"

    async def test_a_sign_in_that_began_in_a_transaction_is_refused_where_an_ending_is_not_seen_in_it(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        """The old password is still to be read there, however late the sign-in began."""
        for number, kind in enumerate(await harness.transaction_kinds()):
            user_id = UserId(f"user-{number}")
            await register(held, user_id)
            try:
                async with kind.begin() as transaction:
                    await held.read_user(user_id, transaction=transaction)
                    if kind.lets_others_write:
                        await other.end_user_sessions(user_id)
                    began_at = await held.read_position(transaction=transaction)
                    seen = await held.read_user(user_id, transaction=transaction)
            except InvalidArgumentError:
                assert not kind.is_accepted, f"{kind.name} was refused"
                continue
            assert seen is not None
            now = await epochs_of(other, user_id)
            outcome = await other.insert_session(
                new_session(user_id), expected_revocations=now.revocations, expected_rescopes=None, began_at=began_at
            )
            assert isinstance(outcome, Insertion) is (seen.epochs == now), kind.name


class Meeting:
    """A call in a transaction that has read before another process committed something."""

    def __init__(self, store: Store, other: Store, row: Row, given: Given) -> None:
        """The call of `row` to `store`, and what it says to the `other`."""
        self._store = store
        self._other = other
        self._row = row
        self.given: Given = given
        self.committed: object = None

    async def take_place(self, kind: TransactionKind) -> Exception | None:
        """Begin, read, let the other commit, call, and commit. Returns how the call or the COMMIT refused."""
        user_id = self.given.user_id
        if not kind.lets_others_write:
            await self._other_commits()
        self.committed = await _state(self._other, user_id)
        try:
            async with kind.begin() as transaction:
                await self._store.read_user(user_id, transaction=transaction)
                await self._store.list_sessions(SessionFilter(user_id=user_id), transaction=transaction)
                if kind.lets_others_write:
                    await self._other_commits()
                    self.committed = await _state(self._other, user_id)
                await self._row.call(self._store, self.given, transaction)
        except REFUSALS as refusal:
            return refusal
        return None

    async def _other_commits(self) -> None:
        made = await self._row.meanwhile(self._other, self.given.user_id)
        if isinstance(made, SessionRecord):
            self.given = replace(self.given, session=made)


async def _in_each_kind(harness: StoreHarness, store: Store, row: Row) -> AsyncIterator[tuple[TransactionKind, Given]]:
    """The harness's kinds of transactions, and for each a user who has nothing to do with the others."""
    for number, kind in enumerate(await harness.transaction_kinds()):
        user_id = UserId(f"user-{number}")
        session = None
        if not row.of_a_new_user:
            await register(store, user_id, scopes=_A_AND_B)
            session = await _sign_in(store, user_id)
        yield kind, Given(user_id, session, await epochs_of(store, user_id))


async def _state(store: Store, user_id: UserId) -> tuple[UserRecord | None, list[SessionRecord]]:
    page = await store.list_sessions(SessionFilter(user_id=user_id), limit=1000)
    return await store.read_user(user_id), [listed.session for listed in page]
