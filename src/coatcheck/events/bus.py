"""The one place of a process that hears of every session that has ended or lost scopes.

A change that this process makes arrives as a `Change` (`publishing.py`), a change that another process makes as an
`Announcement` (`background/relay.py`). Subscribers get the same messages for both. Observers get the changes
themselves, with the ids of all sessions, pruned ones included.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeAlias

from coatcheck.events.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck.events.messages import Message
    from coatcheck.opening import Opening
    from coatcheck.stores.records import Change

Subscriber: TypeAlias = "Callable[[Message], Awaitable[None]]"
Observer: TypeAlias = "Callable[[Change], None]"

_log = logging.getLogger(__name__)


class EventBus:
    """Gives each message to every subscriber of this process, after the change was committed.

    Messages come from this process and, while the pod is open, from every other process that uses the same store. The
    bus awaits one subscriber after the other: a slow subscriber delays the subscribers after it.
    """

    def __init__(self, opening: Opening | None = None) -> None:
        """Start without subscribers. `opening` says where the pod is open, whose event loop calls them."""
        self._opening = opening
        self._subscribers: list[Subscriber] = []
        self._observers: list[Observer] = []
        self._was_subscribed = False
        self._first_subscriber: asyncio.Future[None] | None = None  # while something waits for it

    @property
    def has_subscribers(self) -> bool:
        """Whether there is a subscriber."""
        return bool(self._subscribers)

    async def until_subscribed(self) -> None:
        """Wait until the first subscriber was added; return at once if that has happened already."""
        if not self._was_subscribed:
            self._first_subscriber = asyncio.get_running_loop().create_future()
            await self._first_subscriber

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber. Returns a function that removes it.

        The event loop of the pod calls the subscribers. Subscribe before the pod is open, or in that loop.

        Raises:
            OpenElsewhereError: the pod is open in another event loop or process.
        """
        self._check_not_elsewhere()
        self._subscribers.append(subscriber)
        self._was_subscribed = True
        waiting, self._first_subscriber = self._first_subscriber, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call `observer` with each change that this process has made and knows to be committed.

        These are the endings and losses of scopes by calls without a transaction, and each step of pruning. The change
        has the ids of the ended sessions in `ended`. Observers do not get a change inside the application's own
        transaction; subscribers hear of it when it is committed. Redis deletes sessions past their deadline by itself,
        and neither observers nor subscribers hear of those. Returns a function that removes the observer.

        Raises:
            OpenElsewhereError: the pod is open in another event loop or process.
        """
        self._check_not_elsewhere()
        self._observers.append(observer)

        def stop_observing() -> None:
            if observer in self._observers:
                self._observers.remove(observer)

        return stop_observing

    async def publish_change(self, change: Change) -> None:
        """Give a change of this process to the observers, and the messages about it to the subscribers."""
        for observer in tuple(self._observers):
            try:
                observer(change)
            except Exception:  # noqa: BLE001 (the change has happened, so an observer's error must not stop it)
                _log.exception("an observer failed on %s", type(change).__name__)
        await self.publish(*map(message_of, change.announced))

    async def publish(self, *messages: Message) -> None:
        """Give messages to every subscriber. The error of a subscriber is logged, and the others are still called."""
        for message in messages:
            for subscriber in tuple(self._subscribers):
                try:
                    await subscriber(message)
                except Exception:  # noqa: BLE001 (the change has happened, so a subscriber's error must not stop it)
                    _log.exception("a subscriber failed on %s", type(message).__name__)

    def _check_not_elsewhere(self) -> None:
        if self._opening is not None:
            self._opening.check_not_elsewhere()
