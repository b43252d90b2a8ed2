"""Telling subscribers of a change, once it is committed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coatcheck.events import EventBus, Message
    from coatcheck.stores.store import Store, Transaction

# Announcements of commits that nobody awaits; the loop itself keeps only a weak reference to its tasks.
_under_way: set[asyncio.Task[None]] = set()


async def announce(bus: EventBus, store: Store, messages: Sequence[Message], transaction: Transaction | None) -> None:
    """Publish `messages` once the change they tell of is committed; never if it is rolled back."""
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
