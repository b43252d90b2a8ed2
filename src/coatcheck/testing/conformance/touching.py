"""A touch writes that a session was used, and nothing else; a rehash replaces one hash, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coatcheck.scope import scope_set
from coatcheck.stores.records import KeyHash, Rehash, SessionFilter, SessionUse
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.samples import (
    SECOND_US,
    key_of,
    new_session,
    numbered_id,
    read,
    read_present,
    sign_in,
    stored_ids,
    unknown_id,
)

if TYPE_CHECKING:
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness


class TouchPromises(Promises):
    """`touch_sessions`: it revives nothing, extends no life beyond the clock, and writes one column."""

    async def test_a_touch_moves_the_last_use_and_nothing_else(self, harness: StoreHarness, store: Store) -> None:
        """For a session that is used within its idle limit the limit starts again."""
        session = await sign_in(store, scopes={"a"}, lifetime_us=SECOND_US, expire_after_unused_for_us=SECOND_US)
        used_at_us = await harness.now_us() + 7
        await harness.set_clock_us(used_at_us)
        assert await store.touch_sessions([SessionUse(session.id, used_at_us)]) == {session.id}
        assert await read(store, session.id) == replace(session, last_used_at_us=used_at_us)

    async def test_a_touch_leaves_other_sessions_alone(self, harness: StoreHarness, store: Store) -> None:
        touched, alone = await sign_in(store), await sign_in(store)
        await harness.set_clock_us(await harness.now_us() + SECOND_US)
        await store.touch_sessions([SessionUse(touched.id, await harness.now_us())])
        assert await read(store, alone.id) == alone

    async def test_a_touch_never_inserts(self, harness: StoreHarness, store: Store) -> None:
        """Nothing revives a row."""
        gone = await sign_in(store)
        await store.delete_sessions(SessionFilter(session_id=gone.id))
        uses = [SessionUse(id_, await harness.now_us()) for id_ in (gone.id, unknown_id())]
        assert await store.touch_sessions(uses) == frozenset()
        assert await stored_ids(store) == set()

    async def test_a_touch_says_which_sessions_still_exist(self, harness: StoreHarness, store: Store) -> None:
        here, gone, also_here = await sign_in(store), await sign_in(store), await sign_in(store)
        await store.delete_sessions(SessionFilter(session_id=gone.id))
        now_us = await harness.now_us()
        uses = [SessionUse(session.id, now_us) for session in (also_here, gone, here)]
        assert await store.touch_sessions(uses) == {here.id, also_here.id}

    async def test_a_touch_that_moves_nothing_still_says_that_the_session_exists(self, store: Store) -> None:
        session = await sign_in(store)
        uses = [SessionUse(session.id, session.last_used_at_us)]
        assert await store.touch_sessions(uses) == {session.id}
        assert await store.touch_sessions(uses) == {session.id}

    async def test_an_expired_session_that_is_still_there_is_touched_like_any_other(
        self, harness: StoreHarness, store: Store
    ) -> None:
        session = await sign_in(store, expires_at_us=await harness.now_us())
        now_us = await harness.now_us() + 1
        await harness.set_clock_us(now_us)
        assert await store.touch_sessions([SessionUse(session.id, now_us)]) == {session.id}
        assert await read(store, session.id) == replace(session, last_used_at_us=now_us)

    async def test_a_batch_of_nothing_touches_nothing(self, store: Store) -> None:
        session = await sign_in(store)
        assert await store.touch_sessions([]) == frozenset()
        assert await read(store, session.id) == session

    async def test_a_batch_takes_each_session_to_its_own_time(self, harness: StoreHarness, store: Store) -> None:
        start_us = await harness.now_us()
        sessions = [await sign_in(store, id=numbered_id(number)) for number in range(50)]
        await harness.set_clock_us(start_us + 1000)
        uses = [SessionUse(session.id, start_us + number) for number, session in enumerate(sessions)]
        assert await store.touch_sessions(uses[::-1]) == {session.id for session in sessions}
        for number, session in enumerate(sessions):
            assert (await read_present(store, session.id)).last_used_at_us == start_us + number

    async def test_the_latest_of_several_uses_in_a_batch_counts(self, harness: StoreHarness, store: Store) -> None:
        session = await sign_in(store)
        start_us = await harness.now_us()
        await harness.set_clock_us(start_us + 100)
        uses = [SessionUse(session.id, start_us + later) for later in (10, 30, 20)]
        assert await store.touch_sessions(uses) == {session.id}
        assert (await read_present(store, session.id)).last_used_at_us == start_us + 30

    async def test_an_older_use_moves_nothing(self, harness: StoreHarness, store: Store) -> None:
        session = await sign_in(store)
        await store.touch_sessions([SessionUse(session.id, session.last_used_at_us - 1)])
        assert await read(store, session.id) == session
        now_us = await harness.now_us() + SECOND_US
        await harness.set_clock_us(now_us)
        await store.touch_sessions([SessionUse(session.id, now_us)])
        await store.touch_sessions([SessionUse(session.id, now_us - 1)])
        assert (await read_present(store, session.id)).last_used_at_us == now_us

    async def test_a_use_in_the_future_moves_no_further_than_the_stores_clock(
        self, harness: StoreHarness, store: Store
    ) -> None:
        """A last use in the future never extends a life."""
        session = await sign_in(store)
        now_us = await harness.now_us() + 5
        await harness.set_clock_us(now_us)
        assert await store.touch_sessions([SessionUse(session.id, now_us + 3600 * SECOND_US)]) == {session.id}
        assert (await read_present(store, session.id)).last_used_at_us == now_us

    async def test_a_stored_use_in_the_future_is_pulled_back(self, harness: StoreHarness, store: Store) -> None:
        """A clock that was ahead may have left it. A last use in the future never extends a life."""
        now_us = await harness.now_us()
        await harness.set_clock_us(now_us + 3600 * SECOND_US)
        session = await sign_in(store)
        await harness.set_clock_us(now_us)
        assert await store.touch_sessions([SessionUse(session.id, now_us - 3)]) == {session.id}
        assert (await read_present(store, session.id)).last_used_at_us == now_us - 3
        await store.touch_sessions([SessionUse(session.id, now_us)])
        assert (await read_present(store, session.id)).last_used_at_us == now_us

    async def test_a_stored_use_in_the_future_is_pulled_back_to_the_clock_by_a_use_in_the_future(
        self, harness: StoreHarness, store: Store
    ) -> None:
        now_us = await harness.now_us()
        await harness.set_clock_us(now_us + 3600 * SECOND_US)
        session = await sign_in(store)
        await harness.set_clock_us(now_us)
        await store.touch_sessions([SessionUse(session.id, now_us + 7200 * SECOND_US)])
        assert (await read_present(store, session.id)).last_used_at_us == now_us

    async def test_a_change_between_the_read_and_the_touch_survives_it(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        """Writing back the whole row that was read would undo what came in between."""
        session = await sign_in(store, scopes={"a", "b"})
        stale = await read_present(store, session.id)
        await other.set_session_scopes(session.id, scope_set({"a"}))
        await other.rehash_sessions([Rehash(session.id, session.key, key_of("new", pepper_id="pepper-2"))])
        now_us = await harness.now_us() + SECOND_US
        await harness.set_clock_us(now_us)

        await store.touch_sessions([SessionUse(stale.id, now_us)])

        assert await read(store, session.id) == replace(
            session, scopes=scope_set({"a"}), key=key_of("new", pepper_id="pepper-2"), last_used_at_us=now_us
        )


class RehashPromises(Promises):
    """`rehash_sessions`: it revives nothing, and replaces one hash that is still the one that was read."""

    async def test_a_rehash_replaces_hash_salt_and_pepper_and_nothing_else(self, store: Store) -> None:
        """On use, a session is rehashed under the primary pepper."""
        session = await sign_in(store, scopes={"a"}, lifetime_us=SECOND_US, key=key_of("old", pepper_id="pepper-1"))
        new = key_of("new", pepper_id="pepper-2")
        await store.rehash_sessions([Rehash(session.id, session.key, new)])
        assert await read(store, session.id) == replace(session, key=new)

    async def test_the_superseded_form_is_replaced_by_the_current_one(self, store: Store) -> None:
        """The row is rewritten in the current scheme with its existing salt."""
        old = KeyHash(b"\x17" * 64, b"salt", None)
        session = await sign_in(store, key=old)
        new = key_of("new")._replace(salt=old.salt)
        await store.rehash_sessions([Rehash(session.id, old, new)])
        assert (await read_present(store, session.id)).key == new

    async def test_a_rehash_does_nothing_where_another_hash_is_stored_by_now(self, store: Store, other: Store) -> None:
        session = await sign_in(store, key=key_of("old"))
        first, second = key_of("first"), key_of("second")
        await store.rehash_sessions([Rehash(session.id, key_of("old"), first)])
        await other.rehash_sessions([Rehash(session.id, key_of("old"), second)])
        assert (await read_present(store, session.id)).key == first

    async def test_a_rehash_never_inserts(self, store: Store) -> None:
        gone = await sign_in(store, key=key_of("old"))
        await store.delete_sessions(SessionFilter(session_id=gone.id))
        await store.rehash_sessions([Rehash(id_, key_of("old"), key_of("new")) for id_ in (gone.id, unknown_id())])
        assert await stored_ids(store) == set()

    async def test_a_batch_replaces_each_hash_for_itself(self, store: Store) -> None:
        sessions = [await sign_in(store, key=key_of(f"old {number}")) for number in range(20)]
        gone, moved = sessions[3], sessions[5]
        await store.delete_sessions(SessionFilter(session_id=gone.id))
        await store.rehash_sessions([Rehash(moved.id, moved.key, key_of("moved"))])
        batch = [Rehash(one.id, one.key, key_of(f"new {number}")) for number, one in enumerate(sessions)]
        await store.rehash_sessions(batch[::-1])
        keys = {one.id: (await read_present(store, one.id)).key for one in sessions if one is not gone}
        expected = {rehash.session_id: rehash.new for rehash in batch if rehash.session_id != gone.id}
        assert keys == expected | {moved.id: key_of("moved")}

    async def test_a_batch_of_nothing_rehashes_nothing(self, store: Store) -> None:
        session = await sign_in(store)
        await store.rehash_sessions([])
        assert await read(store, session.id) == session

    async def test_a_change_between_the_read_and_the_rehash_survives_it(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        session = await sign_in(store, scopes={"a", "b"})
        now_us = await harness.now_us() + SECOND_US
        await harness.set_clock_us(now_us)
        await other.set_session_scopes(session.id, scope_set({"b"}))
        await other.touch_sessions([SessionUse(session.id, now_us)])
        await store.rehash_sessions([Rehash(session.id, session.key, key_of("new"))])
        assert await read(store, session.id) == replace(
            session, scopes=scope_set({"b"}), last_used_at_us=now_us, key=key_of("new")
        )

    async def test_sessions_are_counted_by_the_pepper_of_their_hash(self, store: Store) -> None:
        """The operator can see how many sessions still need an old pepper."""
        assert list(await store.count_by_pepper()) == []
        for pepper_id in ("old", "old", "new", None):
            session = await sign_in(store, key=key_of("x", pepper_id=pepper_id))
        assert await self._counted(store) == {"old": 2, "new": 1, None: 1}
        await store.rehash_sessions([Rehash(session.id, session.key, key_of("y", pepper_id="new"))])
        assert await self._counted(store) == {"old": 2, "new": 2}

    async def test_a_session_of_many_scopes_is_counted_once(self, store: Store) -> None:
        await sign_in(store, scopes={"a", "b"}, key=new_session().key)
        assert await self._counted(store) == {"pepper-1": 1}

    async def _counted(self, store: Store) -> dict[str | None, int]:
        counts = await store.count_by_pepper()
        found = {count.pepper_id: count.sessions for count in counts}
        assert len(found) == len(counts), "a pepper is listed twice"
        return found
