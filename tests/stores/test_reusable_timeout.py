"""A limit ends the block that takes too long, and no other. Deadlines here are over at once or an hour away."""

from __future__ import annotations

import asyncio

import pytest

from coatcheck.stores.reusable_timeout import ReusableTimeout


def now() -> float:
    return asyncio.get_running_loop().time()


def later() -> float:
    return now() + 3600


async def steps_of_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_block_that_takes_too_long_raises_timeout_error() -> None:
    with pytest.raises(TimeoutError), ReusableTimeout().until(now()):
        await asyncio.Event().wait()


async def test_the_task_is_not_cancelled_after_a_timeout() -> None:
    limit = ReusableTimeout()
    for _ in range(3):
        with pytest.raises(TimeoutError), limit.until(now()):
            await asyncio.Event().wait()
    await steps_of_the_loop()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_timer_of_one_block_does_not_cut_off_the_next() -> None:
    limit = ReusableTimeout()
    with limit.until(now()):
        pass  # over before the timer goes off
    with limit.until(later()):
        await steps_of_the_loop()
    limit.close()


async def test_a_timer_that_went_off_between_blocks_is_set_again() -> None:
    limit = ReusableTimeout()
    with limit.until(now()):
        pass
    await steps_of_the_loop()  # the timer goes off, and there is nothing to cut off
    with pytest.raises(TimeoutError), limit.until(now()):
        await asyncio.Event().wait()


async def test_a_timer_that_goes_off_early_is_set_again_for_the_running_block() -> None:
    limit = ReusableTimeout()
    with limit.until(now()):
        pass
    with pytest.raises(TimeoutError), limit.until(now() + 0.001):
        await asyncio.Event().wait()


async def test_a_cancellation_from_outside_stays_a_cancellation() -> None:
    async def work() -> None:
        limit = ReusableTimeout()
        try:
            with limit.until(later()):
                await asyncio.Event().wait()
        finally:
            limit.close()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_at_the_moment_of_the_timeout_stays_a_cancellation() -> None:
    async def work() -> None:
        with ReusableTimeout().until(now()):
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    with pytest.raises((asyncio.CancelledError, TimeoutError)):
        await task
    assert task.cancelled()


async def test_another_error_is_not_taken_for_a_timeout() -> None:
    limit = ReusableTimeout()
    with pytest.raises(LookupError), limit.until(now()):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LookupError from None


async def test_a_reusable_timeout_must_be_made_in_a_task() -> None:
    made: list[object] = []

    def outside() -> None:
        try:
            made.append(ReusableTimeout())
        except RuntimeError as error:
            made.append(str(error))

    asyncio.get_running_loop().call_soon(outside)
    await steps_of_the_loop()
    assert made == ["a ReusableTimeout is made in the task that it limits"]
