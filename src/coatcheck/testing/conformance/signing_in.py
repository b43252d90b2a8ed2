"""A sign-in whose credentials were checked before its user's sessions were ended cannot complete after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coatcheck.identifiers import UserId
from coatcheck.scope import scope_set
from coatcheck.stores.records import InsertRefusal, SessionFilter, SessionRecord, UserEpochs
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.conformance.under_way import HookError
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
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness


class SignInPromises(Promises):
    """`insert_session` of users kept in the store."""

    async def test_a_user_who_does_not_exist_counts_as_revoked(self, store: Store) -> None:
        """An unknown user does not sign in, and no row is made."""
        refused = await insert(store, new_session(UserId("nobody")))
        assert refused is InsertRefusal.USER_REVOKED
        assert await stored_ids(store) == set()
        assert await store.read_user(UserId("nobody")) is None

    async def test_a_user_known_only_by_their_epochs_counts_as_revoked(self, store: Store) -> None:
        """A row that only keeps epochs is no user."""
        await store.end_user_sessions(ADA)
        assert await insert(store, new_session(ADA)) is InsertRefusal.USER_REVOKED
        assert await stored_ids(store) == set()

    async def test_a_sign_in_begun_before_all_sessions_were_ended_is_refused(self, store: Store, other: Store) -> None:
        """Ending all sessions of a user reaches sign-ins under way."""
        begun = (await register(store)).epochs
        await other.end_user_sessions(ADA)
        assert await insert(store, new_session(ADA), epochs=begun) is InsertRefusal.USER_REVOKED
        assert await stored_ids(store) == set()
        await sign_in(store)

    async def test_ending_some_of_a_users_sessions_refuses_sign_ins_under_way_too(self, store: Store) -> None:
        session = await sign_in(store)
        for options in ({"method": "email"}, {"except_session_id": session.id}, {"method": "sms"}):
            begun = await epochs_of(store, ADA)
            await store.end_user_sessions(ADA, **options)
            assert await insert(store, new_session(), epochs=begun) is InsertRefusal.USER_REVOKED

    async def test_ending_one_session_leaves_sign_ins_under_way_alone(self, store: Store) -> None:
        one = await sign_in(store)
        begun = await epochs_of(store, ADA)
        await store.delete_sessions(SessionFilter(session_id=one.id))
        assert isinstance(await insert(store, new_session(), epochs=begun), SessionRecord)

    async def test_ending_the_sessions_of_one_user_leaves_sign_ins_of_others_alone(self, store: Store) -> None:
        begun = (await register(store, BOB)).epochs
        await register(store, ADA)
        await store.end_user_sessions(ADA)
        assert isinstance(await insert(store, new_session(BOB), epochs=begun), SessionRecord)

    @pytest.mark.parametrize("difference", [-1, 1])
    async def test_epochs_must_be_equal_not_just_high_enough(self, store: Store, difference: int) -> None:
        await register(store)
        await store.end_user_sessions(ADA)
        now = await epochs_of(store, ADA)
        wrong = UserEpochs(now.revocations + difference, now.rescopes)
        assert await insert(store, new_session(), epochs=wrong) is InsertRefusal.USER_REVOKED

    async def test_scopes_that_changed_since_they_were_read_are_not_put_on_a_session(self, store: Store) -> None:
        """A session without scopes of its own has its user's, as they are now."""
        begun = (await register(store, scopes={"a"})).epochs
        await store.set_user_scopes(ADA, scope_set({"b"}))
        stale = new_session(scopes={"a"}, follows_user=True)
        assert await insert(store, stale, epochs=begun) is InsertRefusal.USER_RESCOPED
        assert await stored_ids(store) == set()
        again = await sign_in_following(store)
        assert again.scopes == {"b"}

    async def test_a_session_with_scopes_of_its_own_does_not_wait_for_its_users(self, store: Store) -> None:
        """Explicit scopes are stored exactly, a subset of the user's or not."""
        begun = (await register(store, scopes={"a"})).epochs
        await store.set_user_scopes(ADA, scope_set({"b"}))
        session = await insert(store, new_session(scopes={"x"}), epochs=begun)
        assert await read(store, session.id) == session
        assert session.scopes == {"x"}

    async def test_having_been_revoked_is_said_before_having_been_rescoped(self, store: Store) -> None:
        begun = (await register(store)).epochs
        await store.set_user_scopes(ADA, scope_set({"b"}))
        await store.end_user_sessions(ADA)
        refused = await insert(store, new_session(follows_user=True), epochs=begun)
        assert refused is InsertRefusal.USER_REVOKED

    async def test_a_sign_in_begun_before_the_user_was_blocked_is_refused(self, store: Store) -> None:
        """Blocking reaches sign-ins under way."""
        begun = (await register(store)).epochs
        await store.update_user(ADA, blocked=True)
        assert await insert(store, new_session(), epochs=begun) is InsertRefusal.USER_REVOKED

    async def test_a_sign_in_begun_before_the_user_was_deleted_is_refused(self, store: Store) -> None:
        """No session of a deleted user appears afterwards."""
        begun = (await register(store)).epochs
        await store.delete_user(ADA)
        assert await insert(store, new_session(), epochs=begun) is InsertRefusal.USER_REVOKED

    async def test_a_sign_in_begun_before_the_user_was_deleted_and_made_again_is_refused(self, store: Store) -> None:
        """It does not become a session of the next user with this id."""
        begun = (await register(store)).epochs
        await store.delete_user(ADA)
        await register(store)
        assert await insert(store, new_session(), epochs=begun) is InsertRefusal.USER_REVOKED
        assert await stored_ids(store) == set()

    async def test_the_store_leaves_it_to_the_caller_to_refuse_a_blocked_user(self, store: Store) -> None:
        """A trusted caller can skip that check."""
        await register(store, blocked=True)
        assert isinstance(await insert(store, new_session()), SessionRecord)

    async def test_the_hook_runs_inside_the_inserting_transaction(self, held: Store, other: Store) -> None:
        """The hook sees the session, and no other caller does yet."""
        await register(held)
        session = new_session()
        seen: list[object] = []

        async def hook(connection: AsyncConnection) -> None:
            page = await held.list_sessions(SessionFilter(session_id=session.id), transaction=connection)
            seen.append([reading.session.id for reading in page])
            seen.append(await read(other, session.id))

        await insert(held, session, inside_transaction=hook)
        assert seen == [[session.id], None]
        assert await stored_ids(other) == {session.id}

    async def test_a_hook_that_raises_leaves_no_session(self, held: Store) -> None:
        """The hook's error reaches the caller as it is."""
        await register(held)

        async def hook(_connection: AsyncConnection) -> None:
            raise HookError

        with pytest.raises(HookError):
            await insert(held, new_session(), inside_transaction=hook)
        assert await stored_ids(held) == set()

    async def test_a_hook_that_raises_an_operating_system_error_is_not_taken_for_an_outage(self, held: Store) -> None:
        """An error of the hook is the application's, whatever its type."""
        await register(held)

        async def hook(_connection: AsyncConnection) -> None:
            raise ConnectionRefusedError("the application's mail server")

        with pytest.raises(ConnectionRefusedError):
            await insert(held, new_session(), inside_transaction=hook)
        assert await stored_ids(held) == set()

    async def test_the_hook_does_not_run_for_a_refused_sign_in(self, held: Store) -> None:
        begun = (await register(held)).epochs
        await held.end_user_sessions(ADA)

        async def hook(_connection: AsyncConnection) -> None:
            raise HookError

        assert await insert(held, new_session(), epochs=begun, inside_transaction=hook) is InsertRefusal.USER_REVOKED


