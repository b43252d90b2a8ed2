"""Looks are made in portions, an outage costs a few of them, and no connection is forgotten."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, cast

import pytest

from coatcheck.web.live.revalidation_queue import Looks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from coatcheck.web.live.connection import LiveConnection

PATIENCE_SECONDS = 20
MANY = 3000
AT_ONCE = 128
AT_MOST = 256
IN_A_ROW = 50
PROBES = 8
LONGEST_PAUSE_SECONDS = 2


class Clock:
    """The event loop's, which goes only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now)

    async def move(self, seconds: float) -> None:
        self._now += seconds
        await settle()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def settle() -> None:
    for _ in range(200):  # enough for all looks at MANY
        await asyncio.sleep(0)


class Connection:
    """A connection with a session of its own, unless a token is given."""

    def __init__(self, number: int, token: str | None = None) -> None:
        self.number = number
        self.token = token or f"token {number}"


class Watch:
    """Counts the looks; the store answers to the tokens that `answers` says, once `hangs` is over."""

    def __init__(self) -> None:
        self.answers: Callable[[str], bool] = lambda _: True
        self.looked_at: list[int] = []
        self.answered: set[int] = set()
        self.under_way = self.most_under_way = 0
        self.hangs: asyncio.Event | None = None
        self.left: list[int] = []
        self.sessions: dict[str, list[LiveConnection]] = {}
        self.looks = Looks(self._examine, self._leave_unanswered, self._of_the_session)

    def make(self, count: int, token: str | None = None) -> list[LiveConnection]:
        made = cast("list[LiveConnection]", [Connection(number, token) for number in range(count)])
        for connection in made:
            self.sessions.setdefault(connection.token, []).append(connection)
        return made

    async def _examine(self, token: str, connections: Sequence[LiveConnection]) -> bool:
        self.looked_at += [cast("Connection", one).number for one in connections]
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        if self.hangs is not None:
            await self.hangs.wait()
        self.under_way -= 1
        if not self.answers(token):
            self._leave_unanswered(connections)
            return False
        self.answered.update(cast("Connection", one).number for one in connections)
        return True

    def _leave_unanswered(self, connections: Collection[LiveConnection]) -> None:
        for connection in connections:
            self.left.append(cast("Connection", connection).number)
            self.looks.set_aside(connection)

    def _of_the_session(self, connection: LiveConnection) -> Collection[LiveConnection]:
        return self.sessions[connection.token]


@pytest.fixture
def watch() -> Watch:
    return Watch()


def nothing(_token: str) -> bool:
    return False


def everything(_token: str) -> bool:
    return True


async def test_each_is_looked_at_once_in_the_order_in_which_it_was_added(watch: Watch) -> None:
    connections = watch.make(MANY)
    watch.looks.add(connections)
    watch.looks.add(connections)
    watch.looks.add_all(connections)
    await settle()
    assert watch.looked_at == list(range(MANY))


@pytest.mark.parametrize("are_all", [True, False])
async def test_a_limited_number_of_looks_is_under_way(watch: Watch, are_all: bool) -> None:
    """More of those that have a reason: where the store is slow, each is still looked at in its turn."""
    watch.hangs = asyncio.Event()
    (watch.looks.add_all if are_all else watch.looks.add)(watch.make(MANY))
    await settle()
    assert watch.under_way == (AT_ONCE if are_all else AT_MOST)
    go_on(watch)
    await settle()
    assert sorted(watch.looked_at) == list(range(MANY))
    assert watch.most_under_way <= AT_MOST


async def test_after_a_reason_for_many_there_are_as_few_as_before(watch: Watch) -> None:
    connections = watch.make(MANY)
    watch.hangs = asyncio.Event()
    watch.looks.add_all(connections[AT_MOST:])
    watch.looks.add(connections[:AT_MOST])
    await settle()
    go_on(watch)
    watch.hangs = asyncio.Event()
    await settle()
    assert watch.under_way == AT_ONCE


@pytest.mark.parametrize("is_down", [False, True])
async def test_the_event_loop_is_free_between_portions(watch: Watch, is_down: bool) -> None:
    """The store answers, or fails, without a pause in which anything else could have its turn."""
    watch.answers = nothing if is_down else everything
    watch.looks.add_all(watch.make(MANY))
    done, portions = 0, []
    for _ in range(200):
        await asyncio.sleep(0)
        now = len(watch.left) if is_down else len(watch.looked_at)
        portions.append(now - done)
        done = now
    assert done == MANY
    assert max(portions) <= AT_ONCE


