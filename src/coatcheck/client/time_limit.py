"""A time limit for a whole blocking call. The timeouts of httpx2 are for each step of a request."""

from __future__ import annotations

import contextvars
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class TimeLimitError(Exception):
    """The call did not return in time. It goes on in a thread of its own, and nobody waits for it."""


def call_within(seconds: float, function: Callable[[], T]) -> T:
    """Call `function`, and wait for it for at most `seconds`.

    The times of a request's steps add up. httpx2 cannot limit the lookup of a name, which may take half a minute when
    the network is down.

    Raises:
        TimeLimitError: the call takes longer.
    """
    done: Future[T] = Future()
    context = contextvars.copy_context()

    def call() -> None:
        try:
            done.set_result(context.run(function))
        except BaseException as error:  # noqa: BLE001 (the future raises it in the thread that waits)
            done.set_exception(error)

    try:
        Thread(target=call, name="coatcheck-request", daemon=True).start()
    except RuntimeError:  # a program that signs out while it exits cannot start threads any more
        return function()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():
            return done.result()  # the call returned at the last moment, or raised a TimeoutError itself
        raise TimeLimitError from None
