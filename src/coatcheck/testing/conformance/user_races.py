"""Scopes are live, with two changes at once: what stands at the end stands everywhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coatcheck.scope import scope_set
from coatcheck.stores.records import Rehash, SessionFilter, SessionUse
from coatcheck.testing.conformance.promises import OUTCOMES, Promises
from coatcheck.testing.conformance.under_way import under_way
from coatcheck.testing.samples import (
    ADA,
    a_transaction,
    key_of,
    numbered_id,
    read_present,
    read_user_present,
    register,
    sign_in,
    sign_in_following,
    stored_ids,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from coatcheck.stores.records import SessionRecord
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

# Writes of several sessions that the caller names, and writes of all of a user's.
BATCHES: dict[str, Callable[[Store, Sequence[SessionRecord]], Awaitable[object]]] = {
    "touch": lambda store, sessions: store.touch_sessions(
        [SessionUse(one.id, one.last_used_at_us) for one in sessions]
    ),
    "rehash": lambda store, sessions: store.rehash_sessions(
        [Rehash(one.id, one.key, key_of("new")) for one in sessions]
    ),
}
USER_WIDE: dict[str, Callable[[Store], Awaitable[object]]] = {
    "rescope": lambda store: store.set_user_scopes(ADA, scope_set({"a"})),
    "end all": lambda store: store.end_user_sessions(ADA),
    "block": lambda store: store.update_user(ADA, blocked=True),
    "delete by user": lambda store: store.delete_sessions(SessionFilter(user_id=ADA)),
}


class UserRacePromises(Promises):
    """Changes of a user that meet others, and registrations that meet each other."""

    @OUTCOMES
    async def test_a_session_that_begins_to_follow_while_its_user_changes_has_the_scopes_that_stand(
        self, harness: StoreHarness, held: Store, other: Store, *, commits: bool
    ) -> None:
        await register(held, scopes={"a", "b"})
        session = await sign_in(held, scopes={"x"})

        async with a_transaction(held, commits=commits) as transaction:
            await held.set_user_scopes(ADA, scope_set({"a"}), transaction=transaction)
            call = await under_way(harness, other.set_session_scopes(session.id, None))
        await call
        assert (await read_present(other, session.id)).scopes == ({"a"} if commits else {"a", "b"})

    async def test_a_user_who_changes_while_a_session_begins_to_follow_reaches_it(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        await register(held, scopes={"a", "b"})
        session = await sign_in(held, scopes={"x"})
        async with held.transaction() as transaction:
            await held.set_session_scopes(session.id, None, transaction=transaction)
            rescoping = await under_way(harness, other.set_user_scopes(ADA, scope_set({"a"})))
        await rescoping
        assert (await read_present(other, session.id)).scopes == {"a"}

    async def test_two_changes_of_a_users_scopes_come_in_the_same_order_everywhere(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        await register(held, scopes=["a", "b", "c"])
        following, explicit = await sign_in_following(held), await sign_in(held, scopes=["a", "b", "c", "x"])
        async with held.transaction() as transaction:
            await held.set_user_scopes(ADA, scope_set({"a", "b"}), transaction=transaction)
            second = await under_way(harness, other.set_user_scopes(ADA, scope_set({"b", "c"})))
        change = await second
        assert change.removed_scopes == {"a"}
        assert (await read_user_present(held)).scopes == {"b", "c"}
        assert (await read_present(held, following.id)).scopes == {"b", "c"}
        assert (await read_present(held, explicit.id)).scopes == {"b", "x"}, "a went second, c went first"

    @pytest.mark.parametrize("is_batch_first", [True, False], ids=["batch first", "batch second"])
    @pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
    @pytest.mark.parametrize("user_wide", USER_WIDE.values(), ids=USER_WIDE.keys())
    async def test_a_batch_and_a_user_wide_write_on_the_same_sessions_wait_for_each_other_in_turn(
        self,
        harness: StoreHarness,
        held: Store,
        other: Store,
        user_wide: Callable[[Store], Awaitable[object]],
        batch: Callable[[Store, Sequence[SessionRecord]], Awaitable[object]],
        *,
        is_batch_first: bool,
    ) -> None:
        """Neither is given up for the other, as happens where rows are locked in the order they are met."""
        sessions = [await sign_in(held, id=numbered_id(number), scopes={"a", "b"}) for number in (3, 2, 1)]
        async with a_transaction(held, commits=False) as transaction:
            await held.delete_sessions(SessionFilter(session_id=numbered_id(1)), transaction=transaction)
            calls = [batch(other, sessions), user_wide(held)]
            under_ways = [await under_way(harness, call) for call in (calls if is_batch_first else calls[::-1])]
        await asyncio.gather(*under_ways)
        is_left = user_wide is USER_WIDE["rescope"]
        assert await stored_ids(other) == ({session.id for session in sessions} if is_left else set())

    async def test_many_user_wide_writes_and_touches_at_once_all_come_to_an_end(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        """They wait for each other, and none is given up for another."""
        # Stored in an order that is not that of their ids: rows locked as they lie would meet rows locked in order.
        numbers = [number * 37 % 101 for number in range(101)]
        sessions = [await sign_in(store, id=numbered_id(number), scopes={"a", "b"}) for number in numbers]
        now_us = await harness.now_us()
        uses = [SessionUse(session.id, now_us) for session in sessions]
        rehashes = [Rehash(session.id, session.key, key_of("new")) for session in sessions]
        calls: list[Awaitable[object]] = []
        for one, two in ((store, other), (other, store)):
            calls += [
                one.touch_sessions(uses),
                two.touch_sessions(uses[::-1]),
                one.rehash_sessions(rehashes),
                two.rehash_sessions(rehashes[::-1]),
                one.set_user_scopes(ADA, scope_set({"a"})),
                two.set_user_scopes(ADA, scope_set({"b"})),
                one.end_user_sessions(ADA, except_session_id=sessions[3].id),
                two.delete_sessions(SessionFilter(user_id=ADA, method="sms")),
                one.update_user(ADA, scopes=scope_set({"a"}), blocked=False),
            ]
        async with asyncio.timeout(60):
            await asyncio.gather(*calls)
        assert await stored_ids(store) == {sessions[3].id}

    async def test_an_id_that_many_register_at_once_is_given_to_one(self, store: Store, other: Store) -> None:
        calls = [one.insert_user(ADA, scopes=scope_set({str(number)}), blocked=False) for number in range(3)
                 for one in (store, other)]  # fmt: skip
        users = [user for user in await asyncio.gather(*calls) if user is not None]
        assert users == [await read_user_present(store)]

    @OUTCOMES
    async def test_a_registration_that_meets_another_waits_for_it(
        self, harness: StoreHarness, held: Store, other: Store, *, commits: bool
    ) -> None:
        async with a_transaction(held, commits=commits) as transaction:
            await held.insert_user(ADA, scopes=scope_set({"first"}), blocked=False, transaction=transaction)
            call = await under_way(harness, other.insert_user(ADA, scopes=scope_set({"second"}), blocked=False))
        second = await call
        assert (second is None) is commits
        assert (await read_user_present(held)).scopes == ({"first"} if commits else {"second"})
