"""Connections that end together: all clients are told before any application has to leave; nobody waits for others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from coatcheck.web.live.closing_queue import ClosingQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from coatcheck.web.live.connection import LiveConnection

PATIENCE_SECONDS = 20
MANY = 500  # more than are told at a time
A_DAY = timedelta(days=1).total_seconds()


class Connection:
    """Writes down what it is asked to do; its client takes `telling` to be told."""

    def __init__(
        self,
        name: int,
        steps: list[tuple[str, int]],
        telling: Callable[[], object] = lambda: None,
        *,
        client_answers: bool = False,
    ) -> None:
        self.client_answers = client_answers
        self._name = name
        self._steps = steps
        self._telling = telling

    async def tell(self) -> None:
        told = self._telling()
        if isinstance(told, asyncio.Future):
            await told
        self._steps.append(("told", self._name))

    def leave(self, grace_seconds: float) -> None:
        assert grace_seconds > 0
        self._steps.append(("left", self._name))


def add(endings: ClosingQueue, *connections: Connection) -> None:
    endings.add([cast("LiveConnection", one) for one in connections])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0)


async def test_every_client_is_told_before_any_application_has_to_leave() -> None:
    steps: list[tuple[str, int]] = []
    add(ClosingQueue(A_DAY), *(Connection(number, steps) for number in range(MANY)))
    await until(lambda: len(steps) == 2 * MANY)
    assert steps == [(step, number) for step in ("told", "left") for number in range(MANY)]


async def test_clients_that_answer_nothing_are_told_first() -> None:
    steps: list[tuple[str, int]] = []
    add(ClosingQueue(A_DAY), *(Connection(number, steps, client_answers=number % 2 == 0) for number in range(MANY)))
    await until(lambda: len(steps) == 2 * MANY)
    assert steps[:MANY] == [("told", number) for number in (*range(1, MANY, 2), *range(0, MANY, 2))]


async def test_everything_else_goes_on_meanwhile() -> None:
    steps: list[tuple[str, int]] = []
    done_at_each_round: list[int] = []
    add(ClosingQueue(A_DAY), *(Connection(number, steps) for number in range(MANY)))

    def look() -> bool:
        done_at_each_round.append(len(steps))
        return len(steps) == 2 * MANY

    await until(look)
    done = [after - before for before, after in pairwise(done_at_each_round)]
    assert max(done) <= 100  # the last who are told, and the first to leave


async def test_clients_that_read_nothing_keep_nobody_else_waiting() -> None:
    steps: list[tuple[str, int]] = []
    reads = asyncio.get_running_loop().create_future()
    deaf = [Connection(number, steps, lambda: asyncio.shield(reads)) for number in range(MANY)]
    others = [Connection(number, steps) for number in range(MANY, 2 * MANY)]
    add(ClosingQueue(A_DAY), *deaf, *others)
    await until(lambda: len(steps) == 2 * MANY)
    assert {number for _, number in steps} == set(range(MANY, 2 * MANY))
    reads.set_result(None)
    await until(lambda: len(steps) == 4 * MANY)


async def test_a_client_that_was_waited_for_takes_nobody_along_within_the_same_time_limit() -> None:
    steps: list[tuple[str, int]] = []
    endings, reads, tasks = ClosingQueue(A_DAY), asyncio.get_running_loop().create_future(), []

    def telling() -> asyncio.Future[None] | None:
        tasks.append(asyncio.current_task())
        return reads if len(tasks) == 1 else None

    add(endings, Connection(1, steps, telling))
    await until(lambda: bool(tasks))
    add(endings, Connection(2, steps, telling))
    reads.set_result(None)
    await until(lambda: len(steps) == 4)
    assert len(set(tasks)) == 2


async def test_an_application_leaves_although_its_client_reads_nothing() -> None:
    steps: list[tuple[str, int]] = []
    add(ClosingQueue(0.001), Connection(1, steps, asyncio.get_running_loop().create_future))
    await until(lambda: steps == [("left", 1)])


async def test_an_application_leaves_although_its_client_has_gone_or_the_server_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps: list[tuple[str, int]] = []

    def gone() -> None:
        raise ConnectionResetError

    def fails() -> None:
        raise ValueError("a server's own")

    add(ClosingQueue(A_DAY), Connection(1, steps, gone), Connection(2, steps, fails), Connection(3, steps))
    await until(lambda: len(steps) == 4)
    assert steps == [("told", 3), ("left", 1), ("left", 2), ("left", 3)]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_client_that_comes_while_others_leave_is_told_at_once() -> None:
    steps: list[tuple[str, int]] = []
    endings = ClosingQueue(A_DAY)
    add(endings, *(Connection(number, steps) for number in range(MANY)))
    await until(lambda: ("left", 0) in steps)
    add(endings, Connection(MANY, steps))
    await until(lambda: len(steps) == 2 * MANY + 2)
    assert steps.index(("told", MANY)) < steps.index(("left", MANY - 1))


async def test_endings_that_never_cease_keep_nobody_from_leaving() -> None:
    steps: list[tuple[str, int]] = []
    endings = ClosingQueue(0.001)  # for so long others are told first
    has_left = False

    def another() -> None:
        if not has_left:
            add(endings, Connection(len(steps) + 1, steps, another))

    add(endings, Connection(0, steps, another))
    await until(lambda: ("left", 0) in steps)
    has_left = True
    told = sum(step == "told" for step, _ in steps)
    await until(lambda: 2 * told <= len(steps))
