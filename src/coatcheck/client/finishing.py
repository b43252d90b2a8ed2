"""Bringing a step to its end although its caller is cancelled."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Finishing:
    """Finishes the steps of one flow, and keeps a cancellation of asyncio's own until the flow can end in order.

    anyio's shield holds off anyio's cancel scopes, and no `task.cancel()`, `asyncio.timeout` or end of `asyncio.run`.
    A step therefore runs in a task of its own, and the caller waits for it however often it is cancelled.
    """

    def __init__(self) -> None:
        """Begin without a cancellation."""
        self._held: asyncio.CancelledError | None = None

    def raise_held(self) -> None:
        """Raise the cancellation that came while a step was finished, if there was one."""
        held, self._held = self._held, None
        if held is not None:
            raise held

    async def in_thread(self, function: Callable[[], T], limiter: anyio.CapacityLimiter) -> T:
        """Call `function` in a thread, and return its result."""
        if _is_on_asyncio():
            return await self._in_thread(function, limiter)
        return await _shielded(anyio.to_thread.run_sync(function, limiter=limiter))

    async def result_of(self, step: Awaitable[T]) -> T | None:
        """Await `step`; None if it was cancelled itself."""
        if not _is_on_asyncio():
            return await _shielded(step)
        task = asyncio.ensure_future(step)
        await self._until_done(task)
        if not task.cancelled():
            return task.result()
        self._held = self._held or asyncio.CancelledError()
        return None

    async def _in_thread(self, function: Callable[[], T], limiter: anyio.CapacityLimiter) -> T:
        outcome: Future[T] = Future()
        has_begun = threading.Lock()

        def call() -> None:
            if not has_begun.acquire(blocking=False):
                return
            try:
                outcome.set_result(function())
            except BaseException as error:  # noqa: BLE001 (the future raises it where it is awaited)
                outcome.set_exception(error)

        while True:
            task = asyncio.ensure_future(anyio.to_thread.run_sync(call, limiter=limiter))
            await self._until_done(task)
            if not task.cancelled():
                task.result()
                break
            if has_begun.locked():
                break
            # The end of asyncio.run has cancelled the task before a thread was free.
        finished = asyncio.wrap_future(outcome)
        await self._until_done(finished)
        return finished.result()

    async def _until_done(self, future: asyncio.Future[T]) -> None:
        with anyio.CancelScope(shield=True):
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError as cancelled:
                    self._held = self._held or cancelled


async def _shielded(step: Awaitable[T]) -> T:
    with anyio.CancelScope(shield=True):
        result = await step
    return result  # noqa: RET504 (for a type checker, a scope that may swallow an error has no return inside)


def _is_on_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # trio
        return False
