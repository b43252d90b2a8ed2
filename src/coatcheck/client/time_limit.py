"""A limit for a blocking call as a whole, where the timeouts of httpx are for each of its steps."""

from __future__ import annotations

import contextvars
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class TimeLimitError(Exception):
    """The call has not come back in time. It goes on in a thread of its own; nobody waits for it."""


def call_within(seconds: float, function: Callable[[], T]) -> T:
    """Call `function`, and wait for it for so long.

    The steps of a request add up, and looking up a name, which may take half a minute where the network is down,
    is not among those that httpx can limit.

    Raises:
        TimeLimitError: it takes longer.
    """
    done: Future[T] = Future()
    context = contextvars.copy_context()

    def call() -> None:
        try:
            done.set_result(context.run(function))
        except BaseException as error:  # noqa: BLE001 (it is raised where the call is waited for)
            done.set_exception(error)

    try:
        Thread(target=call, name="coatcheck-request", daemon=True).start()
    except RuntimeError:  # a program that signs out while it exits gets no more threads
        return function()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():
            return done.result()  # came at the last moment, or is its own TimeoutError
        raise TimeLimitError from None
