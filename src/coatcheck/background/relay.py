"""Publishing the announcements that come through the store.

They are those of other processes, and those of an application's own transactions when they are committed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from coatcheck.background.task import BackgroundTask
from coatcheck.events.messages import AnnouncementsMissed, message_of

if TYPE_CHECKING:
    from coatcheck.events.bus import EventBus
    from coatcheck.stores.store import Store

_log = logging.getLogger(__name__)


class Relay:
    """Listens to the store and publishes on the bus, from the first subscriber on."""

    def __init__(self, store: Store, bus: EventBus) -> None:
        """Listen to `store` and publish on `bus`.

        Changes of this process outside of an application's transactions do not come this way: `published` publishes
        them where they are made.
        """
        self._store = store
        self._bus = bus
        self._task = BackgroundTask("listening to other processes")
        self._missed_nothing = False

    async def start(self, *, patience_seconds: float = 5.0) -> None:
        """Begin, in a background task. If there are subscribers already, wait until it listens."""
        if self._task.has_started:
            return
        listens = asyncio.Event()
        # Nothing is open for a session before the pod has started, so early subscribers can have missed nothing.
        self._missed_nothing = self._bus.has_subscribers
        self._task.start(partial(self._run, listens))
        if self._bus.has_subscribers:
            try:
                async with asyncio.timeout(patience_seconds):
                    await listens.wait()
            except TimeoutError:
                self._missed_nothing = False
                _log.warning("%r cannot be listened to yet: announcements of other processes arrive later", self._store)

    async def stop(self) -> None:
        """Stop the background task."""
        await self._task.stop()

    async def _run(self, listens: asyncio.Event) -> None:
        await self._bus.until_subscribed()
        async with aclosing(self._store.announcements()) as announcements:
            async for one in announcements:
                listens.set()
                if one is None and self._missed_nothing:
                    self._missed_nothing = False
                    continue
                await self._bus.publish(AnnouncementsMissed() if one is None else message_of(one))
