"""What is put into the wheel comes due once, when its time has come, and not at all once it was taken out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coatcheck.web.live.timer_wheel import TimerWheel

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE_SECONDS = 20


class Clock:
    """The event loop's, which goes only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now)

    async def move(self, seconds: float) -> None:
        self._now += seconds
        for _ in range(3):  # the loop sees which timers are over, and calls them
            await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_things_come_due_in_their_time_and_once(clock: Clock) -> None:
    due: list[str] = []
    wheel: TimerWheel[str] = TimerWheel(due.extend)
    wheel.put("soon", 1)
    wheel.put("later", 5)
    await clock.move(0.8)
    assert due == []
    await clock.move(0.3)
    assert due == ["soon"]
    await clock.move(3.8)
    assert due == ["soon"]
    await clock.move(10)
    assert due == ["soon", "later"]


async def test_items_that_come_due_together_are_handed_over_together(clock: Clock) -> None:
    due: list[Sequence[int]] = []
    wheel: TimerWheel[int] = TimerWheel(due.append)
    for number in range(100):
        wheel.put(number, 1 + number / 100_000)
    await clock.move(2)
    assert [sorted(items) for items in due] == [list(range(100))]


async def test_an_item_that_is_put_in_again_has_only_its_new_time(clock: Clock) -> None:
    due: list[str] = []
    wheel: TimerWheel[str] = TimerWheel(due.extend)
    wheel.put("one", 1)
    wheel.put("one", 3)
    await clock.move(2)
    assert due == []
    await clock.move(2)
    assert due == ["one"]


async def test_an_item_that_was_taken_out_does_not_come_due(clock: Clock) -> None:
    due: list[str] = []
    wheel: TimerWheel[str] = TimerWheel(due.extend)
    wheel.put("one", 1)
    wheel.discard("one")
    wheel.discard("one")
    wheel.discard("never there")
    await clock.move(2)
    assert due == []


async def test_no_timer_runs_for_an_empty_wheel_and_one_does_again(clock: Clock) -> None:
    due: list[str] = []
    wheel: TimerWheel[str] = TimerWheel(due.extend)
    wheel.put("one", 1)
    await clock.move(2)
    assert wheel._timer is None  # noqa: SLF001 (a process without connections is not woken ten times a second)
    wheel.put("two", 1)
    await clock.move(2)
    assert due == ["one", "two"]


async def test_no_timer_runs_for_a_wheel_from_which_all_was_taken_out() -> None:
    wheel: TimerWheel[str] = TimerWheel(lambda _: None)
    wheel.put("one", 1)
    wheel.put("two", 1)
    wheel.discard("one")
    assert wheel._timer is not None  # noqa: SLF001 (as above)
    wheel.discard("two")
    assert wheel._timer is None  # noqa: SLF001 (as above)
    assert not wheel._slots  # noqa: SLF001 (nothing is kept of what has gone)


def test_a_wheel_from_which_all_was_taken_out_goes_on_in_another_event_loop() -> None:
    """As that of an application that is served again and again in one process, by tests for example."""
    due: list[str] = []
    wheel: TimerWheel[str] = TimerWheel(due.extend)

    async def comes_and_goes() -> None:
        wheel.put("one", 1)
        wheel.discard("one")

    async def stays() -> None:
        wheel.put("two", 0.001)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not due:  # noqa: ASYNC110 (there is no event to wait for)
                await asyncio.sleep(0.001)

    asyncio.run(comes_and_goes())
    asyncio.run(stays())
    assert due == ["two"]


async def test_an_item_that_comes_due_may_be_put_in_again_at_once(clock: Clock) -> None:
    due: list[str] = []

    def again(items: Sequence[str]) -> None:
        due.extend(items)
        if len(due) < 3:
            for item in items:
                wheel.put(item, 1)

    wheel: TimerWheel[str] = TimerWheel(again)
    wheel.put("one", 1)
    for _ in range(5):
        await clock.move(1.2)
    assert due == ["one"] * 3
