"""Calls that a test holds in the middle, and calls that meet them there.

A test that chooses an interleaving holds one side: in a transaction that it keeps open, or in the hook of a sign-in,
which runs inside the inserting transaction. The other side comes through a second store. The assertion is how
things stand when both have returned, and it holds whichever of the two the store lets go first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

from coatcheck.testing.samples import insert, start

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.scope import Scope
    from coatcheck.stores.records import NewSession
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

T = TypeVar("T")


class HookError(Exception):
    """Raised by a hook of the application."""


class SignInUnderWay:
    """A sign-in that stands in its hook, inserted and not committed, for the length of an `async with` block.

    `outcome` is what it came to, afterwards.
    """

    def __init__(
        self, store: Store, session: NewSession, *, user_scopes: frozenset[Scope] | None = None, fails: bool = False
    ) -> None:
        """Sign in with `session`; `fails` says that the hook raises when it goes on."""
        self._inside, self._may_go_on = asyncio.Event(), asyncio.Event()
        self._fails = fails
        self._call = insert(store, session, user_scopes=user_scopes, inside_transaction=self._hook)
        self._task: asyncio.Task[object] | None = None
        self.outcome: object = None

    async def __aenter__(self) -> Self:
        """Go as far as the hook."""
        self._task = start(self._call)
        inside = asyncio.create_task(self._inside.wait())
        await asyncio.wait({self._task, inside}, return_when=asyncio.FIRST_COMPLETED)
        inside.cancel()
        assert self._inside.is_set(), f"the sign-in did not get as far as its hook: {self._task!r}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Go on to the end."""
        self._may_go_on.set()
        assert self._task is not None
        self.outcome = await self._task

    def cancel(self) -> None:
        """Give the sign-in up, where it stands."""
        assert self._task is not None
        self._task.cancel()

    async def _hook(self, _connection: AsyncConnection) -> None:
        self._inside.set()
        await self._may_go_on.wait()
        if self._fails:
            raise HookError


async def under_way(harness: StoreHarness, call: Awaitable[T]) -> asyncio.Task[T]:
    """Start `call`, which may have to wait for something that the test holds."""
    task = start(call)
    await harness.until_blocked(task)
    return task


async def at_once(*calls: Awaitable[Any], last_first: bool) -> list[Any]:
    """Start all calls before any has run, the last one first if so wished; the answers are in the order of `calls`."""
    answers = await asyncio.gather(*(calls[::-1] if last_first else calls))
    return answers[::-1] if last_first else answers
