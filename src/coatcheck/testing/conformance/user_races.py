"""Scopes are live, with two changes at once: what stands at the end stands everywhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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
    from collections.abc import Awaitable

    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness


class UserRacePromises(Promises):
    """Promise 3, with two changes at once."""

    @OUTCOMES
    async def test_a_session_that_begins_to_follow_while_its_user_changes_has_the_scopes_that_stand(
        self, harness: StoreHarness, held: Store, other: Store, *, commits: bool
    ) -> None:
        """U5: in the same transaction as the user."""
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

    async def test_of_two_changes_of_a_users_scopes_one_comes_last_everywhere(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        await register(held, scopes={"a", "b", "c"})
        following, explicit = await sign_in_following(held), await sign_in(held, scopes={"a", "b", "c", "x"})
        async with held.transaction() as transaction:
            await held.set_user_scopes(ADA, scope_set({"a", "b"}), transaction=transaction)
            second = await under_way(harness, other.set_user_scopes(ADA, scope_set({"b", "c"})))
        change = await second
        assert change.removed_scopes == {"a"}
        assert (await read_user_present(held)).scopes == {"b", "c"}
        assert (await read_present(held, following.id)).scopes == {"b", "c"}
        assert (await read_present(held, explicit.id)).scopes == {"b", "x"}, "a went second, c went first"

    async def test_many_user_wide_writes_and_touches_at_once_all_come_to_an_end(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        """S14, U5: they wait for each other, and none is given up for another."""
        # Stored in an order that is not that of their ids: who locks rows as they lie meets who locks them in order.
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

    async def test_of_many_who_register_an_id_one_gets_it(self, store: Store, other: Store) -> None:
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
