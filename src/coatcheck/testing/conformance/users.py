"""Users kept in the store: registered, changed, blocked and deleted, with their sessions, in one step each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coatcheck.identifiers import UserId
from coatcheck.scope import scope_set
from coatcheck.stores.records import UserChange, UserRecord
from coatcheck.testing.conformance.ending import ended
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.samples import (
    ADA,
    BOB,
    SECOND_US,
    insert,
    new_session,
    read,
    read_present,
    read_user_present,
    register,
    sign_in,
    sign_in_following,
    stored_ids,
)

if TYPE_CHECKING:
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

NOBODY = UserId("nobody")


class UserPromises(Promises):
    """Registering, reading, listing, changing and deleting users."""

    async def test_a_registered_user_is_read_back_field_by_field(self, harness: StoreHarness, store: Store) -> None:
        plain = await store.insert_user(ADA, scopes=frozenset(), blocked=False)
        special = await store.insert_user(BOB, scopes=scope_set({"a", "b"}), blocked=True)
        now_us = await harness.now_us()
        assert plain is not None
        assert plain == UserRecord(ADA, now_us, frozenset(), False, True, plain.epochs)
        assert special is not None
        assert (special.scopes, special.blocked) == ({"a", "b"}, True)
        assert await store.read_user(ADA) == plain
        assert await store.read_user(BOB) == special

    async def test_an_unknown_user_is_none(self, store: Store) -> None:
        assert await store.read_user(NOBODY) is None

    async def test_an_id_that_is_taken_is_refused_and_the_user_stays_as_they_were(self, store: Store) -> None:
        user = await register(store, scopes={"a"})
        assert await store.insert_user(ADA, scopes=scope_set({"admin"}), blocked=True) is None
        assert await store.read_user(ADA) == user

    async def test_registering_a_user_the_store_has_heard_of_makes_them_a_user(
        self, harness: StoreHarness, store: Store
    ) -> None:
        await store.set_user_scopes(ADA, scope_set({"old"}))
        await harness.set_clock_us(await harness.now_us() + SECOND_US)
        user = await register(store, scopes={"a"}, blocked=True)
        assert user == await read_user_present(store)
        assert (user.scopes, user.blocked, user.is_registered) == ({"a"}, True, True)
        assert user.created_at_us == await harness.now_us()

    async def test_registered_users_are_listed_in_order_of_id_and_others_are_not(self, store: Store) -> None:
        await store.end_user_sessions(UserId("b"))
        ids = [UserId(text) for text in ("zoe", "Zoe", "a", "a-1", "a1", "é", "\U0001f9e5", "10", "9")]
        users = [await register(store, user_id) for user_id in ids]
        page = await store.list_users()
        assert list(page) == sorted(users, key=lambda user: user.id)
        assert page.next_after is None

    async def test_users_are_listed_page_by_page(self, store: Store) -> None:
        users = [await register(store, UserId(f"user {number:02}")) for number in range(7)]
        pages, after = [], None
        for _ in range(10):
            page = await store.list_users(after=after, limit=3)
            pages.append(list(page))
            after = None if page.next_after is None else UserId(page.next_after)
            if after is None:
                break
        assert pages == [users[:3], users[3:6], users[6:]]

    async def test_a_page_that_ends_with_the_last_user_is_the_last_page(self, store: Store) -> None:
        for number in range(4):
            await register(store, UserId(f"user {number}"))
        assert (await store.list_users(limit=4)).next_after is None
        assert (await store.list_users(limit=3)).next_after == "user 2"

    async def test_an_update_of_nothing_changes_nothing(self, store: Store) -> None:
        user = await register(store, scopes={"a"})
        session = await sign_in(store)
        assert await store.update_user(ADA) == UserChange(user)
        assert await store.read_user(ADA) == user
        assert await read(store, session.id) == session

    async def test_an_update_of_scopes_reaches_the_users_sessions(self, store: Store) -> None:
        """In the same step, as `set_user_scopes`."""
        user = await register(store, scopes={"a", "b"})
        following, explicit = await sign_in_following(store), await sign_in(store, scopes={"b", "x"})
        change = await store.update_user(ADA, scopes=scope_set({"a"}))
        assert change is not None
        assert change.removed_scopes == {"b"}
        assert change.ended == ()
        assert change.user.epochs.rescopes > user.epochs.rescopes
        assert change.user == replace(user, scopes=scope_set({"a"}), epochs=change.user.epochs)
        assert await store.read_user(ADA) == change.user
        assert (await read_present(store, following.id)).scopes == {"a"}
        assert (await read_present(store, explicit.id)).scopes == {"x"}

    async def test_blocking_ends_all_sessions_in_the_same_step(self, store: Store) -> None:
        user = await register(store, scopes={"a"})
        sessions = [await sign_in(store, method="sms"), await sign_in_following(store)]
        bob = await sign_in(store, BOB)
        change = await store.update_user(ADA, blocked=True)
        assert change is not None
        assert set(change.ended) == ended(*sessions)
        assert change.removed_scopes == frozenset()
        assert change.user.blocked is True
        assert change.user.scopes == {"a"}
        assert change.user.epochs.revocations > user.epochs.revocations
        assert await store.read_user(ADA) == change.user
        assert await stored_ids(store) == {bob.id}

    async def test_blocking_again_ends_what_was_let_in_meanwhile(self, store: Store) -> None:
        """A trusted caller may let a blocked user in; blocking the user again ends that session too."""
        await register(store, blocked=True)
        session = await insert(store, new_session())
        change = await store.update_user(ADA, blocked=True)
        assert change is not None
        assert set(change.ended) == ended(session)

    async def test_unblocking_brings_nothing_back(self, store: Store) -> None:
        await sign_in(store)
        blocked = await store.update_user(ADA, blocked=True)
        assert blocked is not None
        change = await store.update_user(ADA, blocked=False)
        assert change is not None
        assert (change.user.blocked, change.ended) == (False, ())
        assert change.user.epochs == blocked.user.epochs
        assert await stored_ids(store) == set()

    async def test_scopes_and_blocked_change_together(self, store: Store) -> None:
        """The new row is returned."""
        await register(store, scopes={"a", "b"})
        session = await sign_in(store)
        change = await store.update_user(ADA, scopes=scope_set({"a"}), blocked=True)
        assert change is not None
        assert (change.user.scopes, change.user.blocked) == ({"a"}, True)
        assert change.removed_scopes == {"b"}
        assert set(change.ended) == ended(session)
        assert await store.read_user(ADA) == change.user

    async def test_an_unknown_user_is_neither_changed_nor_made(self, store: Store) -> None:
        assert await store.update_user(NOBODY, scopes=scope_set({"a"}), blocked=True) is None
        assert await store.delete_user(NOBODY) is None
        assert await store.read_user(NOBODY) is None

    async def test_a_user_of_the_applications_is_neither_updated_nor_deleted(self, store: Store) -> None:
        """The store knows the epochs of such a user, and does not have the user."""
        session = await insert(store, new_session(scopes={"a"}, follows_user=True), user_scopes=scope_set({"a"}))
        before = await store.read_user(ADA)
        assert await store.update_user(ADA, scopes=frozenset(), blocked=True) is None
        assert await store.delete_user(ADA) is None
        assert await store.read_user(ADA) == before
        assert await read(store, session.id) == session

    async def test_deleting_a_user_ends_their_sessions_in_the_same_step(self, store: Store) -> None:
        sessions = [await sign_in(store), await sign_in(store, method="sms")]
        bob = await sign_in(store, BOB)
        gone = await store.delete_user(ADA)
        assert gone is not None
        assert set(gone.ended) == ended(*sessions)
        left = await store.read_user(ADA)
        assert left is None or not left.is_registered
        assert [user.id for user in await store.list_users()] == [BOB]
        assert await stored_ids(store) == {bob.id}
        assert await store.delete_user(ADA) is None

    async def test_a_deleted_user_leaves_nothing_to_the_next_one_with_the_id(self, store: Store) -> None:
        """The next user with the id starts with what they are given."""
        await register(store, scopes={"admin"}, blocked=True)
        await store.delete_user(ADA)
        left = await store.read_user(ADA)
        assert left is None or (left.scopes, left.blocked) == (frozenset(), False)
        user = await register(store)
        assert (user.scopes, user.blocked) == (frozenset(), False)
