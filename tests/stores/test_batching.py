"""Which callers share a batch, and which must not. The runners here answer when the test says so."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import NotOpenError, RevocationIndeterminate, StoreUnavailable
from coatcheck.stores.batching import MAX_BATCH, Batcher
from tests.stores.loop_time import pass_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


TIMEOUT = 60.0  # longer than a test may take


class Question:
    """One batch of a runner, answered by the test."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = list(keys)
        self.answer: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def give(self) -> None:
        self.answer.set_result({key: key.upper() for key in self.keys if not key.startswith("no ")})


class BatchRunner:
    """Leaves its batches to the test."""

    def __init__(self, asked: asyncio.Queue[Question]) -> None:
        self._asked = asked

    async def run(self, keys: Sequence[str]) -> dict[str, str]:
        question = Question(keys)
        self._asked.put_nowait(question)
        return await question.answer


class Reads:
    """A batcher whose runners wait for the test."""

    def __init__(self, runners: int) -> None:
        self.asked: asyncio.Queue[Question] = asyncio.Queue()
        self.batcher: Batcher[str, str] = Batcher(
            [BatchRunner(self.asked) for _ in range(runners)], timeout_seconds=TIMEOUT
        )
        self.batcher.open()

    async def call(self, key: str) -> str | None:
        return await self.batcher.submit(key)

    def start(self, *keys: str) -> list[asyncio.Task[str | None]]:
        return [asyncio.create_task(self.call(key)) for key in keys]


@pytest.fixture
async def one() -> AsyncIterator[Reads]:
    reads = Reads(1)
    yield reads
    await reads.batcher.close()


@pytest.fixture
async def two() -> AsyncIterator[Reads]:
    reads = Reads(2)
    yield reads
    await reads.batcher.close()


async def test_a_lone_caller_is_answered_by_a_batch_of_its_own(one: Reads) -> None:
    (call,) = one.start("a")
    question = await one.asked.get()
    assert question.keys == ["a"]
    question.give()
    assert await call == "A"


async def test_a_key_that_is_not_there_is_none(one: Reads) -> None:
    calls = one.start("no such key", "b")
    (await one.asked.get()).give()
    assert await asyncio.gather(*calls) == [None, "B"]


async def test_a_caller_that_comes_during_a_round_trip_goes_into_the_next_batch(one: Reads) -> None:
    """A validation must not be answered by a read that began before it."""
    first = one.start("a")[0]
    early = await one.asked.get()
    late = one.start("a", "b", "c")
    await asyncio.sleep(0)
    early.give()
    assert await first == "A"
    assert not any(call.done() for call in late)
    question = await one.asked.get()
    assert question.keys == ["a", "b", "c"]
    question.give()
    assert await asyncio.gather(*late) == ["A", "B", "C"]


async def test_no_answer_comes_from_a_read_that_began_before_the_call() -> None:
    """Reads are numbered: the number that answers is larger than that of any read that began before the call."""
    begun = 0
    answered_by: list[tuple[int, int]] = []

    class CountingRunner:
        async def run(self, keys: Sequence[str]) -> dict[str, int]:
            nonlocal begun
            begun += 1
            own = begun
            for _ in range(own % 5):
                await asyncio.sleep(0)
            return dict.fromkeys(keys, own)

    counting: Batcher[str, int] = Batcher([CountingRunner(), CountingRunner()], timeout_seconds=TIMEOUT)
    counting.open()

    async def caller(number: int) -> None:
        for step in range(50):
            before = begun
            answer = await counting.submit(f"key {(number * step) % 7}")
            assert answer is not None
            answered_by.append((before, answer))

    await asyncio.gather(*map(caller, range(40)))
    await counting.close()
    assert len(answered_by) == 2000
    assert all(answer > before for before, answer in answered_by)
    assert begun < 1000  # so callers did share reads


async def test_a_key_that_many_ask_for_is_read_once(one: Reads) -> None:
    calls = one.start("a", "b", "a", "a")
    question = await one.asked.get()
    assert question.keys == ["a", "b"]
    question.give()
    assert await asyncio.gather(*calls) == ["A", "B", "A", "A"]


async def test_a_large_batch_is_split_where_another_runner_is_idle(two: Reads) -> None:
    calls = two.start(*map(str, range(20)))
    questions = [await two.asked.get(), await two.asked.get()]
    assert [len(question.keys) for question in questions] == [10, 10]
    for question in questions:
        question.give()
    assert await asyncio.gather(*calls) == [str(number) for number in range(20)]


async def test_a_small_batch_is_not_split(two: Reads) -> None:
    calls = two.start("a", "b", "c")
    question = await two.asked.get()
    assert question.keys == ["a", "b", "c"]
    question.give()
    await asyncio.gather(*calls)
    assert two.asked.empty()


