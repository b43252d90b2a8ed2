"""Every process hears which sessions and scopes another ends or takes away: all, and none that stayed."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, NamedTuple

import pytest

from coatcheck.identifiers import UserId, shard_of_user
from coatcheck.scope import scope_set
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import Change, SessionFilter, SessionUse
from coatcheck.testing.conformance.promises import OUTCOMES, Promises
from coatcheck.testing.samples import (
    ADA,
    BOB,
    a_transaction,
    epochs_of,
    new_session,
    read,
    register,
    sign_in,
    sign_in_following,
    unknown_id,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from coatcheck.identifiers import SessionId
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

_PATIENCE_SECONDS = 20.0


class Listening:
    """A store that listens, from the beginning of the block on."""

    def __init__(self, store: Store) -> None:
        """Set up; nothing is heard yet."""
        self._stream = store.announcements()

    async def __aenter__(self) -> Self:
        """Wait until the store listens."""
        assert await self.next() is None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        await self._stream.aclose()

    async def next(self) -> Announcement | None:
        """The next announcement that is heard."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await anext(self._stream)

    async def before(self, last: Announcement) -> list[Announcement | None]:
        """All that is heard before the one that the test ends with."""
        heard: list[Announcement | None] = []
        while (one := await self.next()) != last:
            heard.append(one)
        return heard


async def _end(store: Store, like: UserId = ADA) -> Announcement:
    """Announce something that no test is about. When it is heard, all earlier announcements about `like` were heard."""
    # Announcements about one shard are heard in their order. Those about another may be a little late.
    candidates = (UserId(f"the last one, {number}") for number in itertools.count())
    last = next(user for user in candidates if shard_of_user(user) == shard_of_user(like))
    session = await sign_in(store, last)
    await store.delete_sessions(SessionFilter(session_id=session.id))
    return Announcement(session.user_id, session.id)


class Ending(NamedTuple):
    """The announcements that a change of the tests below is to make, and the change that the store has returned."""

    expected: list[Announcement]
    change: Change


async def _delete_one(store: Store) -> Ending:
    session = await sign_in(store)
    change = await store.delete_sessions(SessionFilter(session_id=session.id))
    return Ending([Announcement(ADA, session.id)], change)


async def _delete_several(store: Store) -> Ending:
    sessions = [await sign_in(store) for _ in range(3)]
    change = await store.delete_sessions(SessionFilter(user_id=ADA), limit=10)
    return Ending([Announcement(ADA, one.id) for one in sorted(sessions, key=lambda one: one.id)], change)


async def _delete_by_method(store: Store) -> Ending:
    session, _ = await sign_in(store, method="email"), await sign_in(store, method="google")
    change = await store.delete_sessions(SessionFilter(method="email"))
    return Ending([Announcement(ADA, session.id)], change)


async def _end_all(store: Store) -> Ending:
    await sign_in(store)
    return Ending([Announcement(ADA)], await store.end_user_sessions(ADA))


async def _end_a_sign_in_under_way(store: Store) -> Ending:
    return Ending(
        [Announcement(ADA)], await store.end_user_sessions(ADA)
    )  # no session is there, but a sign-in may be under way


async def _end_all_but_one(store: Store) -> Ending:
    spared, _ = await sign_in(store), await sign_in(store)
    change = await store.end_user_sessions(ADA, except_session_id=spared.id)
    return Ending([Announcement(ADA, spared=spared.id)], change)


async def _end_by_method(store: Store) -> Ending:
    session, _ = await sign_in(store, method="email"), await sign_in(store, method="google")
    change = await store.end_user_sessions(ADA, method="email")
    return Ending([Announcement(ADA, session.id)], change)


async def _take_from_one(store: Store) -> Ending:
    session = await sign_in(store, scopes={"a", "b"})
    change = await store.set_session_scopes(session.id, scope_set({"b", "c"}))
    assert change is not None
    return Ending([Announcement(ADA, session.id, removed_scopes=scope_set({"a"}))], change)


