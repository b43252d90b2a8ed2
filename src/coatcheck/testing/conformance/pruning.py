"""Pruning in chunks that take nothing which lives, and the lock that lets one process do it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from coatcheck.stores.records import EndedSession, ExpiredSweep, IdleSweep, SessionFilter, SessionUse
from coatcheck.testing.conformance.ending import ended
from coatcheck.testing.conformance.promises import BOUNDARY, Promises
from coatcheck.testing.conformance.under_way import at_once, under_way
from coatcheck.testing.samples import ADA, BOB, SECOND_US, numbered_id, read, sign_in, start, stored_ids

if TYPE_CHECKING:
    from coatcheck.identifiers import SessionId
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

_HOUR_US = 3600 * SECOND_US
_HOUR = timedelta(hours=1)


class PruningPromises(Promises):
    """Pruning goes in chunks and takes nothing that lives."""

    async def test_no_chunk_is_larger_than_its_limit_and_the_last_ones_are_empty(
        self, harness: StoreHarness, store: Store
    ) -> None:
        """One call never deletes without a bound."""
        live = {(await sign_in(store)).id, (await sign_in(store, lifetime_us=10 * _HOUR_US)).id}
        for number in range(7):
            await sign_in(store, lifetime_us=SECOND_US + number)
        await harness.advance(_HOUR)
        steps = [await store.prune_expired(3) for _ in range(5)]
        assert [len(step.ended) for step in steps] == [3, 3, 1, 0, 0]
        assert [step.is_done for step in steps] == [False, False, True, True, True]
        assert await stored_ids(store) == live

    async def test_pruning_an_empty_store_deletes_nothing(self, store: Store) -> None:
        assert await store.prune_expired(10) == ExpiredSweep(is_done=True)
        assert await store.prune_idle(None, 10) == IdleSweep(None)

    @pytest.mark.parametrize("window", [1, 2, 3, 5, 9, 10, 11, 1000])
    async def test_windows_cover_every_session_once(self, harness: StoreHarness, store: Store, window: int) -> None:
        """Windows of any size find every idle session."""
        idle, live = await self._idle_and_live(store)
        await harness.advance(_HOUR)

        deleted, after = 0, None
        for _ in range(20):
            before = await stored_ids(store)
            sweep = await store.prune_idle(after, window)
            left = await stored_ids(store)
            gone = sorted(before - left)
            assert [one.session_id for one in sweep.ended] == gone
            assert len(gone) <= window
            assert after is None or all(id_ > after for id_ in gone)
            deleted, after = deleted + len(gone), sweep.next_after
            if after is None:
                break

        assert after is None, "the windows do not come to an end"
        assert deleted == len(idle)
        assert await stored_ids(store) == live

    async def test_a_window_that_holds_nothing_idle_goes_on_behind_it(
        self, harness: StoreHarness, store: Store
    ) -> None:
        for number in range(6):
            await sign_in(store, id=numbered_id(number))
        idle = await sign_in(store, id=numbered_id(6), expire_after_unused_for_us=SECOND_US)
        await harness.advance(_HOUR)
        assert await store.prune_idle(None, 3) == IdleSweep(numbered_id(2))
        assert await store.prune_idle(numbered_id(2), 3) == IdleSweep(numbered_id(5))
        assert await store.prune_idle(numbered_id(5), 3) == IdleSweep(None, ended=(EndedSession(ADA, idle.id),))
        assert idle.id not in await stored_ids(store)

    async def test_a_sweep_goes_on_behind_a_session_that_is_gone(self, harness: StoreHarness, store: Store) -> None:
        for number in range(4):
            await sign_in(store, id=numbered_id(number), expire_after_unused_for_us=SECOND_US)
        await harness.advance(_HOUR)
        sweep = await store.prune_idle(None, 2)
        assert len(sweep.ended) == 2
        assert sweep.next_after is not None
        assert len((await store.prune_idle(sweep.next_after, 10)).ended) == 2

    async def test_a_touch_before_the_sweep_keeps_a_session(self, harness: StoreHarness, store: Store) -> None:
        used = await sign_in(store, expire_after_unused_for_us=_HOUR_US)
        unused = await sign_in(store, expire_after_unused_for_us=_HOUR_US)
        now_us = await harness.advance(timedelta(minutes=59))
        await store.touch_sessions([SessionUse(used.id, now_us)])
        await harness.advance(timedelta(minutes=1))
        assert await store.prune_idle(None, 10) == IdleSweep(None, ended=(EndedSession(ADA, unused.id),))
        assert await stored_ids(store) == {used.id}

    async def test_pruning_takes_the_sessions_of_every_user_and_leaves_the_users(
        self, harness: StoreHarness, store: Store
    ) -> None:
        expired = [await sign_in(store, user_id, lifetime_us=SECOND_US) for user_id in (ADA, BOB)]
        before = [await store.read_user(user_id) for user_id in (ADA, BOB)]
        await harness.advance(_HOUR)
        assert set((await store.prune_expired(10)).ended) == ended(*expired)
        assert [await store.read_user(user_id) for user_id in (ADA, BOB)] == before

    async def test_two_pruners_at_once_delete_each_session_once(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        expired = [await sign_in(store, lifetime_us=SECOND_US + number) for number in range(10)]
        await harness.advance(_HOUR)
        steps = await asyncio.gather(*(pruner.prune_expired(4) for pruner in (store, other)))
        assert all(len(step.ended) <= 4 for step in steps)
        while await stored_ids(store):
            steps.append(await store.prune_expired(4))
        reported = [one for step in steps for one in step.ended]
        assert len(reported) == len(expired)
        assert set(reported) == ended(*expired)

    async def test_pruning_passes_over_rows_that_others_hold(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        if not harness.locks_single_rows:
            pytest.skip("the store locks more than single rows")
        kept = await sign_in(held, lifetime_us=1, expire_after_unused_for_us=1)
        gone = await sign_in(held, lifetime_us=1)
        idle = await sign_in(held, expire_after_unused_for_us=1)
        await harness.advance(_HOUR)
        async with held.transaction() as transaction:
            await held.set_session_scopes(kept.id, frozenset(), transaction=transaction)
            async with asyncio.timeout(30):
                assert set((await other.prune_expired(10)).ended) == ended(gone)
                assert set((await other.prune_idle(None, 10)).ended) == ended(idle)
            assert await stored_ids(other) == {kept.id}
        assert {gone.id, idle.id}.isdisjoint(await stored_ids(other))
        assert set((await other.prune_expired(10)).ended) == ended(kept)

    async def _idle_and_live(self, store: Store) -> tuple[set[SessionId], set[SessionId]]:
        idle: set[SessionId] = set()
        live: set[SessionId] = set()
        for number in range(10):
            is_idle = number in {0, 1, 2, 5, 7, 9}
            unused_for_us = SECOND_US if is_idle else (None, 10 * _HOUR_US)[number % 2]
            session = await sign_in(store, id=numbered_id(number), expire_after_unused_for_us=unused_for_us)
            (idle if is_idle else live).add(session.id)
        return idle, live


class PruneRacePromises(Promises):
    """Pruning ends what has expired, and a touch that came first keeps a session."""

    async def test_a_session_that_is_used_and_pruned_at_once_is_either_kept_or_reported_gone(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        for number in range(20):
            session = await sign_in(store, id=numbered_id(number), expire_after_unused_for_us=SECOND_US)
            now_us = session.last_used_at_us + SECOND_US
            await harness.set_clock_us(now_us)
            touched, sweep = await at_once(
                other.touch_sessions([SessionUse(session.id, now_us)]),
                store.prune_idle(None, 100),
                last_first=bool(number % 2),
            )
            is_there = await read(store, session.id) is not None
            assert touched == ({session.id} if is_there else set())
            assert sweep == IdleSweep(None, ended=() if is_there else (EndedSession(ADA, session.id),))
            await store.delete_sessions(SessionFilter())

    async def test_a_touch_that_meets_pruning_does_not_bring_a_session_back(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        session = await sign_in(store, lifetime_us=SECOND_US, expire_after_unused_for_us=SECOND_US)
        now_us = session.last_used_at_us + SECOND_US
        await harness.set_clock_us(now_us)
        touching = start(other.touch_sessions([SessionUse(session.id, now_us)]))
        assert set((await store.prune_expired(10)).ended) == ended(session)
        await touching
        assert await read(other, session.id) is None

    async def test_a_session_whose_touch_is_committed_while_pruning_waits_is_kept(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        """Rows are judged as they are when they go."""
        session = await sign_in(held, scopes={"a"}, expire_after_unused_for_us=SECOND_US)
        now_us = session.last_used_at_us + SECOND_US
        await harness.set_clock_us(now_us)
        async with held.transaction() as transaction:
            await held.set_session_scopes(session.id, frozenset(), transaction=transaction)
            touching = await under_way(harness, other.touch_sessions([SessionUse(session.id, now_us)]))
            pruning = await under_way(harness, other.prune_idle(None, 10))
        is_kept = await touching == {session.id}
        await pruning
        assert (await read(held, session.id) is not None) is is_kept


class LockPromises(Promises):
    """Only one process prunes at a time."""

    async def test_a_lock_has_one_holder(self, store: Store, other: Store) -> None:
        assert await store.try_lock("prune", "one", _HOUR)
        assert not await other.try_lock("prune", "two", _HOUR)
        assert not await store.try_lock("prune", "two", _HOUR)

    async def test_locks_of_different_names_have_nothing_to_do_with_each_other(self, store: Store) -> None:
        assert await store.try_lock("prune", "one", _HOUR)
        assert await store.try_lock("sweep", "two", _HOUR)

    async def test_the_holder_renews_a_lock_from_now_on(self, harness: StoreHarness, store: Store) -> None:
        assert await store.try_lock("prune", "one", _HOUR)
        await harness.advance(timedelta(minutes=40))
        assert await store.try_lock("prune", "one", _HOUR)
        await harness.advance(timedelta(minutes=40))
        assert not await store.try_lock("prune", "two", _HOUR)

    @BOUNDARY
    async def test_a_lock_runs_out_on_the_stores_clock(
        self, harness: StoreHarness, store: Store, past_us: int, is_expired: bool
    ) -> None:
        assert await store.try_lock("prune", "one", _HOUR)
        await harness.advance(_HOUR + timedelta(microseconds=past_us))
        assert await store.try_lock("prune", "two", _HOUR) is is_expired
        assert await store.try_lock("prune", "one", _HOUR) is not is_expired

    async def test_a_lock_that_many_ask_for_at_once_has_one_holder(self, store: Store, other: Store) -> None:
        asked = [one.try_lock("prune", f"holder {number}", _HOUR) for number in range(4) for one in (store, other)]
        answers = await asyncio.gather(*asked)
        # The same holder's name is asked for from both stores, and the second asking renews.
        assert sum(answers) == 2
        assert answers.index(True) // 2 == (len(answers) - 1 - answers[::-1].index(True)) // 2