async def test_a_look_for_a_reason_does_not_wait_for_the_looks_at_all(watch: Watch) -> None:
    connections = watch.make(MANY)
    watch.looks.add_all(connections)
    await asyncio.sleep(0)
    watch.looks.add(connections[-1:])
    await settle()
    assert watch.looked_at.index(MANY - 1) <= 2 * AT_ONCE
    assert sorted(watch.looked_at) == list(range(MANY))


async def test_connections_with_one_token_share_a_look(watch: Watch) -> None:
    asked = 0

    def count(_token: str) -> bool:
        nonlocal asked
        asked += 1
        return True

    watch.answers = count
    watch.looks.add(watch.make(MANY, "the same"))
    await settle()
    assert asked == 1
    assert sorted(watch.looked_at) == list(range(MANY))


async def test_what_is_added_while_it_is_looked_at_is_looked_at_again(watch: Watch) -> None:
    """The answer may be older than the announcement."""
    watch.hangs, connections = asyncio.Event(), watch.make(1)
    watch.looks.add(connections)
    await settle()
    watch.looks.add(connections)
    await settle()
    assert watch.looked_at == [0, 0]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("hangs", [False, True])
async def test_an_outage_that_begins_costs_few_looks(watch: Watch, hangs: bool) -> None:
    watch.answers, watch.hangs = nothing, asyncio.Event() if hangs else None
    watch.looks.add_all(watch.make(MANY))
    await settle()
    if watch.hangs is not None:
        watch.hangs.set()
        await settle()
    assert len(watch.looked_at) <= AT_ONCE + IN_A_ROW + PROBES
    assert sorted(watch.left) == list(range(MANY))  # each has been told that there is no answer


async def test_an_outage_that_lasts_costs_a_few_looks_at_a_time_with_pauses(watch: Watch, clock: Clock) -> None:
    watch.answers = nothing
    watch.looks.add_all(watch.make(MANY))
    await settle()
    before = len(watch.looked_at)
    for _ in range(600):  # a minute
        await clock.move(0.1)
    # The first pauses are shorter; then there is a probe a second at most, as chance has it.
    assert len(watch.looked_at) - before <= (60 + 3) * PROBES
    assert len(watch.looked_at) - before >= 60 / (LONGEST_PAUSE_SECONDS + 0.2) * PROBES
    assert len(set(watch.looked_at[before:])) == len(watch.looked_at) - before  # not the same ones each time


async def test_a_store_that_hangs_has_few_looks_under_way(watch: Watch, clock: Clock) -> None:
    watch.answers = nothing
    connections = watch.make(MANY)
    watch.looks.add_all(connections)
    await settle()
    watch.hangs, watch.most_under_way = asyncio.Event(), 0
    for _ in range(10):
        await clock.move(LONGEST_PAUSE_SECONDS)
        watch.looks.add(connections[:100])
        await settle()
    assert 0 < watch.most_under_way <= PROBES
    watch.left.clear()
    watch.hangs.set()
    await settle()
    assert {*range(100)} <= {*watch.left}  # they have shared the outcome


async def test_the_first_answer_to_a_probe_has_all_looked_at(watch: Watch, clock: Clock) -> None:
    watch.answers = nothing
    watch.looks.add_all(watch.make(MANY))
    await clock.move(30)
    watch.answers = everything
    before = len(watch.looked_at)
    await clock.move(LONGEST_PAUSE_SECONDS)
    assert sorted(watch.looked_at[before:]) == list(range(MANY))
    await clock.move(30)
    assert len(watch.looked_at) == before + MANY


async def test_one_probe_decides_before_thousands_are_looked_at(watch: Watch, clock: Clock) -> None:
    watch.answers = nothing
    watch.looks.add_all(watch.make(MANY))
    await settle()
    watch.answers, watch.hangs, before = everything, asyncio.Event(), len(watch.looked_at)
    await clock.move(LONGEST_PAUSE_SECONDS)
    assert len(watch.looked_at) - before == PROBES
    watch.hangs.set()
    await settle()
    assert watch.answered == set(range(MANY))
    assert len(watch.looked_at) - before < MANY + PROBES  # those that were under way too are looked at again


