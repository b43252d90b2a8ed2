"""Scopes are live: what a session or its user is given or loses is there with the next read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coatcheck.scope import scope_set
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import ScopeChange, UserEpochs
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.samples import (
    ADA,
    BOB,
    epochs_of,
    insert,
    new_session,
    read,
    read_present,
    read_user_present,
    register,
    sign_in,
    sign_in_following,
    stored_ids,
    unknown_id,
)

if TYPE_CHECKING:
    from coatcheck.stores.store import Store


class SessionScopePromises(Promises):
    """`set_session_scopes`."""

    async def test_a_sessions_scopes_change_and_nothing_else(self, store: Store) -> None:
        session = await sign_in(store, scopes={"a", "b"}, lifetime_us=5, expire_after_unused_for_us=5)
        neighbour = await sign_in(store, scopes={"a", "b"})
        change = await store.set_session_scopes(session.id, scope_set({"b", "c"}))
        expected = replace(session, scopes=scope_set({"b", "c"}))
        lost = Announcement(ADA, session.id, removed_scopes=scope_set({"a"}))
        assert change == ScopeChange(expected, scope_set({"a"}), announced=(lost,))
        assert await read(store, session.id) == expected
        assert await read(store, neighbour.id) == neighbour

    async def test_a_session_may_lose_all_its_scopes(self, store: Store) -> None:
        session = await sign_in(store, scopes={"a", "b"})
        change = await store.set_session_scopes(session.id, frozenset())
        lost = Announcement(ADA, session.id, removed_scopes=scope_set({"a", "b"}))
        expected = ScopeChange(replace(session, scopes=frozenset()), scope_set({"a", "b"}), announced=(lost,))
        assert change == expected
        assert (await read_present(store, session.id)).scopes == frozenset()

    async def test_the_same_scopes_again_take_nothing_away(self, store: Store) -> None:
        session = await sign_in(store, scopes={"a"})
        assert await store.set_session_scopes(session.id, scope_set({"a"})) == ScopeChange(session, frozenset())

    async def test_a_session_that_does_not_exist_is_not_made(self, store: Store) -> None:
        await register(store)
        for scopes in (scope_set({"a"}), None):
            assert await store.set_session_scopes(unknown_id(), scopes) is None
        assert await stored_ids(store) == set()

    async def test_a_session_that_is_given_scopes_no_longer_follows_its_user(self, store: Store) -> None:
        await register(store, scopes={"a"})
        session = await sign_in_following(store)
        change = await store.set_session_scopes(session.id, scope_set({"x"}))
        assert change is not None
        assert change.session == replace(session, scopes=scope_set({"x"}), follows_user=False)
        await store.set_user_scopes(ADA, scope_set({"a", "b"}))
        assert (await read_present(store, session.id)).scopes == {"x"}

    async def test_a_session_can_be_made_to_follow_its_user(self, store: Store) -> None:
        """None means the user's scopes."""
        await register(store, scopes={"a", "b"})
        session = await sign_in(store, scopes={"b", "x"})
        change = await store.set_session_scopes(session.id, None)
        lost = Announcement(ADA, session.id, removed_scopes=scope_set({"x"}))
        expected = replace(session, scopes=scope_set({"a", "b"}), follows_user=True)
        assert change == ScopeChange(expected, scope_set({"x"}), announced=(lost,))
        await store.set_user_scopes(ADA, scope_set({"c"}))
        assert (await read_present(store, session.id)).scopes == {"c"}

    async def test_a_session_of_an_applications_user_follows_what_the_store_last_heard(self, store: Store) -> None:
        session = await insert(store, new_session(scopes={"x"}), user_scopes=scope_set({"a"}))
        change = await store.set_session_scopes(session.id, None)
        assert change is not None
        assert change.session.scopes == {"a"}

    async def test_changing_one_sessions_scopes_does_not_concern_sign_ins_under_way(self, store: Store) -> None:
        session = await sign_in(store, scopes={"a"})
        before = await epochs_of(store, ADA)
        await store.set_session_scopes(session.id, frozenset())
        assert await epochs_of(store, ADA) == before


