"""Calls from threads without an event loop into the loop that a pod is open in."""

from __future__ import annotations

import asyncio
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from coatcheck.errors import OpenElsewhereError
from coatcheck.opening import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from coatcheck.opening import Opening

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_AGAIN_SECONDS = 1.0  # whether the loop, which may end at any moment, is still there to answer


class BlockingCaller(Protocol):
    """Calls an asynchronous function and waits for its result: `caller(function, ...)` for `await function(...)`."""

    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `function(...)`."""
        ...


class CallFromThread:
    """Has the event loop of an opening run a function, and blocks the calling thread until it is done."""

    def __init__(self, opening: Opening) -> None:
        """Call in the loop where `opening` is open at the time of a call."""
        self._opening = opening

    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `function(...)`, or its exception.

        Raises:
            NotOpenError: it is not open here.
            OpenElsewhereError: this thread runs an event loop, which would stand still.
        """
        loop = self._opening.loop
        if not isinstance(loop, asyncio.AbstractEventLoop) or loop.is_closed():
            raise self._opening.refusal()
        if running_loop() is not None:
            raise OpenElsewhereError(
                "from_threads blocks its thread, and this thread runs an event loop: await the asynchronous call "
                "instead, or call from_threads in a worker thread, as in a `def` route"
            )

        coroutine = function(*args, **kwargs)
        del args, kwargs  # a traceback with local variables would show a token among them
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:  # the loop was closed since we looked
            coroutine.close()
            raise self._opening.refusal() from None
        try:
            return self._result(future, loop)
        except BaseException:
            future.cancel()  # nobody waits for it any more; does nothing where it is done
            raise

    def _result(self, future: Future[T], loop: asyncio.AbstractEventLoop) -> T:
        while not wait([future], timeout=_LOOK_AGAIN_SECONDS).done:
            if loop.is_closed():
                raise self._opening.refusal()
        return future.result()
