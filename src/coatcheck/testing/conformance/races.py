"""Revocation against everything that may happen at the same time. Nothing brings back what was ended.

Each test holds one side in the middle: in a transaction that it keeps open, or in the hook of a sign-in, which runs
inside the inserting transaction. The other side comes through a second store. What is asserted is how things stand
when both have returned, and it holds whichever of the two the store let go first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from coatcheck.scope import scope_set
from coatcheck.stores.records import IdleSweep, InsertRefusal, Rehash, SessionFilter, SessionRecord, SessionUse
from coatcheck.testing.conformance.ending import ended
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.samples import (
    ADA,
    SECOND_US,
    epochs_of,
    insert,
    key_of,
    new_session,
    numbered_id,
    read,
    read_present,
    read_user_present,
    register,
    sign_in,
    sign_in_following,
    start,
    stored_ids,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.scope import Scope
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

OUTCOMES = pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled back"])

# What may be under way on a session while it is revoked.
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

# What ends a session, in a transaction.
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

# What ends all of a user's sessions and their sign-ins under way.
USER_WIDE = {name: revoke for name, revoke in REVOCATIONS.items() if name != "one"}


class RevocationRacePromises(Promises):
    """Promise 2: revocation is final."""

    @OUTCOMES
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
    @pytest.mark.parametrize("revoke", REVOCATIONS.values(), ids=REVOCATIONS.keys())
    async def test_nothing_under_way_revives_a_session_that_is_being_revoked(
        self,
        harness: StoreHarness,
        held: Store,
        other: Store,
        revoke: Callable[..., Awaitable[object]],
        write: Callable[[Store, SessionRecord], Awaitable[object]],
        *,
        commits: bool,
    ) -> None:
        """S13, S14: the other side waits for the revocation, or comes before it; then the session is gone."""
        session = await sign_in(held)

        async def revoking(transaction: AsyncConnection) -> asyncio.Task[object]:
            await revoke(held, session, transaction)
            return await _under_way(harness, write(other, session))

        await (await _in_transaction(held, revoking, commits=commits))

        ends_it_too = write in (WRITES["delete"], WRITES["end all"])
        assert (await read(other, session.id) is None) is (commits or ends_it_too)

    @pytest.mark.parametrize("revoke", REVOCATIONS.values(), ids=REVOCATIONS.keys())
    async def test_a_revocation_that_waited_for_a_change_of_scopes_ends_the_session_all_the_same(
        self, harness: StoreHarness, held: Store, other: Store, revoke: Callable[..., Awaitable[object]]
    ) -> None:
        """S13, S14: held up by another transaction, it still finds every session."""
        session = await sign_in(held, scopes={"a"})
        async with held.transaction() as transaction:
            await held.set_session_scopes(session.id, scope_set({"b"}), transaction=transaction)
            revoking = await _under_way(harness, revoke(other, session, None))
        await revoking
        assert await read(held, session.id) is None

    @pytest.mark.parametrize("revoke", USER_WIDE.values(), ids=USER_WIDE.keys())
    async def test_what_was_under_way_all_at_once_brings_nothing_back(
        self, held: Store, other: Store, revoke: Callable[..., Awaitable[object]]
    ) -> None:
        """S14: when it has returned, no later read finds a session."""
        sessions = [await sign_in(held, id=numbered_id(number)) for number in range(10)]
        begun = await epochs_of(held, ADA)
        mild = [name for name in WRITES if name not in ("delete", "end all")]

        storm = [start(_run(write(store, one))) for name in mild for write in [WRITES[name]] for one in sessions
                 for store in (held, other)]  # fmt: skip
        storm += [start(_run(insert(other, new_session(), epochs=begun))) for _ in range(10)]
        await revoke(held, sessions[0], None)

        for reader in (held, other):
            assert await reader.read_sessions([one.id for one in sessions]) == [None] * 10
            assert await stored_ids(reader) == set()
        await asyncio.gather(*storm)
        assert await stored_ids(other) == set()

    async def test_of_two_who_revoke_a_session_one_reports_it(self, store: Store, other: Store) -> None:
        """S13: True if it existed; it can be ended once."""
        session = await sign_in(store)
        which = SessionFilter(session_id=session.id)
        reports = await asyncio.gather(store.delete_sessions(which), other.delete_sessions(which))
        assert [set(report) for report in sorted(reports, key=len)] == [set(), ended(session)]

    async def test_of_two_who_end_a_users_sessions_each_session_is_reported_by_one(
        self, store: Store, other: Store
    ) -> None:
        """S14: and both move the epoch."""
        sessions = [await sign_in(store) for _ in range(10)]
        begun = await epochs_of(store, ADA)
        one, two = await asyncio.gather(store.end_user_sessions(ADA), other.end_user_sessions(ADA))
        assert {*one, *two} == ended(*sessions)
        assert len(one) + len(two) == len(sessions)
        assert (await epochs_of(store, ADA)).revocations == begun.revocations + 2


class SignInRacePromises(Promises):
    """Promises 2 and 3: what ends or changes all sessions of a user reaches the one that is being made."""

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
        """S14, S9: and is refused if it was done."""
        session = await sign_in(held)
        begun = await epochs_of(other, ADA)

        async def revoking(transaction: AsyncConnection) -> asyncio.Task[object]:
            await revoke(held, session, transaction)
            return await _under_way(harness, insert(other, new_session(), epochs=begun))

        outcome = await (await _in_transaction(held, revoking, commits=commits))

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
        """S14, S9: the sign-in was first, and what it made is ended with the rest."""
        session = await sign_in(held)
        async with _SignIn(other, new_session()) as signing_in:
            revoking = await _under_way(harness, revoke(held, session, None))
        assert isinstance(signing_in.outcome, SessionRecord)
        await revoking
        assert await stored_ids(other) == set()

    async def test_a_revocation_that_meets_a_sign_in_whose_hook_fails_finds_nothing_of_it(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        """S10: if the hook raises, there is no session."""
        await register(held)
        with pytest.raises(_HookError):
            async with _SignIn(other, new_session(), fails=True):
                revoking = await _under_way(harness, held.end_user_sessions(ADA))
        assert list(await revoking) == []
        assert await stored_ids(held) == set()

    @OUTCOMES
    async def test_the_first_sign_in_of_an_applications_user_that_meets_a_revocation_waits_for_it(
        self, harness: StoreHarness, held: Store, other: Store, *, commits: bool
    ) -> None:
        """S14: though there is no row of the user's that either could lock."""
        begun = await epochs_of(other, ADA)

        async def revoking(transaction: AsyncConnection) -> asyncio.Task[object]:
            await held.end_user_sessions(ADA, transaction=transaction)
            signing_in = insert(other, new_session(), epochs=begun, user_scopes=frozenset())
            return await _under_way(harness, signing_in)

        outcome = await (await _in_transaction(held, revoking, commits=commits))
        assert (outcome is InsertRefusal.USER_REVOKED) is commits
        assert len(await stored_ids(held)) == int(not commits)

    async def test_a_revocation_that_meets_the_first_sign_in_of_an_applications_user_ends_its_session(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        """S14: though there was no row of the user's when it began."""
        async with _SignIn(other, new_session(), user_scopes=frozenset()) as signing_in:
            revoking = await _under_way(harness, held.end_user_sessions(ADA))
        assert isinstance(signing_in.outcome, SessionRecord)
        assert set(await revoking) == ended(signing_in.outcome)
        assert await stored_ids(held) == set()

    @OUTCOMES
    async def test_a_following_sign_in_that_meets_a_change_of_scopes_does_not_get_the_old_ones(
        self, harness: StoreHarness, held: Store, other: Store, *, commits: bool
    ) -> None:
        """U5: in the same transaction as the user."""
        begun = (await register(held, scopes={"a", "b"})).epochs
        following = new_session(scopes={"a", "b"}, follows_user=True)

        async def rescoping(transaction: AsyncConnection) -> asyncio.Task[object]:
            await held.set_user_scopes(ADA, scope_set({"a"}), transaction=transaction)
            return await _under_way(harness, insert(other, following, epochs=begun))

        outcome = await (await _in_transaction(held, rescoping, commits=commits))
        assert (outcome is InsertRefusal.USER_RESCOPED) is commits
        assert await stored_ids(held) == (set() if commits else {following.id})

    async def test_a_change_of_scopes_that_meets_a_sign_in_reaches_its_session(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        """U5: following or not, the scope that was taken away is gone."""
        for following, expected in ((True, {"a"}), (False, {"x"})):
            await held.set_user_scopes(ADA, scope_set({"a", "b"}))
            if not (await read_user_present(held)).is_registered:
                await register(held, scopes={"a", "b"})
            new = new_session(scopes={"a", "b"} if following else {"b", "x"}, follows_user=following)
            async with _SignIn(other, new):
                rescoping = await _under_way(harness, held.set_user_scopes(ADA, scope_set({"a"})))
            await rescoping
            assert (await read_present(other, new.id)).scopes == expected

    async def test_a_change_of_scopes_that_meets_the_first_sign_in_of_an_applications_user_reaches_it(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        """U5: though there was no row of the user's when it began."""
        known = scope_set({"a", "b"})
        new = new_session(scopes=known, follows_user=True)
        async with _SignIn(other, new, user_scopes=known):
            rescoping = await _under_way(harness, held.set_user_scopes(ADA, scope_set({"a"})))
        await rescoping
        assert (await read_present(other, new.id)).scopes == {"a"}

    async def test_two_sign_ins_of_one_user_do_not_wait_for_ever(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        await register(held)
        async with _SignIn(held, new_session()):
            second = await _under_way(harness, insert(other, new_session()))
        assert isinstance(await second, SessionRecord)
        assert len(await stored_ids(held)) == 2


class UserRacePromises(Promises):
    """Promise 3, with two changes at once."""

    @OUTCOMES
    async def test_a_session_that_begins_to_follow_while_its_user_changes_has_the_scopes_that_stand(
        self, harness: StoreHarness, held: Store, other: Store, *, commits: bool
    ) -> None:
        """U5: in the same transaction as the user."""
        await register(held, scopes={"a", "b"})
        session = await sign_in(held, scopes={"x"})

        async def rescoping(transaction: AsyncConnection) -> asyncio.Task[object]:
            await held.set_user_scopes(ADA, scope_set({"a"}), transaction=transaction)
            return await _under_way(harness, other.set_session_scopes(session.id, None))

        await (await _in_transaction(held, rescoping, commits=commits))
        assert (await read_present(other, session.id)).scopes == ({"a"} if commits else {"a", "b"})

    async def test_a_user_who_changes_while_a_session_begins_to_follow_reaches_it(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        await register(held, scopes={"a", "b"})
        session = await sign_in(held, scopes={"x"})
        async with held.transaction() as transaction:
            await held.set_session_scopes(session.id, None, transaction=transaction)
            rescoping = await _under_way(harness, other.set_user_scopes(ADA, scope_set({"a"})))
        await rescoping
        assert (await read_present(other, session.id)).scopes == {"a"}

    async def test_of_two_changes_of_a_users_scopes_one_comes_last_everywhere(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        await register(held, scopes={"a", "b", "c"})
        following, explicit = await sign_in_following(held), await sign_in(held, scopes={"a", "b", "c", "x"})
        async with held.transaction() as transaction:
            await held.set_user_scopes(ADA, scope_set({"a", "b"}), transaction=transaction)
            second = await _under_way(harness, other.set_user_scopes(ADA, scope_set({"b", "c"})))
        change = await second
        assert change.removed_scopes == {"a"}
        assert (await read_user_present(held)).scopes == {"b", "c"}
        assert (await read_present(held, following.id)).scopes == {"b", "c"}
        assert (await read_present(held, explicit.id)).scopes == {"b", "x"}, "a went second, c went first"

    async def test_many_user_wide_writes_and_touches_at_once_all_come_to_an_end(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        """S14, U5: they wait for each other, and none is given up for another."""
        sessions = [await sign_in(store, id=numbered_id(number), scopes={"a", "b"}) for number in range(30)]
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
        async def registering(transaction: AsyncConnection) -> asyncio.Task[object]:
            await held.insert_user(ADA, scopes=scope_set({"first"}), blocked=False, transaction=transaction)
            second = other.insert_user(ADA, scopes=scope_set({"second"}), blocked=False)
            return await _under_way(harness, second)

        second = await (await _in_transaction(held, registering, commits=commits))
        assert (second is None) is commits
        assert (await read_user_present(held)).scopes == ({"first"} if commits else {"second"})


class PruneRacePromises(Promises):
    """S16, promise 2: pruning ends what has expired, and a touch that came first keeps a session."""

    async def test_a_session_that_is_used_and_pruned_at_once_is_either_kept_or_reported_gone(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        for number in range(20):
            session = await sign_in(store, id=numbered_id(number), expire_after_unused_for_us=SECOND_US)
            now_us = session.last_used_at_us + SECOND_US
            await harness.set_clock_us(now_us)
            calls = [other.touch_sessions([SessionUse(session.id, now_us)]), store.prune_idle(None, 100)]
            touched, sweep = await _at_once(calls, reverse=bool(number % 2))
            is_there = await read(store, session.id) is not None
            assert touched == ({session.id} if is_there else set())
            assert sweep == IdleSweep(int(not is_there), None)
            await store.delete_sessions(SessionFilter())

    async def test_a_touch_that_meets_pruning_does_not_bring_a_session_back(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        session = await sign_in(store, lifetime_us=SECOND_US, expire_after_unused_for_us=SECOND_US)
        now_us = session.last_used_at_us + SECOND_US
        await harness.set_clock_us(now_us)
        touching = start(other.touch_sessions([SessionUse(session.id, now_us)]))
        assert await store.prune_expired(10) == 1
        await touching
        assert await read(other, session.id) is None

    async def test_a_session_whose_touch_is_committed_while_pruning_waits_is_kept(
        self, harness: StoreHarness, held: Store, other: Store
    ) -> None:
        """S7: rows are judged as they are when they go."""
        session = await sign_in(held, scopes={"a"}, expire_after_unused_for_us=SECOND_US)
        now_us = session.last_used_at_us + SECOND_US
        await harness.set_clock_us(now_us)
        async with held.transaction() as transaction:
            await held.set_session_scopes(session.id, frozenset(), transaction=transaction)
            touching = await _under_way(harness, other.touch_sessions([SessionUse(session.id, now_us)]))
            pruning = await _under_way(harness, other.prune_idle(None, 10))
        is_kept = await touching == {session.id}
        await pruning
        assert (await read(held, session.id) is not None) is is_kept


class _HookError(Exception):
    pass


class _SignIn:
    """A sign-in that stands in its hook, inserted and not committed, for the length of an `async with` block."""

    def __init__(
        self,
        store: Store,
        session: Any,
        *,
        user_scopes: frozenset[Scope] | None = None,
        fails: bool = False,
    ) -> None:
        self._inside, self._may_go_on = asyncio.Event(), asyncio.Event()
        self._fails = fails
        self._call = insert(store, session, user_scopes=user_scopes, inside_transaction=self._hook)
        self.outcome: object = None

    async def __aenter__(self) -> _SignIn:
        self._task = start(self._call)
        waiting = asyncio.create_task(self._inside.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert self._inside.is_set(), f"the sign-in did not get as far as its hook: {self._task!r}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._may_go_on.set()
        self.outcome = await self._task

    async def _hook(self, _connection: AsyncConnection) -> None:
        self._inside.set()
        await self._may_go_on.wait()
        if self._fails:
            raise _HookError


async def _under_way(harness: StoreHarness, call: Awaitable[Any]) -> asyncio.Task[Any]:
    """Start `call`, which may have to wait for something that the test holds."""
    task = start(_run(call))
    await harness.until_blocked(task)
    return task


async def _run(call: Awaitable[Any]) -> Any:  # noqa: ANN401 (whatever the call gives)
    return await call


async def _in_transaction(
    store: Store, work: Callable[[AsyncConnection], Awaitable[asyncio.Task[object]]], *, commits: bool
) -> asyncio.Task[object]:
    """Do `work` in a transaction and end that; `work` hands out a call that is under way meanwhile."""
    started: asyncio.Task[object] | None = None
    try:
        async with store.transaction() as transaction:
            started = await work(transaction)
            if not commits:
                raise _HookError
    except _HookError:
        pass
    assert started is not None
    return started


async def _at_once(calls: list[Any], *, reverse: bool) -> list[Any]:
    """Start all calls before any has run, the last one first if `reverse`; the answers are in the order of `calls`."""
    answers = await asyncio.gather(*(calls[::-1] if reverse else calls))
    return answers[::-1] if reverse else answers
