"""Choosing interleavings: a store whose calls a test can stop on their way in or out."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from coatcheck.stores.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

if TYPE_CHECKING:
    # For type checkers it is a store like any other: they cannot see that calls are forwarded by name.
    from coatcheck.testing.memory.store import MemoryStore as _AnyStore
else:
    _AnyStore = object

_PATIENCE_SECONDS = 30.0


class Gate:
    """Stops every call of one name until it is opened. Made by `PausingStore`."""

    def __init__(self, place: str) -> None:
        """A closed gate; `place` is said in errors."""
        self._place = place
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def reached(self) -> None:
        """Wait until a call stands at the gate.

        Raises:
            AssertionError: none came.
        """
        try:
            await asyncio.wait_for(self._reached.wait(), _PATIENCE_SECONDS)
        except TimeoutError:
            raise AssertionError(f"no call came {self._place} within {_PATIENCE_SECONDS:g} s") from None

    @property
    def is_reached(self) -> bool:
        """Whether a call has come this far."""
        return self._reached.is_set()

    def open(self) -> None:
        """Let the waiting calls, and all later ones, through."""
        self._opened.set()

    async def _pass(self) -> None:
        self._reached.set()
        await self._opened.wait()


class PausingStore(_AnyStore):
    """A store that hands every call to another one, and can stop calls by name before or after they reach it.

        pausing = PausingStore(store)
        gate = pausing.pause_before("touch_sessions")
        validation = asyncio.create_task(manager.validate_token(token))
        await gate.reached()            # the row was read, the touch has not happened
        await manager.revoke_token(token_id=session_id)
        gate.open()
        assert await validation is None

    `calls` lists the names of all calls so far, in the order they were made.
    """

    def __init__(self, store: Store) -> None:
        """Forward to `store`; nothing is stopped yet."""
        self._store = store
        self._before: dict[str, Gate] = {}
        self._after: dict[str, Gate] = {}
        self.calls: list[str] = []

    def pause_before(self, name: str) -> Gate:
        """Stop calls of the method `name` before the store sees them."""
        return self._pause(self._before, name, f"to {name}")

    def pause_after(self, name: str) -> Gate:
        """Stop calls of the method `name` when the store has done them, before the caller hears of it."""
        return self._pause(self._after, name, f"out of {name}")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the store has)
        """The store's method of this name, with its gates in front and behind."""
        method = getattr(self._store, name)
        if not _is_call(name):
            return method
        return self._gated(name, method)

    def _gated(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 (whatever the store takes and gives)
            self.calls.append(name)
            await _pass(self._before.get(name))
            result = await method(*arguments, **options)
            await _pass(self._after.get(name))
            return result

        return call

    def _pause(self, gates: dict[str, Gate], name: str, place: str) -> Gate:
        if not _is_call(name):
            raise ValueError(f"{name!r} is not a call of the Store protocol that can be stopped")
        gates[name] = Gate(place)
        return gates[name]


def _is_call(name: str) -> bool:
    # `read_session` is no coroutine function: it may hand out a future that many share in.
    return name == "read_session" or inspect.iscoroutinefunction(getattr(Store, name, None))


async def _pass(gate: Gate | None) -> None:
    if gate is not None:
        await gate._pass()  # noqa: SLF001 (the two belong together)
