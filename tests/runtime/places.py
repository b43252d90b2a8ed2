"""Where a pod is used: in one event loop, in several in turn or at once, in a foreign thread, in a forked child."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import warnings
from typing import TYPE_CHECKING, TypeVar

from tests.runtime.calls import Calls, Outcomes, outcomes, outcomes_without_a_loop, summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from coatcheck import AuthServices, Pod

T = TypeVar("T")

EFFECT = "effect of what was refused"
AFTERWARDS = "afterwards, where the pod is open"


def in_one_loop(pod: Pod, auth: AuthServices) -> Outcomes:
    """Opened, used and closed."""
    return asyncio.run(_use(pod, auth))


def in_loops_in_turn(pod: Pod, auth: AuthServices) -> Outcomes:
    """The same three times, each in an event loop of its own."""
    first = [asyncio.run(_use(pod, auth)) for _ in range(3)]
    return next((one for one in first if one != first[0]), first[0])


def in_two_loops_at_once(pod: Pod, auth: AuthServices) -> Outcomes:
    """Open in one event loop, and called in that of another thread."""

    def elsewhere(calls: Calls) -> Outcomes:
        return asyncio.run(outcomes(calls.opening() | calls.all()))

    return asyncio.run(_while_open(pod, auth, lambda calls: _in_a_thread(elsewhere, calls)))


def in_a_loop_while_the_first_stands_still(pod: Pod, auth: AuthServices) -> Outcomes:
    """Open in an event loop that does not run, and called in another one of the same thread."""
    calls, first = Calls(pod, auth), asyncio.new_event_loop()
    first.run_until_complete(pod.__aenter__())
    first.run_until_complete(calls.sign_in())
    found = asyncio.run(outcomes(calls.opening() | calls.all()))
    found[EFFECT] = first.run_until_complete(calls.effect())
    found[AFTERWARDS] = summary(first.run_until_complete(outcomes(calls.all())))
    first.run_until_complete(pod.__aexit__(None, None, None))
    first.close()
    return found


def in_a_foreign_thread(pod: Pod, auth: AuthServices) -> Outcomes:
    """Open in one event loop, and called in a thread that runs none."""

    def elsewhere(calls: Calls) -> Outcomes:
        return outcomes_without_a_loop(calls.opening() | calls.all())

    return asyncio.run(_while_open(pod, auth, lambda calls: _in_a_thread(elsewhere, calls)))


def opened_again_while_open(pod: Pod, auth: AuthServices) -> Outcomes:
    """A second `async with pod` inside of the first, in the same event loop."""

    async def again(calls: Calls) -> Outcomes:
        return await outcomes({"open": calls.pod.__aenter__})

    return asyncio.run(_while_open(pod, auth, again))


def in_a_forked_child(pod: Pod, auth: AuthServices) -> Outcomes:
    """Open in an event loop of the parent, and called in an event loop of the child."""

    async def elsewhere(calls: Calls) -> Outcomes:
        return in_child(lambda: asyncio.run(outcomes(calls.opening() | calls.all())))

    return asyncio.run(_while_open(pod, auth, elsewhere))


PLACES: dict[str, Callable[[Pod, AuthServices], Outcomes]] = {
    "one loop": in_one_loop,
    "loops in turn": in_loops_in_turn,
    "opened again while open": opened_again_while_open,
    "two loops at once": in_two_loops_at_once,
    "the first loop stands still": in_a_loop_while_the_first_stands_still,
    "foreign thread": in_a_foreign_thread,
    "forked child": in_a_forked_child,
}


def in_every_place(pod: Pod, auth: AuthServices) -> dict[str, Outcomes]:
    """All of them, one after the other, on the same pod."""
    return {name: place(pod, auth) for name, place in PLACES.items()}


def in_child(work: Callable[[], T]) -> T:
    """What `work` returns in a forked child, by way of JSON. The child ends without any clean-up."""
    parent, (reading, writing) = os.getpid(), os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: this process has threads
        child = os.fork()
    if child == 0:
        try:
            text = json.dumps(work()).replace(f"process {parent} ", "process PARENT ")
        except BaseException as error:  # noqa: BLE001 (a child must not go on as a second parent)
            text = json.dumps(repr(error))
        with os.fdopen(writing, "w") as pipe:
            pipe.write(text)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    result: T = json.loads(text)
    return result


async def _use(pod: Pod, auth: AuthServices) -> Outcomes:
    async with pod:
        calls = Calls(pod, auth)
        await calls.sign_in()
        return await outcomes(calls.all())


async def _while_open(pod: Pod, auth: AuthServices, elsewhere: Callable[[Calls], object]) -> Outcomes:
    """Call elsewhere; then look at what that has done, and whether everything works where the pod is open."""
    async with pod:
        calls = Calls(pod, auth)
        await calls.sign_in()
        found = elsewhere(calls)
        result: Outcomes = await found if asyncio.iscoroutine(found) else found  # type: ignore[assignment]
        result[EFFECT] = await calls.effect()
        result[AFTERWARDS] = summary(await outcomes(calls.all()))
        return result


async def _in_a_thread(work: Callable[[Calls], Outcomes], calls: Calls) -> Outcomes:
    done: list[Outcomes] = []
    thread = threading.Thread(target=lambda: done.append(work(calls)))
    thread.start()
    await asyncio.to_thread(thread.join)
    return done[0]
