"""Full garbage collections wait while many connections end, and not for longer than they have to."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from coatcheck.web.live.endings import Endings
from coatcheck.web.live.garbage_collection import FullCollections
from tests.web.live.test_endings import A_DAY, MANY, Connection, add, until

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL = (700, 10, 7)


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Thresholds that are not Python's own."""
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(("how_many", "wait"), [(MANY, True), (10, False)])
async def test_they_wait_while_many_connections_end(how_many: int, *, wait: bool) -> None:
    seen: list[tuple[int, int, int]] = []
    steps: list[tuple[str, int]] = []
    look = [Connection(number, steps, lambda: seen.append(gc.get_threshold())) for number in range(how_many)]
    add(Endings(A_DAY), *look)
    await until(lambda: ("left", 0) in steps)
    seen.append(gc.get_threshold())
    await until(lambda: len(steps) == 2 * how_many)
    assert gc.get_threshold() == USUAL
    assert len(seen) == how_many + 1
    assert {(first, second) for first, second, _ in seen} == {USUAL[:2]}
    assert {full > 1_000_000 for _, _, full in seen} == {wait}


async def test_a_client_that_reads_nothing_makes_them_wait_for_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    reads = asyncio.get_running_loop().create_future()
    steps: list[tuple[str, int]] = []
    endings = Endings(A_DAY)
    add(endings, *(Connection(number, steps, lambda: asyncio.shield(reads)) for number in range(MANY)))
    await asyncio.sleep(0)
    assert gc.get_threshold() != USUAL
    now += 1.1
    await until(lambda: gc.get_threshold() == USUAL)
    assert steps == []
    reads.set_result(None)
    await until(lambda: len(steps) == 2 * MANY)


async def test_of_several_who_have_them_wait_the_last_lets_them_go_on() -> None:
    collections, one, another = FullCollections(), object(), object()
    collections.postpone(one)
    collections.postpone(another)
    collections.postpone(one)
    collections.resume(one)
    assert gc.get_threshold() != USUAL
    collections.resume(another)
    assert gc.get_threshold() == USUAL
    collections.resume(another)
    assert gc.get_threshold() == USUAL


async def test_what_somebody_else_has_set_meanwhile_stays() -> None:
    collections, holder = FullCollections(), object()
    collections.postpone(holder)
    gc.set_threshold(1, 2, 3)
    collections.resume(holder)
    assert gc.get_threshold() == (1, 2, 3)
