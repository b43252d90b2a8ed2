"""Sessions that are ended are gone when the call returns, and it says which they were."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from coatcheck.stores.records import EndedSession, SessionFilter
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.samples import ADA, BOB, epochs_of, numbered_id, read, register, sign_in, stored_ids, unknown_id

if TYPE_CHECKING:
    from coatcheck.stores.records import SessionRecord
    from coatcheck.stores.store import Store


def ended(*sessions: SessionRecord) -> set[EndedSession]:
    """How a store reports that these sessions ended."""
    return {EndedSession(session.user_id, session.id) for session in sessions}


class DeletingPromises(Promises):
    """`delete_sessions`, with every combination of filters."""

    async def test_one_session_is_deleted_and_reported_and_others_live(self, store: Store) -> None:
        one, two = await sign_in(store), await sign_in(store)
        assert set((await store.delete_sessions(SessionFilter(session_id=one.id))).ended) == ended(one)
        assert await read(store, one.id) is None
        assert await read(store, two.id) == two

    async def test_deleting_what_is_not_there_is_no_error(self, store: Store) -> None:
        one = await sign_in(store)
        for which in (
            SessionFilter(session_id=unknown_id()),
            SessionFilter(user_id=BOB),
            SessionFilter(method="sms"),
            SessionFilter(session_id=one.id, user_id=BOB),
        ):
            assert list((await store.delete_sessions(which)).ended) == []
        await store.delete_sessions(SessionFilter(session_id=one.id))
        assert list((await store.delete_sessions(SessionFilter(session_id=one.id))).ended) == []

    @pytest.mark.parametrize("by_method", [False, True], ids=["any method", "one method"])
    @pytest.mark.parametrize("by_user", [False, True], ids=["any user", "one user"])
    @pytest.mark.parametrize("by_id", [False, True], ids=["any id", "one id"])
    async def test_exactly_what_matches_every_filter_is_deleted(
        self, store: Store, *, by_id: bool, by_user: bool, by_method: bool
    ) -> None:
        """Filters by user, id, method and their combinations; what was deleted is returned."""
        sessions = [
            await sign_in(store, user_id, method=method)
            for user_id, method in itertools.product((ADA, BOB), ("email", "sms", "email"))
        ]
        chosen = sessions[1]
        which = SessionFilter(
            user_id=chosen.user_id if by_user else None,
            session_id=chosen.id if by_id else None,
            method=chosen.method if by_method else None,
        )
        meant = [
            session
            for session in sessions
            if (not by_user or session.user_id == chosen.user_id)
            and (not by_id or session.id == chosen.id)
            and (not by_method or session.method == chosen.method)
        ]
        reported = (await store.delete_sessions(which)).ended
        assert set(reported) == ended(*meant)
        assert len(reported) == len(meant)
        assert await stored_ids(store) == {session.id for session in sessions if session not in meant}

    async def test_a_limit_bounds_each_deletion_until_nothing_is_left(self, store: Store) -> None:
        """An operator's deletion can go in chunks."""
        sessions = [await sign_in(store) for _ in range(5)]
        bob = await sign_in(store, BOB)
        chunks = [(await store.delete_sessions(SessionFilter(user_id=ADA), limit=2)).ended for _ in range(4)]
        assert [len(chunk) for chunk in chunks] == [2, 2, 1, 0]
        assert set(itertools.chain(*chunks)) == ended(*sessions)
        assert await stored_ids(store) == {bob.id}

    async def test_a_limit_comes_after_the_filters(self, store: Store) -> None:
        for number in range(3):
            await sign_in(store, ADA, id=numbered_id(number))
        last = await sign_in(store, BOB, id=numbered_id(9, BOB), method="sms")
        assert set((await store.delete_sessions(SessionFilter(method="sms"), limit=1)).ended) == ended(last)

    async def test_a_limit_larger_than_what_is_there_deletes_all_of_it(self, store: Store) -> None:
        sessions = [await sign_in(store) for _ in range(3)]
        assert set((await store.delete_sessions(SessionFilter(), limit=1000)).ended) == ended(*sessions)

    async def test_a_deleted_id_may_be_used_again_by_a_sign_in_only(self, store: Store) -> None:
        one = await sign_in(store, id=numbered_id(1), scopes={"a"})
        await store.delete_sessions(SessionFilter(session_id=one.id))
        assert await store.set_session_scopes(one.id, one.scopes) is None
        assert await store.set_session_scopes(one.id, None) is None
        assert await stored_ids(store) == set()
        again = await sign_in(store, id=numbered_id(1))
        assert await read(store, one.id) == again


