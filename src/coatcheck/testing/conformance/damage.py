"""Rows that are not what they should be: nothing is granted by them, and nothing else suffers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from coatcheck.scope import scope_set
from coatcheck.stores.records import KeyHash, ScopeChange, SessionFilter, SessionUse
from coatcheck.testing.conformance.ending import ended
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.samples import (
    ADA,
    read,
    read_present,
    read_together,
    reading_of,
    register,
    sign_in,
    sign_in_following,
    stored_ids,
)

if TYPE_CHECKING:
    from coatcheck.stores.records import SessionRecord
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness


class DamagePromises(Promises):
    """Scopes that cannot be read are None, so that the session is refused."""

    async def test_scopes_that_cannot_be_read_are_none_and_the_rest_is_there(
        self, harness: StoreHarness, store: Store
    ) -> None:
        damaged = await self._damaged(harness, scopes=("a",))
        assert await read(store, damaged.id) == damaged

    async def test_a_damaged_session_does_not_spoil_the_batch_or_the_list_it_is_in(
        self, harness: StoreHarness, store: Store
    ) -> None:
        before, damaged, behind = await sign_in(store), await self._damaged(harness), await sign_in(store)
        sessions = [before, damaged, behind]
        now_us = await harness.now_us()
        readings = await read_together(store, [session.id for session in sessions])
        assert readings == [reading_of(session, now_us) for session in sessions]
        page = await store.list_sessions(SessionFilter())
        assert {reading.session.id: reading.session for reading in page}[damaged.id] == damaged

    async def test_a_damaged_session_can_be_touched_and_revoked(self, harness: StoreHarness, store: Store) -> None:
        damaged = await self._damaged(harness)
        assert await store.touch_sessions([SessionUse(damaged.id, await harness.now_us())]) == {damaged.id}
        assert set((await store.delete_sessions(SessionFilter(session_id=damaged.id))).ended) == ended(damaged)
        assert await stored_ids(store) == set()

    async def test_a_damaged_session_ends_with_all_of_its_users(self, harness: StoreHarness, store: Store) -> None:
        damaged, sound = await self._damaged(harness), await sign_in(store)
        assert set((await store.end_user_sessions(ADA)).ended) == ended(damaged, sound)

    async def test_a_damaged_session_does_not_stop_a_change_of_its_users_scopes(
        self, harness: StoreHarness, store: Store
    ) -> None:
        await register(store, scopes={"a", "b"})
        damaged, sound = await self._damaged(harness), await sign_in(store, scopes={"a", "b"})
        following = await sign_in_following(store)
        await harness.corrupt_scopes(following.id)
        await store.set_user_scopes(ADA, scope_set({"b"}))
        assert await read(store, damaged.id) == damaged
        assert await read(store, sound.id) == replace(sound, scopes=scope_set({"b"}))
        assert (await read_present(store, following.id)).scopes == {"b"}

    async def test_new_scopes_mend_a_damaged_session(self, harness: StoreHarness, store: Store) -> None:
        damaged = await self._damaged(harness)
        mended = replace(damaged, scopes=scope_set({"a"}))
        assert await store.set_session_scopes(damaged.id, scope_set({"a"})) == ScopeChange(mended, frozenset())
        assert await read(store, damaged.id) == mended

    @pytest.mark.parametrize(
        "key",
        [
            KeyHash(b"", b"", None),
            KeyHash(b"\x01", b"salt", "p"),
            KeyHash(b"\x02" + bytes(64), bytes(16), "p"),
            KeyHash(bytes(66), bytes(1024), "p"),
        ],
        ids=["nothing", "only a version", "an unknown version", "too long"],
    )
    async def test_a_hash_of_no_known_form_is_handed_out_as_it_is(self, store: Store, key: KeyHash) -> None:
        """The reader judges it."""
        session = await sign_in(store, key=key)
        assert (await read_present(store, session.id)).key == key

    async def _damaged(self, harness: StoreHarness, scopes: tuple[str, ...] = ()) -> SessionRecord:
        session = await sign_in(harness.store, scopes=scopes)
        await harness.corrupt_scopes(session.id)
        return replace(session, scopes=None)
