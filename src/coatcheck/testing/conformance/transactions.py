"""Calls that take part in a caller's transaction appear and disappear with it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError
from coatcheck.scope import scope_set
from coatcheck.stores.records import InsertRefusal, SessionFilter, SessionRecord
from coatcheck.testing.conformance.ending import ended
from coatcheck.testing.conformance.promises import OUTCOMES, Promises
from coatcheck.testing.samples import (
    ADA,
    BOB,
    a_transaction,
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


class TransactionPromises(Promises):
    """A call that takes `transaction` takes part in it."""

    @OUTCOMES
    async def test_a_session_inserted_in_a_transaction_appears_with_it(
        self, held: Store, other: Store, *, commits: bool
    ) -> None:
        """If it rolls back, there is no session."""
        await register(held)
        session = new_session()

        async with a_transaction(held, commits=commits) as transaction:
            assert isinstance(await insert(held, session, transaction=transaction), SessionRecord)
            page = await held.list_sessions(SessionFilter(), transaction=transaction)
            assert [reading.session.id for reading in page] == [session.id]
            assert await read(other, session.id) is None

        assert await stored_ids(other) == ({session.id} if commits else set())

    @OUTCOMES
    async def test_a_session_deleted_in_a_transaction_goes_with_it(
        self, held: Store, other: Store, *, commits: bool
    ) -> None:
        """If it rolls back, the session is still there."""
        session = await sign_in(held)

        async with a_transaction(held, commits=commits) as transaction:
            which = SessionFilter(session_id=session.id)
            assert set((await held.delete_sessions(which, transaction=transaction)).ended) == ended(session)
            assert list(await held.list_sessions(SessionFilter(), transaction=transaction)) == []
            assert await read(other, session.id) == session

        assert await read(other, session.id) == (None if commits else session)

    @OUTCOMES
    async def test_ending_a_users_sessions_and_the_epoch_go_with_the_transaction(
        self, held: Store, other: Store, *, commits: bool
    ) -> None:
        session = await sign_in(held)
        before = await read_user_present(held)

        async with a_transaction(held, commits=commits) as transaction:
            assert set((await held.end_user_sessions(ADA, transaction=transaction)).ended) == ended(session)
            assert await read_user_present(other) == before
            assert await read(other, session.id) == session

        assert await read(other, session.id) == (None if commits else session)
        sign_in_under_way = await insert(other, new_session(), epochs=before.epochs)
        assert isinstance(sign_in_under_way, InsertRefusal) is commits

    @OUTCOMES
    async def test_a_sessions_scopes_change_with_the_transaction(
        self, held: Store, other: Store, *, commits: bool
    ) -> None:
        session = await sign_in(held, scopes={"a"})

        async with a_transaction(held, commits=commits) as transaction:
            change = await held.set_session_scopes(session.id, scope_set({"b"}), transaction=transaction)
            assert change is not None
            assert await read(other, session.id) == session

        assert (await read_present(other, session.id)).scopes == ({"b"} if commits else {"a"})

    @OUTCOMES
    async def test_a_users_scopes_change_with_the_transaction_in_all_sessions(
        self, held: Store, other: Store, *, commits: bool
    ) -> None:
        await register(held, scopes={"a", "b"})
        following, explicit = await sign_in_following(held), await sign_in(held, scopes={"b", "x"})
        before = await read_user_present(held)

        async with a_transaction(held, commits=commits) as transaction:
            await held.set_user_scopes(ADA, scope_set({"a"}), transaction=transaction)
            assert await read(other, following.id) == following
            assert await read(other, explicit.id) == explicit
            assert await other.read_user(ADA) == before

        assert (await read_present(other, following.id)).scopes == ({"a"} if commits else {"a", "b"})
        assert (await read_present(other, explicit.id)).scopes == ({"x"} if commits else {"b", "x"})
        assert (await read_user_present(other) == before) is not commits

    @OUTCOMES
    async def test_a_user_and_their_first_session_appear_together(
        self, held: Store, other: Store, *, commits: bool
    ) -> None:
        """Signing up and the first token commit or roll back together."""
        async with a_transaction(held, commits=commits) as transaction:
            user = await held.insert_user(ADA, scopes=scope_set({"a"}), blocked=False, transaction=transaction)
            assert await held.read_user(ADA, transaction=transaction) == user
            assert list(await held.list_users(transaction=transaction)) == [user]
            session = new_session(scopes={"a"}, follows_user=True)
            assert isinstance(await insert(held, session, transaction=transaction), SessionRecord)
            assert await other.read_user(ADA) is None

        assert (await other.read_user(ADA) is not None) is commits
        assert len(await stored_ids(other)) == int(commits)

    @OUTCOMES
    async def test_a_user_is_blocked_with_the_transaction(self, held: Store, other: Store, *, commits: bool) -> None:
        session = await sign_in(held)
        before = await read_user_present(held)

        async with a_transaction(held, commits=commits) as transaction:
            change = await held.update_user(ADA, blocked=True, transaction=transaction)
            assert change is not None
            assert set(change.ended) == ended(session)

        assert (await read_user_present(other)).blocked is commits
        assert (await read_user_present(other) == before) is not commits
        assert await read(other, session.id) == (None if commits else session)

    @OUTCOMES
    async def test_a_user_is_deleted_with_the_transaction(self, held: Store, other: Store, *, commits: bool) -> None:
        """The user and their sessions, or neither."""
        session = await sign_in(held)

        async with a_transaction(held, commits=commits) as transaction:
            gone = await held.delete_user(ADA, transaction=transaction)
            assert gone is not None
            assert set(gone.ended) == ended(session)

        assert len(await other.list_users()) == int(not commits)
        assert await read(other, session.id) == (None if commits else session)

    @OUTCOMES
    async def test_the_row_of_an_applications_user_appears_with_the_transaction(
        self, held: Store, other: Store, *, commits: bool
    ) -> None:
        async with a_transaction(held, commits=commits) as transaction:
            session = new_session(scopes={"a"}, follows_user=True)
            outcome = await insert(held, session, user_scopes=scope_set({"a"}), transaction=transaction)
            assert isinstance(outcome, SessionRecord)

        assert (await other.read_user(ADA) is not None) is commits
        assert len(await stored_ids(other)) == int(commits)

    async def test_several_calls_are_one_step(self, held: Store, other: Store) -> None:
        """All of a caller's work happens, or none of it."""
        one, two = await sign_in(held), await sign_in(held, BOB)

        for commits in (False, True):
            async with a_transaction(held, commits=commits) as transaction:
                await held.delete_sessions(SessionFilter(session_id=one.id), transaction=transaction)
                await held.end_user_sessions(BOB, transaction=transaction)
                new = await insert(held, new_session(), transaction=transaction)
            assert await stored_ids(other) == ({new.id} if commits else {one.id, two.id})

    async def test_a_refusal_does_not_spoil_the_callers_transaction(self, held: Store) -> None:
        begun = (await register(held)).epochs
        await held.end_user_sessions(ADA)

        async with a_transaction(held, commits=True) as transaction:
            refused = await insert(held, new_session(), epochs=begun, transaction=transaction)
            assert refused is InsertRefusal.USER_REVOKED
            assert await held.insert_user(ADA, scopes=frozenset(), blocked=False, transaction=transaction) is None
            assert await held.insert_user(BOB, scopes=frozenset(), blocked=False, transaction=transaction) is not None

        assert await held.read_user(BOB) is not None

    @OUTCOMES
    async def test_a_hook_shares_the_callers_transaction(self, held: Store, other: Store, *, commits: bool) -> None:
        """The hook's own writes go with the session."""
        await register(held)

        async def hook(connection: AsyncConnection) -> None:
            await held.insert_user(BOB, scopes=frozenset(), blocked=False, transaction=connection)

        async with a_transaction(held, commits=commits) as transaction:
            await insert(held, new_session(), inside_transaction=hook, transaction=transaction)

        assert (await other.read_user(BOB) is not None) is commits
        assert len(await stored_ids(other)) == int(commits)

    async def test_a_transaction_that_was_rolled_back_stays_undone_when_only_reads_follow(self, held: Store) -> None:
        """Connections go back to the pool clean."""
        session = await sign_in(held)
        for _ in range(10):
            async with a_transaction(held, commits=False) as transaction:
                await held.end_user_sessions(ADA, transaction=transaction)
            assert await read(held, session.id) == session
            page = await held.list_sessions(SessionFilter())
            assert [reading.session for reading in page] == [session]

    async def test_the_application_reads_its_tables_on_the_callers_transaction_or_is_told_that_there_are_none(
        self, held: Store
    ) -> None:
        async with held.transaction() as transaction:
            given: list[object] = []
            with suppress(ConfigurationError):
                async with held.read_tables(transaction) as connection:
                    given.append(connection)
            assert given in ([transaction], [])

    async def test_a_hooks_connection_is_the_callers_transaction(self, held: Store) -> None:
        """The hook gets what the caller's other calls run on."""
        await register(held)
        seen: list[AsyncConnection] = []

        async def hook(connection: AsyncConnection) -> None:
            seen.append(connection)

        async with held.transaction() as transaction:
            await insert(held, new_session(), inside_transaction=hook, transaction=transaction)
            assert seen == [await held.connection_of(transaction)]