async def test_a_batch_has_at_most_max_batch_keys(one: Reads) -> None:
    calls = one.start(*map(str, range(MAX_BATCH + 10)))
    question = await one.asked.get()
    assert len(question.keys) == MAX_BATCH
    question.give()
    question = await one.asked.get()
    assert len(question.keys) == 10
    question.give()
    assert len(await asyncio.gather(*calls)) == MAX_BATCH + 10


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_cancelled_caller_does_not_disturb_the_others(one: Reads, position: int) -> None:
    calls = one.start("a", "b", "b")
    question = await one.asked.get()
    calls[position].cancel()
    await asyncio.sleep(0)
    assert not question.answer.cancelled()
    question.give()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers.pop(position), asyncio.CancelledError)
    assert answers == [text for number, text in enumerate(["A", "B", "B"]) if number != position]
    again = one.start("c")[0]
    (await one.asked.get()).give()
    assert await again == "C"


async def test_a_caller_that_gives_up_does_not_disturb_the_others(one: Reads) -> None:
    other = one.start("b")[0]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await one.call("a")
    question = await one.asked.get()
    question.give()
    assert await other == "B"


async def test_a_caller_cancelled_while_it_waits_is_left_out_of_the_batch(one: Reads) -> None:
    first = one.start("a")[0]
    early = await one.asked.get()
    waiting = one.start("b")[0]
    await asyncio.sleep(0)
    waiting.cancel()
    other = one.start("c")[0]
    early.give()
    assert await first == "A"
    question = await one.asked.get()
    assert question.keys == ["c"]
    question.give()
    assert await other == "C"
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_no_batch_is_run_when_every_caller_has_gone(one: Reads) -> None:
    first = one.start("a")[0]
    early = await one.asked.get()
    waiting = one.start("b")[0]
    await asyncio.sleep(0)
    waiting.cancel()
    early.give()
    await first
    await asyncio.wait({waiting})
    later = one.start("c")[0]
    question = await one.asked.get()
    assert question.keys == ["c"]
    question.give()
    await later


async def test_a_timeout_leaves_the_running_batch_indeterminate_and_the_waiting_callers_with_nothing_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: asyncio.Queue[Question] = asyncio.Queue()
    writes: Batcher[str, str] = Batcher(
        [BatchRunner(asked)], timeout_seconds=TIMEOUT, when_cut_off=RevocationIndeterminate
    )
    writes.open()
    under_way = writes.submit("a")
    await asked.get()
    waiting = writes.submit("b")
    pass_time(monkeypatch, TIMEOUT)
    answers = await asyncio.gather(under_way, waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [RevocationIndeterminate, StoreUnavailable]
    await writes.close()


async def test_a_failed_batch_fails_its_own_callers_only(one: Reads) -> None:
    calls = one.start("a", "b")
    question = await one.asked.get()
    later = one.start("c")[0]
    await asyncio.sleep(0)
    question.answer.set_exception(StoreUnavailable("down"))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert answers[0] is not answers[1]  # each has a traceback of its own
    (await one.asked.get()).give()
    assert await later == "C"


async def test_a_timeout_is_an_outage_for_every_caller_that_waits(one: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = one.start("a")
    question = await one.asked.get()
    calls += one.start("b", "c")
    await asyncio.sleep(0)
    pass_time(monkeypatch, TIMEOUT)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    assert question.answer.cancelled()
    again = one.start("d")[0]
    (await one.asked.get()).give()
    assert await again == "D"


async def test_the_time_limit_counts_from_the_call(one: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    first = one.start("a")[0]
    slow = await one.asked.get()
    pass_time(monkeypatch, TIMEOUT / 2 + 1)
    second = one.start("b")[0]
    await asyncio.sleep(0)
    slow.give()
    assert await first == "A"
    question = await one.asked.get()
    pass_time(monkeypatch, TIMEOUT / 2 + 1)
    await asyncio.sleep(0)
    assert not second.done()
    pass_time(monkeypatch, TIMEOUT / 2)
    with pytest.raises(StoreUnavailable):
        await second
    assert question.answer.cancelled()


async def test_an_unexpected_error_of_a_runner_is_logged_and_the_next_batch_runs(
    one: Reads, caplog: pytest.LogCaptureFixture
) -> None:
    call = one.start("a")[0]
    (await one.asked.get()).answer.set_exception(ZeroDivisionError("a mistake"))
    with pytest.raises(ZeroDivisionError):
        await call
    assert "a batch to the store failed" in caplog.text
    again = one.start("b")[0]
    (await one.asked.get()).give()
    assert await again == "B"


async def test_closing_fails_every_caller_and_the_batcher_can_be_opened_again() -> None:
    reads = Reads(1)
    under_way = reads.start("a")[0]
    await reads.asked.get()
    waiting = reads.start("b")[0]
    await asyncio.sleep(0)
    await reads.batcher.close()
    for call in (under_way, waiting):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call
    with pytest.raises(NotOpenError):
        await reads.call("c")
    reads.batcher.open()
    again = reads.start("d")[0]
    (await reads.asked.get()).give()
    assert await again == "D"
    await reads.batcher.close()


async def test_a_failure_after_the_caller_has_gone_causes_no_warning(one: Reads) -> None:
    call = one.start("a")[0]
    question = await one.asked.get()
    call.cancel()
    await asyncio.sleep(0)
    question.answer.set_exception(StoreUnavailable("down"))
    with pytest.raises(asyncio.CancelledError):
        await call
    del question, call
    gc.collect()  # a future whose exception was never retrieved would warn now, and pytest would fail
