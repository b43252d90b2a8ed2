"""Two deadlines, both at `now >= deadline` on the store's clock, to the microsecond."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from coatcheck.stores.records import IdleSweep, SessionFilter, SessionUse
from coatcheck.testing.conformance.ending import ended
from coatcheck.testing.conformance.promises import BOUNDARY, Promises
from coatcheck.testing.samples import SECOND_US, sign_in, stored_ids

if TYPE_CHECKING:
    from coatcheck.identifiers import SessionId
    from coatcheck.stores.records import SessionRecord
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

_HOUR_US = 3600 * SECOND_US
_HOUR = timedelta(hours=1)


class DeadlinePromises(Promises):
    """The absolute and the idle deadline, to the microsecond."""

    @BOUNDARY
    async def test_the_absolute_deadline_is_judged_to_the_microsecond_in_lists(
        self, harness: StoreHarness, store: Store, past_us: int, is_expired: bool
    ) -> None:
        """At the deadline, and after it, a session has ended."""
        session = await sign_in(store, lifetime_us=_HOUR_US)
        await harness.set_clock_us(session.created_at_us + _HOUR_US + past_us)
        await self._listed_as(store, session, is_expired=is_expired)

    @BOUNDARY
    async def test_the_idle_deadline_is_judged_to_the_microsecond_in_lists(
        self, harness: StoreHarness, store: Store, past_us: int, is_expired: bool
    ) -> None:
        """A session that was not used for its limit has ended."""
        session = await sign_in(store, expire_after_unused_for_us=_HOUR_US)
        await harness.set_clock_us(session.last_used_at_us + _HOUR_US + past_us)
        await self._listed_as(store, session, is_expired=is_expired)

    @BOUNDARY
    async def test_the_absolute_deadline_is_judged_to_the_microsecond_by_pruning(
        self, harness: StoreHarness, store: Store, past_us: int, is_expired: bool
    ) -> None:
        """Expired sessions are deleted and live ones kept."""
        session = await sign_in(store, lifetime_us=_HOUR_US)
        await harness.set_clock_us(session.created_at_us + _HOUR_US + past_us)
        assert set((await store.prune_expired(100)).ended) == (ended(session) if is_expired else set())
        assert await stored_ids(store) == (set() if is_expired else {session.id})

    @BOUNDARY
    async def test_the_idle_deadline_is_judged_to_the_microsecond_by_pruning(
        self, harness: StoreHarness, store: Store, past_us: int, is_expired: bool
    ) -> None:
        """Idle sessions are deleted and others kept."""
        session = await sign_in(store, expire_after_unused_for_us=_HOUR_US)
        await harness.set_clock_us(session.last_used_at_us + _HOUR_US + past_us)
        assert set((await store.prune_idle(None, 100)).ended) == (ended(session) if is_expired else set())
        assert await stored_ids(store) == (set() if is_expired else {session.id})

    async def test_an_idle_limit_of_one_second_works(self, harness: StoreHarness, store: Store) -> None:
        session = await sign_in(store, expire_after_unused_for_us=SECOND_US)
        for _ in range(3):
            now_us = await harness.advance(timedelta(microseconds=SECOND_US - 1))
            await self._listed_as(store, session, is_expired=False)
            await store.touch_sessions([SessionUse(session.id, now_us)])
        await harness.advance(timedelta(seconds=1))
        await self._listed_as(store, session, is_expired=True)

    async def test_a_use_does_not_move_the_absolute_deadline(self, harness: StoreHarness, store: Store) -> None:
        session = await sign_in(store, lifetime_us=_HOUR_US, expire_after_unused_for_us=_HOUR_US)
        now_us = await harness.advance(timedelta(minutes=59))
        await store.touch_sessions([SessionUse(session.id, now_us)])
        await harness.advance(timedelta(minutes=1))
        await self._listed_as(store, session, is_expired=True)
        assert await store.prune_idle(None, 100) == IdleSweep(None)
        assert set((await store.prune_expired(100)).ended) == ended(session)

    async def test_a_session_without_deadlines_never_expires(self, harness: StoreHarness, store: Store) -> None:
        session = await sign_in(store)
        await harness.advance(timedelta(days=36_500))
        await self._listed_as(store, session, is_expired=False)
        assert (await store.prune_expired(100)).ended == ()
        assert await store.prune_idle(None, 100) == IdleSweep(None)
        assert await stored_ids(store) == {session.id}

    async def test_every_mixture_of_deadlines_is_listed_and_pruned_by_those_it_has(
        self, harness: StoreHarness, store: Store
    ) -> None:
        """The filter `expired` takes both deadlines, and a session without one never reaches it."""
        near, far = SECOND_US, 10 * _HOUR_US
        sessions = {
            (lifetime_us, unused_for_us): (
                await sign_in(store, lifetime_us=lifetime_us, expire_after_unused_for_us=unused_for_us)
            ).id
            for lifetime_us in (None, near, far)
            for unused_for_us in (None, near, far)
        }
        await harness.advance(timedelta(seconds=1))
        past = {id_ for deadlines, id_ in sessions.items() if near in deadlines}
        assert await _listed(store, expired=True) == past
        assert await _listed(store, expired=False) == set(sessions.values()) - past
        assert await _listed(store, expired=None) == set(sessions.values())

        assert len((await store.prune_expired(100)).ended) == 3
        assert len((await store.prune_idle(None, 100)).ended) == 2
        assert await stored_ids(store) == set(sessions.values()) - past

    async def _listed_as(self, store: Store, session: SessionRecord, *, is_expired: bool) -> None:
        assert await _listed(store, expired=is_expired) == {session.id}
        assert await _listed(store, expired=not is_expired) == set()
        assert await _listed(store, expired=None) == {session.id}


async def _listed(store: Store, *, expired: bool | None) -> set[SessionId]:
    page = await store.list_sessions(SessionFilter(), expired=expired)
    return {reading.session.id for reading in page}
