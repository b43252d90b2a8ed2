"""Revocation against everything that may happen at the same time. Nothing brings back what was ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coatcheck.scope import scope_set
from coatcheck.stores.records import InsertRefusal, Rehash, SessionFilter, SessionRecord, SessionUse
from coatcheck.testing.conformance.ending import ended
from coatcheck.testing.conformance.promises import OUTCOMES, Promises
from coatcheck.testing.conformance.under_way import HookError, SignInUnderWay, under_way
from coatcheck.testing.samples import (
    ADA,
    a_transaction,
    epochs_of,
    insert,
    key_of,
    new_session,
    numbered_id,
    read,
    read_present,
    read_together,
    read_user_present,
    register,
    sign_in,
    start,
    stored_ids,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

# Writes that may be under way on a session while it is revoked.
WRITES: dict[str, Callable[[Store, SessionRecord], Awaitable[object]]] = {
    "touch": lambda store, session: store.touch_sessions([SessionUse(session.id, session.last_used_at_us)]),
    "rehash": lambda store, session: store.rehash_sessions([Rehash(session.id, session.key, key_of("new"))]),
    "rescope": lambda store, session: store.set_session_scopes(session.id, scope_set({"b"})),
    "follow": lambda store, session: store.set_session_scopes(session.id, None),
    "rescope the user": lambda store, session: store.set_user_scopes(session.user_id, scope_set({"b"})),
    "update the user": lambda store, session: store.update_user(session.user_id, scopes=scope_set({"b"})),
    "delete": lambda store, session: store.delete_sessions(SessionFilter(session_id=session.id)),
    "end all": lambda store, session: store.end_user_sessions(session.user_id),
}

# Calls that end a session, in a transaction.
REVOCATIONS: dict[str, Callable[..., Awaitable[object]]] = {
    "one": lambda store, session, transaction: store.delete_sessions(
        SessionFilter(session_id=session.id), transaction=transaction
    ),
    "all of the user": lambda store, session, transaction: store.end_user_sessions(
        session.user_id, transaction=transaction
    ),
    "block the user": lambda store, session, transaction: store.update_user(
        session.user_id, blocked=True, transaction=transaction
    ),
    "delete the user": lambda store, session, transaction: store.delete_user(session.user_id, transaction=transaction),
}

# Those that end all of a user's sessions and their sign-ins under way.
USER_WIDE = {name: revoke for name, revoke in REVOCATIONS.items() if name != "one"}


class RevocationRacePromises(Promises):
    """Revocation is final."""

    @OUTCOMES
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
    @pytest.mark.parametrize("revoke", REVOCATIONS.values(), ids=REVOCATIONS.keys())
    async def test_a_write_under_way_does_not_revive_a_session_that_is_being_revoked(
        self,
        harness: StoreHarness,
        held: Store,
        other: Store,
        revoke: Callable[..., Awaitable[object]],
        write: Callable[[Store, SessionRecord], Awaitable[object]],
        *,
        commits: bool,
    ) -> None:
        """The other side waits for the revocation, or comes before it; then the session is gone."""
        session = await sign_in(held)

        async with a_transaction(held, commits=commits) as transaction:
            await revoke(held, session, transaction)
            call = await under_way(harness, write(other, session))
        await call

        ends_it_too = write in (WRITES["delete"], WRITES["end all"])
        assert (await read(other, session.id) is None) is (commits or ends_it_too)

    @pytest.mark.parametrize("revoke", REVOCATIONS.values(), ids=REVOCATIONS.keys())
    async def test_a_revocation_that_waited_for_a_change_of_scopes_ends_the_session_all_the_same(
        self, harness: StoreHarness, held: Store, other: Store, revoke: Callable[..., Awaitable[object]]
    ) -> None:
        """Held up by another transaction, it still finds every session."""
        session = await sign_in(held, scopes={"a"})
        async with held.transaction() as transaction:
            await held.set_session_scopes(session.id, scope_set({"b"}), transaction=transaction)
            revoking = await under_way(harness, revoke(other, session, None))
        await revoking
        assert await read(held, session.id) is None

    @pytest.mark.parametrize("revoke", USER_WIDE.values(), ids=USER_WIDE.keys())
    async def test_many_writes_under_way_at_once_bring_no_session_back(
        self, held: Store, other: Store, revoke: Callable[..., Awaitable[object]]
    ) -> None:
        """When the revocation has returned, no later read finds a session."""
        sessions = [await sign_in(held, id=numbered_id(number)) for number in range(10)]
        begun = await epochs_of(held, ADA)
        mild = [name for name in WRITES if name not in ("delete", "end all")]

        storm = [start(write(store, one)) for name in mild for write in [WRITES[name]] for one in sessions
                 for store in (held, other)]  # fmt: skip
        storm += [start(insert(other, new_session(), epochs=begun)) for _ in range(10)]
        await revoke(held, sessions[0], None)

        for reader in (held, other):
            assert await read_together(reader, [one.id for one in sessions]) == [None] * 10
            assert await stored_ids(reader) == set()
        await asyncio.gather(*storm)
        assert await stored_ids(other) == set()

    async def test_a_session_that_two_revoke_at_once_is_reported_by_one(self, store: Store, other: Store) -> None:
        """A session can be ended once."""
        session = await sign_in(store)
        which = SessionFilter(session_id=session.id)
        changes = await asyncio.gather(store.delete_sessions(which), other.delete_sessions(which))
        reports = sorted((change.ended for change in changes), key=len)
        assert [set(report) for report in reports] == [set(), ended(session)]

    async def test_each_session_of_a_user_whom_two_sign_out_at_once_is_reported_by_one(
        self, store: Store, other: Store
    ) -> None:
        """Both move the epoch."""
        sessions = [await sign_in(store) for _ in range(10)]
        begun = await epochs_of(store, ADA)
        one, two = await asyncio.gather(store.end_user_sessions(ADA), other.end_user_sessions(ADA))
        assert {*one.ended, *two.ended} == ended(*sessions)
        assert len(one.ended) + len(two.ended) == len(sessions)
        assert (await epochs_of(store, ADA)).revocations > begun.revocations + 1


class SignInRacePromises(Promises):
    """A call that ends or changes all sessions of a user reaches the one that is being made."""

    @OUTCOMES
    @pytest.mark.parametrize("revoke", USER_WIDE.values(), ids=USER_WIDE.keys())
    async def test_a_sign_in_that_meets_a_revocation_waits_for_it(
        self,
        harness: StoreHarness,
        held: Store,
        other: Store,
        revoke: Callable[..., Awaitable[object]],
        *,
        commits: bool,
    ) -> None:
        """It is refused if the revocation was committed."""
        session = await sign_in(held)
        begun = await epochs_of(other, ADA)

        async with a_transaction(held, commits=commits) as transaction:
            await revoke(held, session, transaction)
            call = await under_way(harness, insert(other, new_session(), epochs=begun))
        outcome = await call

        if commits:
            assert outcome is InsertRefusal.USER_REVOKED
            assert await stored_ids(held) == set()
        else:
            assert isinstance(outcome, SessionRecord)
            assert await stored_ids(held) == {session.id, outcome.id}

    @pytest.mark.parametrize("revoke", USER_WIDE.values(), ids=USER_WIDE.keys())
    async def test_a_revocation_that_meets_a_sign_in_ends_its_session(
        self, harness: StoreHarness, held: Store, other: Store, revoke: Callable[..., Awaitable[object]]
    ) -> None:
        """The sign-in was first, and its session is ended with the rest."""
        session = await sign_in(held)
        async with SignInUnderWay(other, new_session()) as signing_in:
            revoking = await under_way(harness, revoke(held, session, None))
        assert isinstance(signing_in.outcome, SessionRecord)
        await revoking
        assert await stored_ids(other) == set()

    async def test_a_revocation_that_meets_a_sign_in_whose_hook_fails_finds_nothing_of_it(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        await register(held)
        with pytest.raises(HookError):
            async with SignInUnderWay(other, new_session(), fails=True):
                revoking = await under_way(harness, held.end_user_sessions(ADA))
        assert (await revoking).ended == ()
        assert await stored_ids(held) == set()

    async def test_a_sign_in_that_is_cancelled_leaves_no_session_and_nobody_waiting(
        self, held: Store, other: Store
    ) -> None:
        """Given up in its hook, it has not happened."""
        await register(held)
        with pytest.raises(asyncio.CancelledError):
            async with SignInUnderWay(held, new_session()) as signing_in:
                signing_in.cancel()
        assert (await start(other.end_user_sessions(ADA))).ended == ()
        assert await stored_ids(held) == set()
        await sign_in(held)

    @OUTCOMES
    async def test_the_first_sign_in_of_an_applications_user_that_meets_a_revocation_waits_for_it(
        self, harness: StoreHarness, held: Store, other: Store, *, commits: bool
    ) -> None:
        """There is no row of the user's that either could lock."""
        begun = await epochs_of(other, ADA)

        async with a_transaction(held, commits=commits) as transaction:
            await held.end_user_sessions(ADA, transaction=transaction)
            signing_in = insert(other, new_session(), epochs=begun, user_scopes=frozenset())
            call = await under_way(harness, signing_in)
        outcome = await call
        assert (outcome is InsertRefusal.USER_REVOKED) is commits
        assert len(await stored_ids(held)) == int(not commits)

    async def test_a_revocation_that_meets_the_first_sign_in_of_an_applications_user_ends_its_session(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        """There was no row of the user's when it began."""
        async with SignInUnderWay(other, new_session(), user_scopes=frozenset()) as signing_in:
            revoking = await under_way(harness, held.end_user_sessions(ADA))
        assert isinstance(signing_in.outcome, SessionRecord)
        assert set((await revoking).ended) == ended(signing_in.outcome)
        assert await stored_ids(held) == set()

    @OUTCOMES
    async def test_a_following_sign_in_that_meets_a_change_of_scopes_does_not_get_the_old_ones(
        self, harness: StoreHarness, held: Store, other: Store, *, commits: bool
    ) -> None:
        begun = (await register(held, scopes={"a", "b"})).epochs
        following = new_session(scopes={"a", "b"}, follows_user=True)

        async with a_transaction(held, commits=commits) as transaction:
            await held.set_user_scopes(ADA, scope_set({"a"}), transaction=transaction)
            call = await under_way(harness, insert(other, following, epochs=begun))
        outcome = await call
        assert (outcome is InsertRefusal.USER_RESCOPED) is commits
        assert await stored_ids(held) == (set() if commits else {following.id})

    async def test_a_change_of_scopes_that_meets_a_sign_in_reaches_its_session(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        """Whether the session follows its user or not, the scope that was taken away is gone."""
        for following, expected in ((True, {"a"}), (False, {"x"})):
            await held.set_user_scopes(ADA, scope_set({"a", "b"}))
            if not (await read_user_present(held)).is_registered:
                await register(held, scopes={"a", "b"})
            new = new_session(scopes={"a", "b"} if following else {"b", "x"}, follows_user=following)
            async with SignInUnderWay(other, new):
                rescoping = await under_way(harness, held.set_user_scopes(ADA, scope_set({"a"})))
            await rescoping
            assert (await read_present(other, new.id)).scopes == expected

    async def test_a_change_of_scopes_that_meets_the_first_sign_in_of_an_applications_user_reaches_it(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        """There was no row of the user's when it began."""
        known = scope_set({"a", "b"})
        new = new_session(scopes=known, follows_user=True)
        async with SignInUnderWay(other, new, user_scopes=known):
            rescoping = await under_way(harness, held.set_user_scopes(ADA, scope_set({"a"})))
        await rescoping
        assert (await read_present(other, new.id)).scopes == {"a"}

    async def test_two_sign_ins_of_one_user_do_not_wait_for_ever(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        await register(held)
        async with SignInUnderWay(held, new_session()):
            second = await under_way(harness, insert(other, new_session()))
        assert isinstance(await second, SessionRecord)
        assert len(await stored_ids(held)) == 2
