"""Ending sessions: each call is brought to its end, and what it has ended is published once."""

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
    """Runs the store's calls that end sessions."""

    def __init__(self, bus: EventBus, finisher: FinishesCalls) -> None:
        """Publish on `bus`; `finisher` keeps a call going whose caller has gone."""
        self._bus = bus
        self._finisher = finisher

    async def run(
        self, call: Coroutine[Any, Any, T], *, user_id: UserId | None, transaction: Transaction | None = None
    ) -> T:
        """Run `call` to its end and return what it returns. `user_id` is whose sessions end; None: anybody's.

        Inside a transaction of the caller's it is an ordinary call: the caller decides about commit and rollback.

        Raises:
            RevocationIndeterminate: the outcome is not known.
        """
        ending = published(self._bus, call, user_id=user_id, transaction=transaction)
        return await (ending if transaction is not None else self.finish(ending))

    async def finish(self, steps: Coroutine[Any, Any, T]) -> T:
        """Run several steps to their end, each of which publishes what it has ended.

        Raises:
            RevocationIndeterminate: they took too long; they go on by themselves.
        """
        return await self._finisher.run(steps)

    async def close(self) -> None:
        """Bring calls under way to their end."""
        await self._finisher.close()
