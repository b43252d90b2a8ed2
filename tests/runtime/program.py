"""Run as a program: starts an application in the way that is asked for, and prints what becomes of every call.

python -m tests.runtime.program preforked
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import multiprocessing
import sys
from typing import TYPE_CHECKING

from tests.runtime.calls import Calls, outcomes, summary
from tests.runtime.places import AFTERWARDS, EFFECT, in_child, in_every_place

if TYPE_CHECKING:
    from collections.abc import Callable


def plain() -> object:
    """One process, which imports the application and runs it."""
    from tests.runtime import application  # noqa: PLC0415 (in the way and at the moment that is tested)

    return in_every_place(application.pod, application.auth)


def preforked() -> object:
    """The application is imported, then the worker is forked and opens the pod: gunicorn --preload."""
    from tests.runtime import application  # noqa: PLC0415 (as above)

    return in_child(lambda: in_every_place(application.pod, application.auth))


def preforked_after_use() -> object:
    """The pod was open and was closed, then the worker is forked: a check at start, a migration."""
    from tests.runtime import application  # noqa: PLC0415 (as above)

    async def look() -> None:
        async with application.pod:
            await application.pod.store.guarantee()

    asyncio.run(look())
    return in_child(lambda: in_every_place(application.pod, application.auth))


def forked_while_open() -> object:
    """The worker is forked while the pod is open in the parent, and tries to open and use it."""
    from tests.runtime import application  # noqa: PLC0415 (as above)

    pod = application.pod
    calls, loop = Calls(pod, application.auth), asyncio.new_event_loop()
    loop.run_until_complete(pod.__aenter__())
    loop.run_until_complete(calls.sign_in())
    everything = calls.opening() | calls.all()
    found = {
        "one loop": in_child(lambda: asyncio.run(outcomes(everything))),
        "the parent's loop": in_child(lambda: loop.run_until_complete(outcomes(everything))),
        "a fork of the fork": in_child(lambda: in_child(lambda: asyncio.run(outcomes(everything)))),
        "the parent": {
            EFFECT: loop.run_until_complete(calls.effect()),
            AFTERWARDS: summary(loop.run_until_complete(outcomes(calls.all()))),
        },
    }
    loop.run_until_complete(pod.__aexit__(None, None, None))
    return found


def spawned() -> object:
    """A process of its own, which imports the application: the workers of uvicorn."""
    from tests.runtime import application  # noqa: PLC0415 (the parent imports it too)

    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_spawned, args=(queue,))
    process.start()
    found = queue.get(timeout=60)
    process.join()
    assert application.pod is not None
    return found


def _spawned(queue: multiprocessing.Queue[object]) -> None:
    logging.getLogger("coatcheck.background.guarantee_watch").setLevel(logging.ERROR)
    queue.put(plain())


def reloaded() -> object:
    """The module is imported a second time, while the pod of the first is open."""
    from tests.runtime import application  # noqa: PLC0415 (as above)

    loop = asyncio.new_event_loop()
    first = application.pod
    loop.run_until_complete(first.__aenter__())
    again = importlib.reload(application)
    assert again.pod is not first
    found = in_every_place(again.pod, again.auth)
    loop.run_until_complete(first.__aexit__(None, None, None))
    return found


STARTS: dict[str, Callable[[], object]] = {
    start.__name__: start for start in (plain, preforked, preforked_after_use, forked_while_open, spawned, reloaded)
}

if __name__ == "__main__":
    logging.getLogger("coatcheck.background.guarantee_watch").setLevel(logging.ERROR)  # of a server for tests
    sys.stdout.write(json.dumps(STARTS[sys.argv[1]]()))