async def _take_from_all(store: Store) -> Ending:
    await register(store, scopes={"a", "b"})
    await sign_in_following(store)
    change = await store.set_user_scopes(ADA, scope_set({"b"}))
    return Ending([Announcement(ADA, removed_scopes=scope_set({"a"}))], change)


async def _update_a_user(store: Store) -> Ending:
    await register(store, scopes={"a"})
    change = await store.update_user(ADA, scopes=frozenset())
    assert change is not None
    return Ending([Announcement(ADA, removed_scopes=scope_set({"a"}))], change)


async def _block(store: Store) -> Ending:
    await register(store)
    change = await store.update_user(ADA, blocked=True)
    assert change is not None
    return Ending([Announcement(ADA)], change)


async def _block_and_take(store: Store) -> Ending:
    await register(store, scopes={"a"})
    await sign_in_following(store)
    change = await store.update_user(ADA, scopes=frozenset(), blocked=True)
    assert change is not None
    return Ending([Announcement(ADA, removed_scopes=scope_set({"a"})), Announcement(ADA)], change)


async def _delete_a_user(store: Store) -> Ending:
    await register(store)
    change = await store.delete_user(ADA)
    assert change is not None
    return Ending([Announcement(ADA)], change)


async def _replace(store: Store) -> Ending:
    before = await sign_in(store)
    return Ending([Announcement(ADA, before.id)], await _insert_in_place_of(store, before.id, ADA))


async def _replace_another_users(store: Store) -> Ending:
    before = await sign_in(store, BOB)
    await register(store)
    return Ending([Announcement(BOB, before.id)], await _insert_in_place_of(store, before.id, ADA))


async def _insert_in_place_of(store: Store, replaced: SessionId, user_id: UserId) -> Change:
    epochs = await epochs_of(store, user_id)
    change = await store.insert_session(
        new_session(user_id, replaces=replaced), expected_revocations=epochs.revocations, expected_rescopes=None
    )
    assert isinstance(change, Change)
    return change


async def _sign_in(store: Store) -> None:
    await sign_in(store)


async def _give(store: Store) -> None:
    await register(store, scopes={"a"})
    session = await sign_in_following(store)
    await store.set_user_scopes(ADA, scope_set({"a", "b"}))
    await store.set_session_scopes(session.id, scope_set(["a", "b", "c"]))


async def _touch(store: Store) -> None:
    session = await sign_in(store)
    await store.touch_sessions([SessionUse(session.id, session.created_at_us)])


async def _delete_nothing(store: Store) -> None:
    session = await sign_in(store)
    await store.delete_sessions(SessionFilter(session_id=unknown_id()))
    await store.delete_sessions(SessionFilter(session_id=session.id, user_id=BOB))


async def _prune(store: Store) -> None:
    await sign_in(store, expires_at_us=0)
    assert len((await store.prune_expired(10)).ended) == 1


