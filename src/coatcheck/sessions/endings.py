"""Ending sessions: each call runs to its end, and the sessions that it has ended are published once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from coatcheck.events.publishing import published

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from coatcheck.events import EventBus
    from coatcheck.identifiers import UserId
    from coatcheck.sessions.ports import FinishesCalls
    from coatcheck.stores.store import Transaction

T = TypeVar("T")


class Endings:
    """Runs the store calls that end sessions."""

    def __init__(self, bus: EventBus, finisher: FinishesCalls) -> None:
        """Publish on `bus`; `finisher` lets a call finish whose caller was cancelled."""
        self._bus = bus
        self._finisher = finisher

    async def run(
        self, call: Coroutine[Any, Any, T], *, user_id: UserId | None, transaction: Transaction | None = None
    ) -> T:
        """Run `call` to its end and return its result. `user_id` is the user whose sessions end; None: any user.

        Inside the caller's transaction the call is only awaited: the caller decides about commit and rollback.

        Raises:
            RevocationIndeterminate: the outcome is not known.
        """
        ending = published(self._bus, call, user_id=user_id, transaction=transaction)
        return await (ending if transaction is not None else self.finish(ending))

    async def finish(self, steps: Coroutine[Any, Any, T]) -> T:
        """Run several steps to their end. Each step publishes the sessions that it has ended.

        Raises:
            RevocationIndeterminate: the steps took too long; they go on in the background.
        """
        return await self._finisher.run(steps)

    async def close(self) -> None:
        """Finish the calls that are under way."""
        await self._finisher.close()
