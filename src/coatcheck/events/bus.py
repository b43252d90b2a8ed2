"""The one place of a process where it becomes known what has ended or shrunk.

Whatever this process ends arrives as a `Change` (`publishing.py`), whatever others end as an `Announcement`
(`background/relay.py`). Subscribers are told of both in the same words; observers see the changes themselves, with the
ids of all sessions, those that were pruned included.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeAlias

from coatcheck.events.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck.events.messages import Message
    from coatcheck.stores.records import Change

Subscriber: TypeAlias = "Callable[[Message], Awaitable[None]]"
Observer: TypeAlias = "Callable[[Change], None]"

_log = logging.getLogger(__name__)


class EventBus:
    """Hands each message to every subscriber of this process, after the change it tells of was committed.

    Messages come from this process and, while the pod is open, from every other that uses the same store. They are
    handed over one after the other: a subscriber that takes long keeps those after it waiting.
    """

    def __init__(self) -> None:
        """Start without subscribers."""
        self._subscribers: list[Subscriber] = []
        self._observers: list[Observer] = []
        self._subscribed = asyncio.Event()

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody is told."""
        return bool(self._subscribers)

    async def until_subscribed(self) -> None:
        """Wait for the first subscriber there ever was."""
        await self._subscribed.wait()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber. Call what is returned to remove it."""
        self._subscribers.append(subscriber)
        self._subscribed.set()

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have `observer` called with each change that this process has made and knows to be committed.

        That is every ending and every loss of scopes by a call without a transaction, and every step of pruning: the
        `ended` of the change has the session ids. A change inside a transaction of the application's is not among
        them; subscribers hear of it once it is committed. Redis deletes sessions past their deadline by itself, and
        nobody is told of those. Call what is returned to remove the observer.
        """
        self._observers.append(observer)

        def stop_observing() -> None:
            if observer in self._observers:
                self._observers.remove(observer)

        return stop_observing

    async def publish_change(self, change: Change) -> None:
        """Tell observers of a change of this process, and subscribers of what the store has announced of it."""
        for observer in tuple(self._observers):
            try:
                observer(change)
            except Exception:  # noqa: BLE001 (whatever an observer raises, the change has happened)
                _log.exception("an observer failed on %s", type(change).__name__)
        await self.publish(*map(message_of, change.announced))

    async def publish(self, *messages: Message) -> None:
        """Tell every subscriber. One that raises is logged and harms nobody: the change has already happened."""
        for message in messages:
            for subscriber in tuple(self._subscribers):
                try:
                    await subscriber(message)
                except Exception:  # noqa: BLE001 (whatever a subscriber raises is not ours to fail on)
                    _log.exception("a subscriber failed on %s", type(message).__name__)
