"""What the memory store does beside the promises of every store: no loop, no SQL, several loops and threads."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from coatcheck import GuaranteeLevel, Pod, StoreUnavailable
from coatcheck.errors import InvalidArgumentError
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.records import Insertion, SessionFilter
from coatcheck.testing import ManualClock, MemoryStore
from coatcheck.testing.conformance.announcing import Listening
from coatcheck.testing.conformance.outages import CALLS
from coatcheck.testing.conformance.under_way import SignInUnderWay
from coatcheck.testing.memory import one_writer
from coatcheck.testing.samples import ADA, BOB, insert, new_session, numbered_id, read, register, sign_in, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.stores.store import Store

T = TypeVar("T")


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    store = MemoryStore()
    await store.open()
    yield store
    await store.close()


async def another(store: MemoryStore) -> MemoryStore:
    opened = MemoryStore(database=store.database)
    await opened.open()
    return opened


class TestWithoutALoop:
    @staticmethod
    def run(call: Awaitable[T]) -> T:
        """What a call returns that never waits."""
        try:
            next(call.__await__())
        except StopIteration as end:
            value: T = end.value
            return value
        raise AssertionError("the call waits for an event loop")

    # Those that read many at once gather them, which needs a loop: the test does, not the store.
    @pytest.mark.parametrize("name", [name for name in CALLS if name != "read_session, many"])
    def test_one_step_runs_a_call_from_its_beginning_to_its_end(self, name: str) -> None:
        store = MemoryStore()
        self.run(store.open())
        self.run(sign_in(store, id=numbered_id(1)))
        self.run(_awaited(store, CALLS[name]))
        self.run(store.close())

    def test_one_step_runs_a_transaction_with_a_savepoint_and_a_hook(self) -> None:
        store = MemoryStore()
        seen: list[object] = []

        async def hook(connection: AsyncConnection) -> None:
            seen.append(connection)

        async def sign_up() -> Insertion:
            await store.open()
            async with store.transaction() as transaction, transaction.begin_nested():
                await store.insert_user(ADA, scopes=frozenset(), blocked=False, transaction=transaction)
                outcome = await store.insert_session(
                    new_session(),
                    expected_revocations=0,
                    expected_rescopes=None,
                    inside_transaction=hook,
                    transaction=transaction,
                )
            assert isinstance(outcome, Insertion)
            return outcome

        session = self.run(sign_up()).session
        assert len(seen) == 1
        assert self.run(read(store, session.id)) == session

    def test_a_thread_without_a_loop_waits_for_the_transaction_of_another(self) -> None:
        store = MemoryStore()
        self.run(store.open())
        session = self.run(sign_in(store))
        is_open, may_commit, was_seen = threading.Event(), threading.Event(), threading.Event()

        async def hold() -> None:
            async with store.transaction() as transaction:
                await store.delete_sessions(SessionFilter(session_id=session.id), transaction=transaction)
                is_open.set()
                assert may_commit.wait(30)
                assert not was_seen.is_set()

        ended: list[object] = []

        def end() -> None:
            ended.extend(self.run(store.end_user_sessions(ADA)).ended)
            was_seen.set()

        holding, ending = threading.Thread(target=lambda: self.run(hold())), threading.Thread(target=end)
        holding.start()
        assert is_open.wait(30)
        ending.start()
        assert self.run(read(store, session.id)) == session, "a read does not wait"
        may_commit.set()
        for thread in (holding, ending):
            thread.join(30)
        assert was_seen.is_set()
        assert ended == []


async def _awaited(store: Store, call: Callable[[Store], Awaitable[object]]) -> None:
    await call(store)


class TestWaiting:
    async def test_a_call_that_is_given_up_while_it_waits_holds_up_nobody(self, store: MemoryStore) -> None:
        await register(store)
        async with SignInUnderWay(store, new_session()):
            given_up, patient = start(store.end_user_sessions(ADA)), start(store.end_user_sessions(BOB))
            while store.database.writer.waiting < 2:  # noqa: ASYNC110 (a number)
                await asyncio.sleep(0)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
        await patient
        assert store.database.writer.waiting == 0
        assert len(await store.list_sessions(SessionFilter())) == 1

    async def test_a_call_that_forgets_its_transaction_is_told_so(
        self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(one_writer, "_PATIENCE_SECONDS", 0)
        async with store.transaction():
            with pytest.raises(StoreUnavailable, match="transaction="):
                await store.end_user_sessions(ADA)
        await store.end_user_sessions(ADA)

    def test_one_store_serves_several_loops_in_turn(self) -> None:
        store = MemoryStore()

        async def meet() -> None:
            await store.open()
            session = await sign_in(store)
            async with SignInUnderWay(store, new_session()) as signing_in:
                ending = start(store.end_user_sessions(ADA))
                while not store.database.writer.waiting:  # noqa: ASYNC110 (a number)
                    await asyncio.sleep(0)
            assert isinstance(signing_in.outcome, type(session))
            assert len((await ending).ended) == 2

        for _ in range(2):
            asyncio.run(meet())


class TestTransactions:
    async def test_a_transaction_runs_no_sql_and_says_so(self, store: MemoryStore) -> None:
        async with store.transaction() as transaction:
            with pytest.raises(AttributeError, match="runs no SQL; it has no 'execute'"):
                transaction.execute  # noqa: B018 (looking is enough)

    async def test_a_transaction_that_has_ended_is_refused(self, store: MemoryStore) -> None:
        async with store.transaction() as transaction:
            pass
        with pytest.raises(InvalidArgumentError, match="has ended"):
            await store.end_user_sessions(ADA, transaction=transaction)

    @pytest.mark.parametrize("foreign", [object(), "a transaction"])
    async def test_what_is_no_transaction_of_a_memory_store_is_refused(self, store: MemoryStore, foreign: Any) -> None:
        with pytest.raises(InvalidArgumentError, match="MemoryStore"):
            await store.end_user_sessions(ADA, transaction=foreign)

    async def test_the_transaction_of_a_store_on_other_data_is_refused(self, store: MemoryStore) -> None:
        elsewhere = MemoryStore()
        await elsewhere.open()
        async with elsewhere.transaction() as transaction:
            with pytest.raises(InvalidArgumentError, match="on the same data"):
                await store.read_user(ADA, transaction=transaction)

    async def test_a_savepoint_whose_block_raises_is_rolled_back_and_the_rest_is_kept(self, store: MemoryStore) -> None:
        session = await sign_in(store)
        async with store.transaction() as transaction:
            await register_in(store, transaction)
            with pytest.raises(ZeroDivisionError):
                async with transaction.begin_nested():
                    await store.end_user_sessions(ADA, transaction=transaction)
                    raise ZeroDivisionError
        assert await read(store, session.id) == session
        assert await store.read_user(BOB) is not None

    async def test_a_store_hears_what_a_hook_of_its_own_call_has_ended(self, store: MemoryStore) -> None:
        other_users = await sign_in(store, BOB)
        await register(store)

        async def hook(connection: AsyncConnection) -> None:
            await store.delete_sessions(SessionFilter(session_id=other_users.id), transaction=connection)

        async with Listening(store) as listening:
            await insert(store, new_session(), inside_transaction=hook)
            assert await listening.next() == Announcement(BOB, other_users.id)


async def register_in(store: MemoryStore, transaction: AsyncConnection) -> None:
    await store.insert_user(BOB, scopes=frozenset(), blocked=False, transaction=transaction)


async def test_what_a_thread_ends_is_heard_in_the_loop_that_listens(store: MemoryStore) -> None:
    other = await another(store)
    async with Listening(store) as listening:
        await asyncio.to_thread(lambda: TestWithoutALoop.run(other.end_user_sessions(ADA)))
        assert await listening.next() == Announcement(ADA)


async def test_its_guarantee_says_that_everything_is_gone_with_the_process(store: MemoryStore) -> None:
    guarantee = await store.guarantee()
    assert guarantee.level is GuaranteeLevel.STRICT
    assert "When this process ends, everything is gone" in str(guarantee)


async def test_a_pod_starts_on_it() -> None:
    store = MemoryStore()
    async with Pod(store=store, environ={}, require=GuaranteeLevel.STRICT) as pod:
        assert pod.store is store
        assert await store.read_user(ADA) is None


class TestManualClock:
    def test_it_stands_still_until_it_is_moved(self) -> None:
        clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        assert clock.now_us() == clock.now_us()
        clock.advance(timedelta(days=1, microseconds=1))
        assert clock.now() == datetime(2026, 1, 2, 0, 0, 0, 1, tzinfo=UTC)
        clock.advance(timedelta(days=-1))
        assert clock.now() == datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)

    def test_without_a_time_it_starts_now(self) -> None:
        before = datetime.now(UTC)
        assert before <= ManualClock().now() <= datetime.now(UTC)

    def test_a_time_without_a_zone_is_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match="now must be"):
            ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001 (that is the point)
