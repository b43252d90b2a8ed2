"""A sign-in that began before its user was known is refused where all of the user's sessions were ended since."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from coatcheck.scope import scope_set
from coatcheck.stores.records import Insertion, InsertRefusal, SessionFilter, UserEpochs
from coatcheck.testing.conformance.promises import OUTCOMES, Promises
from coatcheck.testing.samples import (
    ADA,
    BOB,
    a_transaction,
    epochs_of,
    insert,
    new_session,
    register,
    sign_in,
    stored_ids,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck.identifiers import UserId
    from coatcheck.stores.records import Position
    from coatcheck.stores.store import Store, Transaction
    from coatcheck.testing.harness import StoreHarness


async def _end_all(store: Store) -> None:
    await store.end_user_sessions(ADA)


async def _end_all_of_a_method(store: Store) -> None:
    await store.end_user_sessions(ADA, method="google")


async def _end_all_but_one(store: Store) -> None:
    session = await sign_in(store)
    await store.end_user_sessions(ADA, except_session_id=session.id)


async def _block_and_unblock(store: Store) -> None:
    await store.update_user(ADA, blocked=True)
    await store.update_user(ADA, blocked=False)


async def _delete_and_register_again(store: Store) -> None:
    await store.delete_user(ADA)
    await register(store)


async def _end_one(store: Store) -> None:
    session = await sign_in(store)
    await store.delete_sessions(SessionFilter(session_id=session.id))


async def _end_all_of_another(store: Store) -> None:
    await store.end_user_sessions(BOB)


async def _change_scopes(store: Store) -> None:
    await store.set_user_scopes(ADA, scope_set({"a"}))
    await store.set_user_scopes(ADA, frozenset())


async def _insert(
    store: Store, began_at: Position, user_id: UserId = ADA, *, transaction: Transaction | None = None
) -> Insertion | InsertRefusal:
    """A sign-in that has read the user's epochs only now, as one does whose user was not known before."""
    user = await store.read_user(user_id, transaction=transaction)
    assert user is not None
    return await store.insert_session(
        new_session(user_id),
        expected_revocations=user.epochs.revocations,
        expected_rescopes=None,
        began_at=began_at,
        transaction=transaction,
    )


