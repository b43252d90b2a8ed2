"""Who is told, within one process; `relay` publishes here what other processes announce."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck.events.messages import Message

Subscriber: TypeAlias = "Callable[[Message], Awaitable[None]]"

_log = logging.getLogger(__name__)


class EventBus:
    """Hands each message to every subscriber of this process, after the change it tells of was committed.

    Messages come from this process and, while the pod is open, from every other that uses the same store. They are
    handed over one after the other: a subscriber that takes long keeps those after it waiting.
    """

    def __init__(self) -> None:
        """Start without subscribers."""
        self._subscribers: list[Subscriber] = []
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

    async def publish(self, *messages: Message) -> None:
        """Tell every subscriber. One that raises is logged and harms nobody: the change has already happened."""
        for message in messages:
            for subscriber in tuple(self._subscribers):
                try:
                    await subscriber(message)
                except Exception:  # noqa: BLE001 (whatever a subscriber raises is not ours to fail on)
                    _log.exception("a subscriber failed on %s", type(message).__name__)
