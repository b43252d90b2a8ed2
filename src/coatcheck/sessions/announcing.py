"""Telling subscribers of a change, once it is committed, or once nobody can say whether it is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from coatcheck.errors import StoreUnavailable
from coatcheck.events import AnnouncementsMissed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coatcheck.events import EventBus, Message
    from coatcheck.identifiers import UserId
    from coatcheck.stores.store import Store, Transaction

# Announcements of commits that nobody awaits; the loop itself keeps only a weak reference to its tasks.
_under_way: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def announcing(
    bus: EventBus, store: Store, user_id: UserId | None, transaction: Transaction | None
) -> AsyncIterator[list[Message]]:
    """Around a change that ends or shrinks authentication: publishes what the block puts into the list.

    That is once the change is committed, and never if it is rolled back. Where the outcome is not known it may have
    happened, and this process is the only one that would not hear of it: other processes are told by the store, which
    does not tell us what we have done ourselves. `AnnouncementsMissed` says so then, of `user_id`, or of anybody where
    that is None. Inside a transaction of the caller's, what has failed is no part of what may still be committed.
    """
    messages: list[Message] = []
    try:
        yield messages
    except (StoreUnavailable, asyncio.CancelledError):
        if transaction is None:
            await bus.publish(AnnouncementsMissed(user_id))
        raise
    if not messages:
        return
    if transaction is None:
        await bus.publish(*messages)
        return
    loop = asyncio.get_running_loop()

    def committed() -> None:
        task = loop.create_task(bus.publish(*messages))
        _under_way.add(task)
        task.add_done_callback(_under_way.discard)

    await store.after_commit(transaction, committed)