class PositionPromises(Promises):
    """`read_position`, and `began_at` of `insert_session`."""

    @pytest.mark.parametrize(
        "end", [_end_all, _end_all_of_a_method, _end_all_but_one, _block_and_unblock, _delete_and_register_again]
    )
    async def test_a_sign_in_is_refused_whose_user_was_signed_out_everywhere_since_it_began(
        self, store: Store, other: Store, end: Callable[[Store], Awaitable[None]]
    ) -> None:
        await register(store)
        began_at = await store.read_position()
        await end(other)
        assert await _insert(store, began_at) is InsertRefusal.USER_REVOKED
        assert isinstance(await _insert(store, await store.read_position()), Insertion)

    @pytest.mark.parametrize("change", [_end_one, _end_all_of_another, _change_scopes])
    async def test_no_other_change_refuses_it(
        self, store: Store, other: Store, change: Callable[[Store], Awaitable[None]]
    ) -> None:
        await register(store)
        began_at = await store.read_position()
        await change(other)
        assert isinstance(await _insert(store, began_at), Insertion)

    async def test_an_ending_before_it_began_does_not_refuse_it(self, store: Store, other: Store) -> None:
        await register(store)
        for _ in range(3):
            await other.end_user_sessions(ADA)
            assert isinstance(await _insert(store, await store.read_position()), Insertion)

    async def test_an_older_position_only_refuses_more(self, store: Store, other: Store) -> None:
        await register(store)
        oldest = await store.read_position()
        await other.end_user_sessions(ADA)
        younger = await other.read_position()
        await other.end_user_sessions(BOB)
        assert await _insert(store, oldest) is InsertRefusal.USER_REVOKED
        assert isinstance(await _insert(store, younger), Insertion)

    async def test_the_first_sign_in_of_an_applications_user_is_refused_too(self, store: Store, other: Store) -> None:
        """There was no row of the user when it began."""
        began_at = await store.read_position()
        await other.end_user_sessions(ADA)
        epochs = await epochs_of(store, ADA)
        refused = await store.insert_session(
            new_session(),
            expected_revocations=epochs.revocations,
            expected_rescopes=epochs.rescopes,
            began_at=began_at,
            user_scopes=frozenset(),
        )
        assert refused is InsertRefusal.USER_REVOKED
        assert await stored_ids(store) == set()

    async def test_of_sign_ins_at_once_those_are_refused_that_began_too_early(self, store: Store, other: Store) -> None:
        await register(store)
        await register(store, BOB)
        early = await store.read_position()
        await other.end_user_sessions(ADA)
        late = await store.read_position()
        calls = [(early, ADA), (late, ADA), (early, BOB), (late, BOB)] * 5
        outcomes = await asyncio.gather(*(_insert(store, began_at, user) for began_at, user in calls))
        expected = [not (began_at == early and user == ADA) for began_at, user in calls]
        assert [isinstance(outcome, Insertion) for outcome in outcomes] == expected

    async def test_an_ending_in_emptied_data_refuses_a_sign_in_that_began_in_those_of_before(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        """The history goes back, and its numbers come again."""
        await register(store)
        await other.end_user_sessions(ADA)
        epochs, began_at = await epochs_of(store, ADA), await store.read_position()
        await harness.reset()
        await harness.advance(timedelta(seconds=1))
        await register(store)
        await other.end_user_sessions(ADA)
        assert await _insert(store, began_at) is InsertRefusal.USER_REVOKED
        assert await insert(store, new_session(), epochs=epochs) is InsertRefusal.USER_REVOKED
        assert isinstance(await _insert(store, await store.read_position()), Insertion)

    async def test_scopes_that_were_read_in_data_that_were_emptied_are_not_those_after_the_next_change(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        await register(store)
        await other.set_user_scopes(ADA, scope_set({"a"}))
        epochs = await epochs_of(store, ADA)
        await harness.reset()
        await register(store)
        await other.set_user_scopes(ADA, scope_set({"b"}))
        now = await epochs_of(store, ADA)
        stale = UserEpochs(now.revocations, epochs.rescopes)
        session = new_session(scopes=scope_set({"a"}), follows_user=True)
        assert await insert(store, session, epochs=stale) is InsertRefusal.USER_RESCOPED

    @OUTCOMES
    async def test_an_ending_that_was_not_committed_yet_when_it_began_refuses_it(
        self, held: Store, other: Store, *, commits: bool
    ) -> None:
        """Credentials that are read before that COMMIT are the old ones, whenever the ending itself began."""
        await register(held)
        async with a_transaction(held, commits=commits) as transaction:
            await held.end_user_sessions(ADA, transaction=transaction)
            began_at = await other.read_position()
        outcome = await _insert(other, began_at)
        assert (outcome is InsertRefusal.USER_REVOKED) is commits

    async def test_an_ending_in_the_same_transaction_refuses_it(self, held: Store) -> None:
        await register(held)
        began_at = await held.read_position()
        async with held.transaction() as transaction:
            await held.end_user_sessions(ADA, transaction=transaction)
            assert await _insert(held, began_at, transaction=transaction) is InsertRefusal.USER_REVOKED

    async def test_a_position_taken_inside_a_transaction_serves(self, held: Store, other: Store) -> None:
        await register(held)
        async with held.transaction() as transaction:
            began_at = await held.read_position(transaction=transaction)
        assert isinstance(await _insert(other, began_at), Insertion)
        await other.end_user_sessions(ADA)
        assert await _insert(held, began_at) is InsertRefusal.USER_REVOKED

    async def test_one_taken_after_an_ending_that_is_undone_is_refused_by_the_next(
        self, held: Store, other: Store
    ) -> None:
        """The next ending moves the position to where the one that was undone had moved it."""
        await register(held)
        async with a_transaction(held, commits=False) as transaction:
            await held.end_user_sessions(ADA, transaction=transaction)
            began_at = await held.read_position(transaction=transaction)
        await other.end_user_sessions(ADA)
        assert await _insert(other, began_at) is InsertRefusal.USER_REVOKED

    @pytest.mark.parametrize("end", ["end_user_sessions", "update_user", "delete_user"])
    async def test_epochs_read_after_an_ending_that_is_undone_are_not_those_after_the_next(
        self, held: Store, other: Store, end: str
    ) -> None:
        await register(held)
        options = {"blocked": True} if end == "update_user" else {}
        async with a_transaction(held, commits=False) as transaction:
            await getattr(held, end)(ADA, **options, transaction=transaction)
            user = await held.read_user(ADA, transaction=transaction)
            assert user is not None
        await other.end_user_sessions(ADA)
        refused = await other.insert_session(
            new_session(), expected_revocations=user.epochs.revocations, expected_rescopes=None
        )
        assert refused is InsertRefusal.USER_REVOKED
