"""A limit on the time that the application's own code may take inside one of our calls.

A user source or a hook that works in threads, asked from routes that are threads themselves, may wait for one that only
becomes free when this call is over. Without a limit all of them would wait for ever, and a hook would keep the
transaction, and with it SQLite's only writer, from everybody else.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from coatcheck.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

HOOK_LIMIT = timedelta(seconds=10)


async def in_time(answer: Awaitable[T], limit: timedelta, too_late: StoreUnavailable) -> T:
    """The answer of the application's own code, within `limit`.

    Raises:
        StoreUnavailable: `too_late`, as the application took longer. Its call was cancelled.
    """
    try:
        async with asyncio.timeout(limit.total_seconds()) as timeout:
            return await answer
    except TimeoutError as error:
        if not timeout.expired():
            raise  # the application's own
        raise too_late from error


async def hook_in_time(answer: Awaitable[T], name: str) -> T:
    """The answer of the hook of this name, within `HOOK_LIMIT`.

    Raises:
        StoreUnavailable: it took longer, so that its transaction must not be committed.
    """
    too_late = StoreUnavailable(f"{name} took longer than the {HOOK_LIMIT.total_seconds():g} s a hook may take")
    return await in_time(answer, HOOK_LIMIT, too_late)
