"""Who is told, within one process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck.events.messages import Message

Subscriber: TypeAlias = "Callable[[Message], Awaitable[None]]"

_log = logging.getLogger(__name__)


class EventBus:
    """Hands each message to every subscriber of this process, after the change it tells of was committed."""

    def __init__(self) -> None:
        """Start without subscribers."""
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber. Call what is returned to remove it."""
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe

    async def publish(self, *messages: Message) -> None:
        """Tell every subscriber. One that raises is logged and harms nobody: the change has already happened."""
        for message in messages:
            for subscriber in tuple(self._subscribers):
                try:
                    await subscriber(message)
                except Exception:  # noqa: BLE001 (whatever a subscriber raises is not ours to fail on)
                    _log.exception("a subscriber failed on %s", type(message).__name__)