class AnnouncementPromises(Promises):
    """`announcements`."""

    @pytest.mark.parametrize(
        "change",
        [
            *(_delete_one, _delete_several, _delete_by_method, _end_all, _end_a_sign_in_under_way, _end_all_but_one),
            *(_end_by_method, _take_from_one, _take_from_all, _update_a_user, _block, _block_and_take, _delete_a_user),
            *(_replace, _replace_another_users),
        ],
    )
    async def test_a_change_that_ends_or_shrinks_is_returned_to_the_caller_and_heard_by_all_others(
        self, store: Store, other: Store, change: Callable[[Store], Awaitable[Ending]]
    ) -> None:
        async with Listening(store) as listening:
            ending = await change(other)
            assert list(ending.change.announced) == ending.expected
            heard = await listening.before(await _end(other, like=ending.expected[-1].user_id))
            assert heard == ending.expected

    @pytest.mark.parametrize("change", [_sign_in, _give, _touch, _delete_nothing, _prune])
    async def test_other_changes_are_not_announced(
        self, store: Store, other: Store, change: Callable[[Store], Awaitable[None]]
    ) -> None:
        """A process that keeps something open knows the deadline from the beginning: pruning tells it nothing."""
        async with Listening(store) as listening:
            await change(other)
            assert await listening.before(await _end(other)) == []

    async def test_a_store_does_not_hear_what_it_has_returned(self, store: Store, other: Store) -> None:
        async with Listening(store) as listening, Listening(other) as others:
            mine = (await _delete_one(store)).expected
            assert await listening.before(await _end(other)) == []
            assert await others.before(await _end(store)) == mine

    async def test_several_listeners_hear_the_same(self, harness: StoreHarness, store: Store, other: Store) -> None:
        third = await harness.second_store()
        async with Listening(store) as one, Listening(third) as another:
            expected = (await _delete_several(other)).expected
            last = await _end(other)
            assert await one.before(last) == expected
            assert await another.before(last) == expected

    @OUTCOMES
    async def test_in_a_transaction_it_is_heard_with_the_commit(
        self, held: Store, other: Store, *, commits: bool
    ) -> None:
        one, another = await sign_in(held), await sign_in(held, BOB)
        async with Listening(other) as listening:
            async with a_transaction(held, commits=commits) as transaction:
                await held.delete_sessions(SessionFilter(session_id=one.id), transaction=transaction)
                await held.end_user_sessions(BOB, transaction=transaction)
            heard = await listening.before(await _end(held))
        assert heard == ([Announcement(ADA, one.id), Announcement(another.user_id)] if commits else [])

    @OUTCOMES
    async def test_a_store_hears_of_its_callers_transaction_what_was_committed(
        self, held: Store, *, commits: bool
    ) -> None:
        """The caller cannot know whether its transaction will be committed."""
        session = await sign_in(held)
        async with Listening(held) as listening:
            async with a_transaction(held, commits=commits) as transaction:
                change = await held.delete_sessions(SessionFilter(session_id=session.id), transaction=transaction)
                assert change.announced == (Announcement(ADA, session.id),)
            async with held.transaction() as transaction:
                await held.end_user_sessions(BOB, transaction=transaction)
            heard = await listening.before(Announcement(BOB))
        assert heard == ([Announcement(ADA, session.id)] if commits else [])

    async def test_a_change_that_a_savepoint_took_back_is_not_announced(self, held: Store, other: Store) -> None:
        session = await sign_in(held)
        async with Listening(held) as here, Listening(other) as there:
            async with held.transaction() as transaction:
                savepoint = await transaction.begin_nested()
                await held.end_user_sessions(ADA, transaction=transaction)
                await savepoint.rollback()
                await held.end_user_sessions(BOB, transaction=transaction)
            assert await here.before(Announcement(BOB)) == []
            assert await there.before(Announcement(BOB)) == []
        assert await read(held, session.id) == session

    async def test_any_user_and_any_number_of_scopes_can_be_announced(self, store: Store, other: Store) -> None:
        user = UserId("\U0001f9e5" * 255)
        scopes = scope_set({f"{number:03}" + "s" * 252 for number in range(60)})
        session = await sign_in(other, user, scopes=scopes)
        async with Listening(store) as listening:
            await other.set_session_scopes(session.id, frozenset())
            heard = await listening.before(await _end(other, like=user))
        assert all(one is not None and (one.user_id, one.session_id) == (user, session.id) for one in heard)
        assert frozenset[str]().union(*(one.removed_scopes or () for one in heard if one is not None)) == scopes

    async def test_a_listener_is_told_that_an_outage_may_have_hidden_something(
        self, harness: StoreHarness, store: Store, other: Store
    ) -> None:
        async with Listening(store) as listening:
            async with harness.outage():
                assert await listening.next() is None
            assert await listening.next() is None
            expected = (await _delete_one(other)).expected
            assert await listening.before(await _end(other)) == expected

    async def test_epochs_and_announcements_go_together(self, store: Store, other: Store) -> None:
        """A process that has heard that all sessions ended finds the epochs moved."""
        await register(other)
        async with Listening(store) as listening:
            await other.end_user_sessions(ADA)
            assert await listening.next() == Announcement(ADA)
            user = await store.read_user(ADA)
            assert user is not None
            assert user.epochs.revocations > 0
            assert user.epochs.rescopes == 0