class EndingPromises(Promises):
    """`end_user_sessions`: sessions and the epoch in one step."""

    async def test_all_sessions_of_a_user_end_and_those_of_others_live(self, store: Store) -> None:
        sessions = [await sign_in(store, method=method) for method in ("email", "sms", "email")]
        bob = await sign_in(store, BOB)
        reported = (await store.end_user_sessions(ADA)).ended
        assert set(reported) == ended(*sessions)
        assert len(reported) == 3
        assert await stored_ids(store) == {bob.id}

    async def test_only_sessions_of_one_method_end(self, store: Store) -> None:
        email, sms = await sign_in(store, method="email"), await sign_in(store, method="sms")
        bob = await sign_in(store, BOB, method="email")
        assert set((await store.end_user_sessions(ADA, method="email")).ended) == ended(email)
        assert await stored_ids(store) == {sms.id, bob.id}

    async def test_all_sessions_but_one_end(self, store: Store) -> None:
        kept, gone = await sign_in(store), await sign_in(store)
        assert set((await store.end_user_sessions(ADA, except_session_id=kept.id)).ended) == ended(gone)
        assert await read(store, kept.id) == kept
        assert await read(store, gone.id) is None

    async def test_all_sessions_of_one_method_but_one_end(self, store: Store) -> None:
        kept, gone, sms = await sign_in(store), await sign_in(store), await sign_in(store, method="sms")
        reported = (await store.end_user_sessions(ADA, method="email", except_session_id=kept.id)).ended
        assert set(reported) == ended(gone)
        assert await stored_ids(store) == {kept.id, sms.id}

    async def test_an_exception_that_is_another_users_spares_nothing(self, store: Store) -> None:
        ada, bob = await sign_in(store), await sign_in(store, BOB)
        assert set((await store.end_user_sessions(ADA, except_session_id=bob.id)).ended) == ended(ada)
        assert await read(store, bob.id) == bob

    async def test_the_epoch_moves_each_time_whether_or_not_there_was_a_session(self, store: Store) -> None:
        """A sign-in may be under way."""
        await register(store)
        seen = [await epochs_of(store, ADA)]
        for _ in range(3):
            assert list((await store.end_user_sessions(ADA)).ended) == []
            seen.append(await epochs_of(store, ADA))
        revocations = [epochs.revocations for epochs in seen]
        assert revocations == sorted(set(revocations)), "the epoch goes up each time"
        assert len({epochs.rescopes for epochs in seen}) == 1

    async def test_the_epoch_moves_for_a_user_without_a_row(self, store: Store) -> None:
        """Users may live in the application."""
        assert list((await store.end_user_sessions(ADA)).ended) == []
        assert (await epochs_of(store, ADA)).revocations > 0
        assert list(await store.list_users()) == []

    async def test_ending_sessions_changes_nothing_else_of_the_user(self, store: Store) -> None:
        before = await register(store, scopes={"a"})
        await sign_in(store)
        await store.end_user_sessions(ADA)
        after = await store.read_user(ADA)
        assert after is not None
        assert (after.scopes, after.blocked, after.is_registered, after.created_at_us) == (
            before.scopes, before.blocked, True, before.created_at_us,
        )  # fmt: skip

    async def test_hundreds_of_sessions_of_one_user_end_in_one_step(self, store: Store) -> None:
        ids = {(await sign_in(store)).id for _ in range(300)}
        assert {one.session_id for one in (await store.end_user_sessions(ADA)).ended} == ids
        assert await stored_ids(store) == set()