class ApplicationUserPromises(Promises):
    """Users who live in the application: the store keeps their epochs and the scopes it last heard of."""

    async def test_the_first_sign_in_makes_the_row(self, harness: StoreHarness, store: Store) -> None:
        session = await insert(store, new_session(scopes={"a"}, follows_user=True), user_scopes=scope_set({"a"}))
        assert await read(store, session.id) == session
        user = await read_user_present(store)
        assert user.scopes == {"a"}
        assert (user.is_registered, user.blocked, user.epochs) == (False, False, UserEpochs())
        assert user.created_at_us == await harness.now_us()

    async def test_a_refused_sign_in_leaves_a_user_unknown(self, store: Store) -> None:
        await store.end_user_sessions(ADA)
        refused = await insert(store, new_session(), epochs=UserEpochs(), user_scopes=scope_set({"a"}))
        assert refused is InsertRefusal.USER_REVOKED
        assert await stored_ids(store) == set()

    async def test_a_sign_in_is_refused_though_the_user_had_no_row_when_all_was_ended(self, store: Store) -> None:
        """The epoch moves even for a user of whom the store has never heard."""
        begun = await epochs_of(store, ADA)
        assert list((await store.end_user_sessions(ADA)).ended) == []
        refused = await insert(store, new_session(), epochs=begun, user_scopes=frozenset())
        assert refused is InsertRefusal.USER_REVOKED
        assert isinstance(await insert(store, new_session(), user_scopes=frozenset()), SessionRecord)

    async def test_a_sign_in_is_refused_though_the_user_had_no_row_when_the_scopes_changed(self, store: Store) -> None:
        """A session that follows its user has their scopes as they are now."""
        begun = await epochs_of(store, ADA)
        await store.set_user_scopes(ADA, scope_set({"b"}))
        stale = new_session(scopes={"a"}, follows_user=True)
        refused = await insert(store, stale, epochs=begun, user_scopes=scope_set({"a"}))
        assert refused is InsertRefusal.USER_RESCOPED
        assert await stored_ids(store) == set()

    async def test_a_sign_in_later_finds_the_users_other_sessions_untouched(self, store: Store) -> None:
        first = await insert(store, new_session(scopes={"a"}, follows_user=True), user_scopes=scope_set({"a"}))
        await insert(store, new_session(scopes={"x"}), user_scopes=scope_set({"a"}))
        assert await read(store, first.id) == first

    async def test_scopes_the_user_lost_leave_all_sessions_though_a_sign_in_came_between(self, store: Store) -> None:
        """The application changes its own table, somebody signs in, then it tells the store."""
        before, after = scope_set({"a", "b"}), scope_set({"a"})
        explicit = await insert(store, new_session(scopes={"b", "c"}), user_scopes=before)
        await insert(store, new_session(scopes=after, follows_user=True), user_scopes=after)

        await store.set_user_scopes(ADA, after)

        assert (await read_present(store, explicit.id)).scopes == {"c"}

    async def test_a_sign_in_overtaken_by_a_change_of_scopes_does_not_bring_the_old_ones_back(
        self, store: Store
    ) -> None:
        """A sign-in with scopes of its own may complete, but its knowledge of the user's scopes is old."""
        before, after = scope_set({"a", "b"}), scope_set({"a"})
        session = await insert(store, new_session(scopes={"a"}), user_scopes=before)
        begun = await epochs_of(store, ADA)
        await store.set_user_scopes(ADA, after)
        assert isinstance(
            await insert(store, new_session(scopes={"x"}), epochs=begun, user_scopes=before), SessionRecord
        )

        change = await store.set_session_scopes(session.id, None)

        assert change is not None
        assert change.session.scopes == after

    async def test_registering_keeps_the_epochs_of_a_row_that_was_there(self, store: Store) -> None:
        begun = await epochs_of(store, ADA)
        await store.end_user_sessions(ADA)
        await store.set_user_scopes(ADA, scope_set({"a"}))
        known = await epochs_of(store, ADA)
        user = await register(store, scopes={"b"})
        assert user.epochs == known
        assert (user.is_registered, user.scopes) == (True, {"b"})
        assert await insert(store, new_session(), epochs=begun) is InsertRefusal.USER_REVOKED
