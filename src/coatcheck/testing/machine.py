"""Random histories of sessions and users, on a store and on the model of one.

After every step the store must hold what the model holds. A session that was ended stays ended.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from hypothesis.stateful import run_state_machine_as_test as run_machine

from coatcheck.identifiers import SessionId, UserId
from coatcheck.scope import Scope
from coatcheck.stores.records import (
    EndedSession,
    Insertion,
    InsertRefusal,
    Rehash,
    SessionFilter,
    SessionRecord,
    SessionUse,
    UserEpochs,
    UserRecord,
)
from coatcheck.testing.model import Attempt, Model, Scopes, Wish
from coatcheck.testing.samples import SECOND_US, key_of, new_session, numbered_id, read_together, reading_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from coatcheck.stores.records import NewSession, UserChange
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

T = TypeVar("T")

# One user is kept in the store, the other lives in the application. Few names: histories are to cross.
KEPT = UserId("kept")
APPLICATIONS = UserId("application's")
METHODS = ("email", "sms")

_users = st.sampled_from([KEPT, APPLICATIONS])
_methods = st.sampled_from(METHODS)
_scopes = st.frozensets(st.sampled_from([Scope("a"), Scope("b"), Scope("c")]))
_durations_us = st.sampled_from([None, SECOND_US, 2 * SECOND_US, 10 * SECOND_US])
_steps_us = st.sampled_from([1, SECOND_US - 1, SECOND_US, 2 * SECOND_US, -SECOND_US])
_limits = st.integers(1, 4)
_ages = st.integers(1, 6)
_wishes = st.builds(
    Wish,
    number=st.integers(0, 2**40),
    method=_methods,
    scopes=st.none() | _scopes,
    lifetime_us=_durations_us,
    unused_for_us=_durations_us,
)


def check_store_against_model(
    harness_factory: Callable[[], StoreHarness], *, max_examples: int = 50, step_count: int = 40
) -> None:
    """Run `max_examples` random histories of up to `step_count` steps, on one harness that is reset before each.

    A plain function, to be called outside any event loop.

    Raises:
        AssertionError: store and model differ; Hypothesis prints the shortest history it found that shows it.
    """
    with asyncio.Runner() as runner:
        harness = harness_factory()
        runner.run(_enter(harness))
        try:
            machine = type("Machine", (StoreMachine,), {"runner": runner, "harness": harness})
            run_machine(
                machine,
                settings=settings(
                    max_examples=max_examples,
                    stateful_step_count=step_count,
                    deadline=None,
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(harness.__aexit__(None, None, None))


class StoreMachine(RuleBasedStateMachine):
    """One history. `check_store_against_model` makes the subclass that has a store."""

    runner: ClassVar[asyncio.Runner]
    harness: ClassVar[StoreHarness]

    session_ids: Bundle[SessionId] = Bundle("session_ids")

    def __init__(self) -> None:
        """Start from nothing."""
        super().__init__()
        self.run(self.harness.reset())
        self.model: Model = Model(self.run(self.harness.now_us()))
        self.ever: list[SessionId] = []
        self.attempts: dict[UserId, list[Attempt]] = {KEPT: [], APPLICATIONS: []}

    @property
    def store(self) -> Store:
        """The store under test."""
        return self.harness.store

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """The answer of a call."""
        return self.runner.run(call)

    # --- users ---

    @initialize(are_known=st.booleans())
    def begin(self, are_known: bool) -> None:
        """Half of the histories begin with users who have something to lose."""
        if are_known:
            self.register(frozenset({Scope("a"), Scope("b")}), blocked=False)
            self.rescope_user(APPLICATIONS, frozenset({Scope("a"), Scope("b")}))

    @precondition(lambda self: not self.model.user(KEPT).is_registered)
    @rule(scopes=_scopes, blocked=st.booleans())
    def register(self, scopes: Scopes, blocked: bool) -> None:
        """Make a user in the store."""
        made = self.run(self.store.insert_user(KEPT, scopes=scopes, blocked=blocked))
        user = self.model.user(KEPT)
        assert (made is None) is user.is_registered
        if made is not None:
            user.scopes, user.blocked, user.is_registered = scopes, blocked, True
            self._is_as_modelled(KEPT, made)

    @rule(user_id=_users, scopes=_scopes)
    def rescope_user(self, user_id: UserId, scopes: Scopes) -> None:
        """Change a user's scopes, registered or not."""
        change = self.run(self.store.set_user_scopes(user_id, scopes))
        removed = self.model.rescope_user(user_id, scopes)
        self._is_change(change, user_id, removed=removed, ended=set())

    @precondition(lambda self: self.model.user(KEPT).is_registered)
    @rule(scopes=st.none() | _scopes, blocked=st.none() | st.booleans())
    def update_user(self, scopes: Scopes | None, blocked: bool | None) -> None:
        """Change scopes and block or unblock."""
        change = self.run(self.store.update_user(KEPT, scopes=scopes, blocked=blocked))
        user = self.model.user(KEPT)
        assert (change is not None) is user.is_registered
        if change is None:
            return
        removed: Scopes = frozenset() if scopes is None else self.model.rescope_user(KEPT, scopes)
        ended = self._end_all(KEPT) if blocked else set()
        user.blocked = user.blocked if blocked is None else blocked
        self._is_change(change, KEPT, removed=removed, ended=ended)

    @precondition(lambda self: self.model.user(KEPT).is_registered)
    @rule()
    def delete_user(self) -> None:
        """Remove a user with all sessions."""
        reported = self.run(self.store.delete_user(KEPT))
        user = self.model.user(KEPT)
        assert (reported is not None) is user.is_registered
        if reported is not None:
            assert set(reported.ended) == self._end_all(KEPT)
            user.scopes, user.blocked, user.is_registered = frozenset(), False, False

    # --- sign-in ---

    @rule(target=session_ids, user_id=_users, wish=_wishes)
    def sign_in(self, user_id: UserId, wish: Wish) -> SessionId | MultipleResults[SessionId]:
        """Sign in without losing time."""
        return self._complete(self.attempts[user_id][-1], wish)

    @rule(target=session_ids, user_id=_users, wish=_wishes, age=_ages)
    def sign_in_late(self, user_id: UserId, wish: Wish, age: int) -> SessionId | MultipleResults[SessionId]:
        """Complete a sign-in that began `age` steps ago."""
        return self._complete(self.attempts[user_id][-1 - age :][0], wish)

    def _complete(self, attempt: Attempt, wish: Wish) -> SessionId | MultipleResults[SessionId]:
        new = self._new_session(attempt, wish)
        if new.id in self.ever:
            return multiple()
        outcome = self.run(
            self.store.insert_session(
                new,
                expected_revocations=attempt.epochs.revocations,
                expected_rescopes=attempt.epochs.rescopes if new.follows_user else None,
                user_scopes=attempt.scopes if attempt.user_id == APPLICATIONS else None,
            )
        )
        user = self.model.user(attempt.user_id)
        if (attempt.user_id == KEPT and not user.is_registered) or user.revocations != attempt.revocations:
            assert outcome is InsertRefusal.USER_REVOKED
            return multiple()
        if new.follows_user and user.rescopes != attempt.rescopes:
            assert outcome is InsertRefusal.USER_RESCOPED
            return multiple()
        assert outcome == Insertion(session=self.model.insert(new))
        self.ever.append(new.id)
        return new.id

    # --- use ---

    @rule(uses=st.lists(st.tuples(session_ids, st.integers(-SECOND_US, SECOND_US)), max_size=4))
    def touch(self, uses: list[tuple[SessionId, int]]) -> None:
        """Touch a batch, dead sessions among it."""
        now_us = self.model.now_us
        latest: dict[SessionId, int] = {}
        for session_id, offset_us in uses:
            latest[session_id] = max(now_us + offset_us, latest.get(session_id, now_us + offset_us))
        batch = [SessionUse(session_id, now_us + offset_us) for session_id, offset_us in uses]
        alive = self.run(self.store.touch_sessions(batch))
        assert alive == latest.keys() & self.model.sessions.keys()
        for session_id in alive:
            self.model.touch(session_id, latest[session_id])

    @rule(
        session_id=session_ids, old=st.sampled_from(["secret", "new", "newer"]), new=st.sampled_from(["new", "newer"])
    )
    def rehash(self, session_id: SessionId, old: str, new: str) -> None:
        """Replace a hash, or another one that is no longer there."""
        self.run(self.store.rehash_sessions([Rehash(session_id, key_of(old), key_of(new))]))
        session = self.model.sessions.get(session_id)
        if session is not None and session.key == key_of(old):
            self.model.sessions[session_id] = replace(session, key=key_of(new))

    @rule(session_id=session_ids, scopes=st.none() | _scopes)
    def rescope_session(self, session_id: SessionId, scopes: Scopes | None) -> None:
        """Give a session scopes of its own, or its user's."""
        change = self.run(self.store.set_session_scopes(session_id, scopes))
        session = self.model.sessions.get(session_id)
        assert (change is None) is (session is None)
        if change is None or session is None:
            return
        now = self.model.user(session.user_id).scopes if scopes is None else scopes
        after = replace(session, scopes=now, follows_user=scopes is None)
        assert change.session == after
        assert change.removed_scopes == (session.scopes or frozenset()) - now
        self.model.sessions[session_id] = after

    # --- ending ---

    @rule(session_id=session_ids)
    def revoke(self, session_id: SessionId) -> None:
        """End one session."""
        which = SessionFilter(session_id=session_id)
        reported = self.run(self.store.delete_sessions(which)).ended
        assert set(reported) == self.model.end(self.model.matching(which))

    @precondition(lambda self: bool(self.model.sessions))
    @rule(user_id=st.none() | _users, method=st.none() | _methods, limit=_limits)
    def delete(self, user_id: UserId | None, method: str | None, limit: int) -> None:
        """End at most so many of those that match."""
        which = SessionFilter(user_id=user_id, method=method)
        meant = self.model.matching(which)
        reported = self.run(self.store.delete_sessions(which, limit=limit)).ended
        assert len(reported) == min(limit, len(meant))
        ids = {one.session_id for one in reported}
        assert set(reported) == self.model.end(session for session in meant if session.id in ids)

    @rule(user_id=_users, method=st.none() | _methods, spared=st.none() | session_ids)
    def end_user_sessions(self, user_id: UserId, method: str | None, spared: SessionId | None) -> None:
        """End all of a user's sessions, or all of one method, or all but one."""
        change = self.run(self.store.end_user_sessions(user_id, method=method, except_session_id=spared))
        assert set(change.ended) == self._end_all(user_id, method=method, spared=spared)

    # --- time ---

    @rule(step_us=_steps_us)
    def advance(self, step_us: int) -> None:
        """Move the clock."""
        self.model.now_us += step_us
        self.run(self.harness.set_clock_us(self.model.now_us))

    @precondition(lambda self: bool(self.model.sessions))
    @rule(limit=_limits)
    def prune_expired(self, limit: int) -> None:
        """Delete a chunk of the expired."""
        past = [one for one in self.model.matching(SessionFilter()) if self.model.is_past_absolute_deadline(one)]
        reported = self.run(self.store.prune_expired(limit)).ended
        left = self._stored()
        gone = [session for session in past if session.id not in left]
        assert len(gone) == min(limit, len(past))
        assert set(reported) == self.model.end(gone)

    @precondition(lambda self: bool(self.model.sessions))
    @rule(window=_limits)
    def prune_idle(self, window: int) -> None:
        """Sweep over everything, window by window."""
        idle = [session for session in self.model.matching(SessionFilter()) if self.model.is_idle(session)]
        reported: list[EndedSession] = []
        after = None
        for _ in range(len(self.model.sessions) + 2):
            sweep = self.run(self.store.prune_idle(after, window))
            assert len(sweep.ended) <= window
            reported += sweep.ended
            after = sweep.next_after
            if after is None:
                break
        assert after is None
        assert len(reported) == len(idle)
        assert set(reported) == self.model.end(idle)

    # --- reading ---

    @precondition(lambda self: bool(self.model.sessions))
    @rule(
        user_id=st.none() | _users,
        method=st.none() | _methods,
        expired=st.none() | st.booleans(),
        after=st.none() | session_ids,
        limit=_limits,
    )
    def list_sessions(
        self,
        user_id: UserId | None,
        method: str | None,
        expired: bool | None,
        after: SessionId | None,
        limit: int,
    ) -> None:
        """A page of what matches."""
        which = SessionFilter(user_id=user_id, method=method)
        page = self.run(self.store.list_sessions(which, expired=expired, after=after, limit=limit))
        behind = [one for one in self.model.matching(which, expired=expired) if after is None or one.id > after]
        assert [reading.session for reading in page] == behind[:limit]
        assert page.next_after == (behind[limit - 1].id if len(behind) > limit else None)

    @rule()
    def list_users(self) -> None:
        """All registered users."""
        registered = sorted(user_id for user_id, user in self.model.users.items() if user.is_registered)
        assert [user.id for user in self.run(self.store.list_users())] == registered

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        """Every session that ever was, and every user. After each step a sign-in begins for each user."""
        assert self._stored() == self.model.sessions
        expired = self.run(self.store.list_sessions(SessionFilter(), expired=True))
        assert [reading.session for reading in expired] == self.model.matching(SessionFilter(), expired=True)
        for user_id, attempts in self.attempts.items():
            record, user = self.run(self.store.read_user(user_id)), self.model.user(user_id)
            self._is_as_modelled(user_id, record)
            epochs = UserEpochs() if record is None else record.epochs
            attempts.append(Attempt(user_id, epochs, user.scopes, user.revocations, user.rescopes))

    # --- comparing ---

    def _new_session(self, attempt: Attempt, wish: Wish) -> NewSession:
        return new_session(
            attempt.user_id,
            id=numbered_id(wish.number, attempt.user_id),
            method=wish.method,
            scopes=attempt.scopes if wish.scopes is None else wish.scopes,
            follows_user=wish.scopes is None,
            lifetime_us=wish.lifetime_us,
            expire_after_unused_for_us=wish.unused_for_us,
        )

    def _stored(self) -> dict[SessionId, SessionRecord]:
        readings = self.run(read_together(self.store, self.ever))
        page = self.run(self.store.list_sessions(SessionFilter(), limit=1000))
        sessions = {listed.session.id: listed.session for listed in page}
        assert readings == [
            None if session_id not in sessions else reading_of(sessions[session_id], self.model.now_us)
            for session_id in self.ever
        ]
        return sessions

    def _end_all(
        self, user_id: UserId, *, method: str | None = None, spared: SessionId | None = None
    ) -> set[EndedSession]:
        self.model.user(user_id).revocations += 1
        which = SessionFilter(user_id=user_id, method=method)
        return self.model.end(one for one in self.model.matching(which) if one.id != spared)

    def _is_change(self, change: UserChange, user_id: UserId, *, removed: Scopes, ended: set[EndedSession]) -> None:
        self._is_as_modelled(user_id, change.user)
        assert change.removed_scopes == removed
        assert set(change.ended) == ended

    def _is_as_modelled(self, user_id: UserId, record: UserRecord | None) -> None:
        user = self.model.user(user_id)
        if record is None:
            assert not user.is_registered
            return
        assert (record.id, record.is_registered, record.blocked) == (user_id, user.is_registered, user.blocked)
        assert record.scopes == user.scopes


async def _enter(harness: StoreHarness) -> None:
    await harness.__aenter__()
