"""Publishing the change that a store call has made, or that its outcome is not known."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from coatcheck.errors import StoreUnavailable
from coatcheck.events.messages import AnnouncementsMissed
from coatcheck.stores.records import Change

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from coatcheck.events.bus import EventBus
    from coatcheck.identifiers import UserId
    from coatcheck.stores.store import Transaction

T = TypeVar("T")


async def published(bus: EventBus, call: Awaitable[T], *, user_id: UserId | None, transaction: Transaction | None) -> T:
    """Await a store call and publish the `Change` that it returns.

    If the outcome is not known, the change may have happened, and this process would be the only one that does not
    hear of it: the store does not send a process its own announcements. `AnnouncementsMissed` is published then, about
    `user_id`, or about all users if that is None.

    A change inside a caller's transaction is not published here: only the store learns whether the transaction is
    committed. The relay hears of it through the store.
    """
    if transaction is not None:
        return await call
    try:
        outcome = await call
    except (StoreUnavailable, asyncio.CancelledError):
        await bus.publish(AnnouncementsMissed(user_id))
        raise
    if isinstance(outcome, Change):
        await bus.publish_change(outcome)
    return outcome
