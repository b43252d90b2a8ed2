"""Doing something to its end although its caller is cancelled meanwhile, for what must not be left half done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


async def to_its_end(step: Coroutine[Any, Any, T]) -> T:
    """The result of `step`, which runs in a task of its own. A cancellation that comes meanwhile is raised afterwards.

    anyio's scopes cancel again at each await, `asyncio.timeout` and `task.cancel()` once: neither cuts the step off.
    """
    try:
        task = asyncio.get_running_loop().create_task(step)
    except RuntimeError:  # there is no event loop, so nothing can cancel it
        return await step
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None or task.cancelled():
        return task.result()
    raise cancelled from task.exception()