async def test_another_answer_in_an_outage_has_a_probe_follow_at_once(watch: Watch) -> None:
    """A client that connects has been validated, so the store answers again."""
    connections = watch.make(MANY)
    watch.answers = nothing
    watch.looks.add_all(connections[1:])
    await settle()
    watch.answers = everything
    watch.looks.add(connections[:1])
    await settle()
    assert watch.answered == set(range(MANY))


async def test_a_part_of_the_store_that_answers_is_not_held_up_by_one_that_does_not(watch: Watch, clock: Clock) -> None:
    watch.answers = lambda token: token.endswith(("0", "1", "2", "3", "4"))
    connections = watch.make(MANY)
    random.Random(1).shuffle(connections)  # noqa: S311 (guards nothing)
    answering = {number for number in range(MANY) if number % 10 < 5}
    for _ in range(3):
        watch.answered.clear()
        watch.looks.add_all(connections)
        await clock.move(LONGEST_PAUSE_SECONDS)
        assert watch.answered == answering
    before = len(watch.looked_at)
    await clock.move(LONGEST_PAUSE_SECONDS)
    assert len(watch.looked_at) - before <= PROBES
    watch.answers = everything
    await clock.move(LONGEST_PAUSE_SECONDS)
    assert watch.answered == set(range(MANY))


async def test_what_was_discarded_is_not_looked_at_any_more(watch: Watch, clock: Clock) -> None:
    connections = watch.make(MANY)
    watch.looks.add_all(connections)
    for connection in connections[1::2]:
        watch.looks.discard(connection)
    await settle()
    assert sorted(watch.looked_at) == list(range(0, MANY, 2))
    watch.answers = nothing
    watch.looks.add_all(connections)
    await settle()
    for connection in connections[1::2]:
        watch.looks.discard(connection)
    watch.answers, before = everything, len(watch.looked_at)
    await clock.move(LONGEST_PAUSE_SECONDS)
    assert sorted(watch.looked_at[before:]) == list(range(0, MANY, 2))


async def test_no_timer_runs_where_nothing_is_unanswered(watch: Watch, clock: Clock) -> None:
    connections = watch.make(2)
    watch.answers = nothing
    watch.looks.add(connections)
    await settle()
    assert watch.looks._next_probe is not None  # noqa: SLF001 (it would never go off if this event loop ended)
    for connection in connections:
        watch.looks.discard(connection)
    assert watch.looks._next_probe is None  # noqa: SLF001 (as above)
    watch.looks.add(connections)
    await settle()
    watch.answers = everything
    await clock.move(LONGEST_PAUSE_SECONDS)
    assert watch.looks._next_probe is None  # noqa: SLF001 (as above)


async def test_an_error_in_a_look_leaves_the_others_to_be_made(watch: Watch) -> None:
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failed.append(context))

    def fails_once(token: str) -> bool:
        if token == "token 0":
            raise RuntimeError("an error of ours")
        return True

    watch.answers = fails_once
    watch.looks.add(watch.make(MANY))
    await settle()
    assert watch.answered == set(range(1, MANY))


async def take_a_step(watch: Watch, clock: Clock, chance: random.Random, connections: list[LiveConnection]) -> None:
    step = chance.choice(["down", "up", "in parts", "hang", "go on", "add", "all", "move"])
    if step in {"down", "up"}:
        watch.answers = nothing if step == "down" else everything
    elif step == "in parts":
        last = str(chance.randrange(10))
        watch.answers = lambda token: token.endswith(last)
    elif step == "hang":
        watch.hangs = watch.hangs or asyncio.Event()
    elif step == "go on":
        go_on(watch)
    elif step == "add":
        watch.looks.add(chance.sample(connections, 3))
    elif step == "all":
        watch.answered.clear()  # each is to be looked at again
        watch.looks.add_all(connections)
    else:
        await clock.move(chance.uniform(0, 5))


def go_on(watch: Watch) -> None:
    hangs, watch.hangs = watch.hangs, None
    if hangs is not None:
        hangs.set()


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_forgotten_however_the_store_comes_and_goes(watch: Watch, clock: Clock, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (guards nothing)
    connections = watch.make(chance.choice([3, 60, 1000]))
    watch.looks.add_all(connections)
    for _ in range(30):
        await take_a_step(watch, clock, chance, connections)
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
    watch.answers = everything
    go_on(watch)
    for _ in range(5):
        await clock.move(LONGEST_PAUSE_SECONDS)
    assert watch.answered == set(range(len(connections)))
    assert not watch.under_way
