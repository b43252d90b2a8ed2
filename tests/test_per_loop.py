"""What belongs to one event loop is not met in another, and is forgotten with its loop."""

from __future__ import annotations

import asyncio

from coatcheck.per_loop import PerLoop


def test_each_loop_has_one_of_its_own_and_those_of_ended_loops_are_forgotten() -> None:
    made: PerLoop[list[int]] = PerLoop(list)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def here() -> list[int]:
        return made.here()

    one, other = first.run_until_complete(here()), second.run_until_complete(here())
    assert one is not other
    assert first.run_until_complete(here()) is one
    assert [loop for loop, _ in made.all()] == [first, second]
    first.close()
    assert made.all() == [(second, other)]
    second.close()
    assert made.all() == []