class UserScopePromises(Promises):
    """`set_user_scopes`: the user and all their sessions in one step."""

    async def test_sessions_that_follow_get_exactly_the_new_scopes(self, store: Store) -> None:
        await register(store, scopes={"a", "b"})
        sessions = [await sign_in_following(store) for _ in range(3)]
        change = await store.set_user_scopes(ADA, scope_set({"b", "c"}))
        assert change.user.scopes == {"b", "c"}
        assert change.removed_scopes == {"a"}
        assert change.ended == ()
        for session in sessions:
            assert await read(store, session.id) == replace(session, scopes=scope_set({"b", "c"}))

    async def test_a_scope_taken_from_the_user_leaves_sessions_with_scopes_of_their_own(self, store: Store) -> None:
        """A scope that is taken from a user leaves all their sessions."""
        await register(store, scopes={"a", "b"})
        has_it, has_only_it, has_not = [await sign_in(store, scopes=own) for own in ({"a", "x"}, {"a"}, {"b", "x"})]
        await store.set_user_scopes(ADA, scope_set({"b"}))
        assert await read(store, has_it.id) == replace(has_it, scopes=scope_set({"x"}))
        assert await read(store, has_only_it.id) == replace(has_only_it, scopes=frozenset())
        assert await read(store, has_not.id) == has_not

    async def test_a_scope_given_to_the_user_does_not_reach_sessions_with_scopes_of_their_own(
        self, store: Store
    ) -> None:
        await register(store, scopes={"a"})
        explicit, following = await sign_in(store, scopes={"x"}), await sign_in_following(store)
        empty = await sign_in(store, scopes=())
        change = await store.set_user_scopes(ADA, scope_set({"a", "b"}))
        assert change.removed_scopes == frozenset()
        assert await read(store, explicit.id) == explicit
        assert await read(store, empty.id) == empty
        assert (await read_present(store, following.id)).scopes == {"a", "b"}

    async def test_a_scope_the_user_never_had_stays_on_a_session_of_its_own(self, store: Store) -> None:
        await register(store, scopes={"a"})
        session = await sign_in(store, scopes={"x"})
        await store.set_user_scopes(ADA, frozenset())
        assert await read(store, session.id) == session

    async def test_scopes_are_compared_whole(self, store: Store) -> None:
        await register(store, scopes={"notes", "Notes:read"})
        session = await sign_in(store, scopes={"notes:read", "notes", "notes2"})
        await store.set_user_scopes(ADA, frozenset())
        assert (await read_present(store, session.id)).scopes == {"notes:read", "notes2"}

    async def test_other_users_sessions_are_left_alone(self, store: Store) -> None:
        for user_id in (ADA, BOB):
            await register(store, user_id, scopes={"a"})
        sessions = [await sign_in(store, BOB, scopes={"a"}), await sign_in_following(store, BOB)]
        await store.set_user_scopes(ADA, frozenset())
        assert [await read(store, session.id) for session in sessions] == sessions

    async def test_the_rescopes_epoch_moves_each_time_and_the_other_does_not(self, store: Store) -> None:
        await register(store)
        seen = [await epochs_of(store, ADA)]
        for scopes in ({"a"}, {"a"}, ()):
            change = await store.set_user_scopes(ADA, scope_set(scopes))
            seen.append(change.user.epochs)
            assert await epochs_of(store, ADA) == change.user.epochs
        rescopes = [epochs.rescopes for epochs in seen]
        assert rescopes == sorted(set(rescopes)), "the epoch goes up each time"
        assert len({epochs.revocations for epochs in seen}) == 1

    async def test_a_user_without_a_row_gets_one(self, store: Store) -> None:
        change = await store.set_user_scopes(ADA, scope_set({"a"}))
        assert change.user == await read_user_present(store)
        assert change.user.scopes == {"a"}
        assert change.removed_scopes == frozenset()
        assert change.user.is_registered is False
        assert change.user.epochs != UserEpochs()
        assert list(await store.list_users()) == []

    async def test_an_applications_user_loses_scopes_in_all_their_sessions(self, store: Store) -> None:
        known = scope_set({"a", "b"})
        following = await insert(store, new_session(scopes=known, follows_user=True), user_scopes=known)
        explicit = await insert(store, new_session(scopes={"b", "x"}), user_scopes=known)
        change = await store.set_user_scopes(ADA, scope_set({"a"}))
        assert change.removed_scopes == {"b"}
        assert (await read_present(store, following.id)).scopes == {"a"}
        assert (await read_present(store, explicit.id)).scopes == {"x"}

    async def test_many_sessions_with_many_sets_of_scopes_change_in_one_step(self, store: Store) -> None:
        await register(store, scopes=["a", "b", "c"])
        sessions = [await sign_in(store, scopes={f"own:{number}", "a", "b"}) for number in range(60)]
        sessions += [await sign_in_following(store) for _ in range(20)]
        await store.set_user_scopes(ADA, scope_set({"b"}))
        for number, session in enumerate(sessions):
            expected = {"b"} if session.follows_user else {f"own:{number}", "b"}
            assert (await read_present(store, session.id)).scopes == expected
