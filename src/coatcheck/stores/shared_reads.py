"""Reads that share a round trip: whoever asks while a read is under way goes together with the others in the next.

Nothing waits for a timer, so a lone caller is as fast as with a read of its own (`docs/explanation/speed.md`). A
caller who is cancelled leaves; the read goes on for the others and the connection never notices.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

from coatcheck.errors import NotOpenError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_log = logging.getLogger(__name__)

MAX_BATCH = 256
"""How many keys go in one read."""

_SHARE_FROM = 16  # fewer are not worth a second round trip

K = TypeVar("K")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

# For which key, who, and since when by the clock of the loop.
_Waiting: TypeAlias = "tuple[K, asyncio.Future[V | None], float]"


class Lane(Protocol[K, V_co]):
    """A connection that reads for one batch at a time."""

    async def read(self, keys: Sequence[K]) -> Mapping[K, V_co]:
        """Read what is stored under these keys, no key twice. The read starts after the call.

        It is cancelled where it takes too long; nobody else may get its answer then.

        Raises:
            StoreUnavailable: no answer; a lane tries again on a new connection before it says so.
        """
        ...


class SharedReads(Generic[K, V]):
    """Gathers the reads of one event loop and hands them to its lanes, a batch at a time."""

    def __init__(self, lanes: Sequence[Lane[K, V]], *, timeout_seconds: float) -> None:
        """Read over `lanes`; two are enough. Nobody waits for longer than `timeout_seconds`, from call to answer."""
        self._lanes = lanes
        self._timeout_seconds = timeout_seconds
        self._waiting: list[_Waiting[K, V]] = []
        self._parked: list[asyncio.Future[None]] = []
        self._is_waking = False
        self._workers: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Start to read, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._is_waking = False
        self._workers = [self._loop.create_task(self._work(lane)) for lane in self._lanes]

    async def close(self) -> None:
        """Stop. Who still waits gets StoreUnavailable."""
        self._loop = None
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self._parked.clear()
        waiting, self._waiting = self._waiting, []
        _fail(waiting, StoreUnavailable("the store is closed"))

    def read(self, key: K) -> asyncio.Future[V | None]:
        """What is stored under `key`, or None, by a read that starts after this call.

        Raises:
            NotOpenError: before `open` or after `close`.
        """
        if self._loop is None:
            raise NotOpenError("the store is not open; use it inside `async with pod`")
        waiter: asyncio.Future[V | None] = self._loop.create_future()
        self._waiting.append((key, waiter, self._loop.time()))
        if self._parked and not self._is_waking:
            self._wake()
        return waiter

    async def _work(self, lane: Lane[K, V]) -> None:
        while True:
            if not self._waiting:
                await self._work_to_come()
                continue
            batch = self._take()
            try:
                async with asyncio.timeout_at(batch[0][2] + self._timeout_seconds):  # the first came first
                    # Asked anew for each batch, and only now: what is read is never older than the question.
                    found = await lane.read(list(dict.fromkeys([key for key, _, _ in batch])))
            except TimeoutError as error:
                # No answer for so long is an outage. Who came meanwhile is not made to wait as long again.
                waiting, self._waiting = self._waiting, []
                outage = StoreUnavailable("the store cannot answer (TimeoutError)")
                outage.__cause__ = error
                _fail(batch + waiting, outage)
            except Exception as error:  # noqa: BLE001 (whatever it is, the callers get it, and the worker goes on)
                if not isinstance(error, StoreUnavailable):
                    _log.exception("a shared read failed")
                _fail(batch, error)
            except BaseException:
                _fail(batch, StoreUnavailable("the store is closed"))
                raise
            else:
                for key, waiter, _ in batch:
                    if not waiter.done():  # else the caller has gone
                        waiter.set_result(found.get(key))

    async def _work_to_come(self) -> None:
        parked = asyncio.get_running_loop().create_future()
        self._parked.append(parked)
        await parked
        self._is_waking = False

    def _wake(self) -> None:
        """Have one idle lane look at who is waiting, in the next step of the loop."""
        self._is_waking = True
        self._parked.pop().set_result(None)

    def _take(self) -> list[_Waiting[K, V]]:
        """The next batch. Half of many, where another lane is idle: one is served while the other is asked."""
        waiting = self._waiting
        size = min(len(waiting), MAX_BATCH)
        if self._parked and size >= _SHARE_FROM:
            size = (size + 1) // 2
            self._wake()
        if size == len(waiting):
            self._waiting = []
            return waiting
        batch = waiting[:size]
        del waiting[:size]
        return batch


def _fail(batch: Sequence[_Waiting[K, V]], error: Exception) -> None:
    for _, waiter, _ in batch:
        if not waiter.done():
            # One for each: an exception that is raised in many tasks gathers the tracebacks of all.
            own = StoreUnavailable(str(error)) if isinstance(error, StoreUnavailable) else error
            own.__cause__ = error.__cause__
            waiter.set_exception(own)
