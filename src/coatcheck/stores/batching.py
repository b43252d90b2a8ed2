"""Round trips that are shared: whoever asks while one is under way goes together with the others in the next.

Nothing waits for a timer, so a lone caller is as fast as with a trip of its own (`docs/explanation/speed.md`). A
caller who is cancelled leaves; the trip goes on for the others and the connection never notices.

Reads go this way, sign-ins and revocations. For writes that is what databases call group commit.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

from coatcheck.errors import NotOpenError, StoreUnavailable
from coatcheck.stores.reusable_timeout import ReusableTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_log = logging.getLogger(__name__)

MAX_BATCH = 256
"""How many keys go in one trip."""

_SHARE_FROM = 16  # fewer are not worth a second round trip

K = TypeVar("K")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

# For which key, who, and since when by the clock of the loop.
_Waiting: TypeAlias = "tuple[K, asyncio.Future[V | None], float]"


class BatchRunner(Protocol[K, V_co]):
    """A connection that makes one trip at a time."""

    async def run(self, keys: Sequence[K]) -> Mapping[K, V_co | StoreUnavailable]:
        """Answer these keys, no key twice. The trip starts after the call.

        A key may be left without an answer; one whose answer is a StoreUnavailable has failed by itself. The trip is
        cancelled where it takes too long; nobody else may get its answer then.

        Raises:
            StoreUnavailable: no answer. A runner that reads tries again on a new connection before it says so; one that
                writes says what is known of the outcome (`RevocationIndeterminate`).
        """
        ...


class Batcher(Generic[K, V]):
    """Gathers the questions of one event loop and hands them to its runners, a batch at a time."""

    def __init__(
        self,
        runners: Sequence[BatchRunner[K, V]],
        *,
        timeout_seconds: float,
        when_cut_off: Callable[[str], StoreUnavailable] = StoreUnavailable,
    ) -> None:
        """Go over `runners`; two are enough. Nobody waits for longer than `timeout_seconds`, from call to answer.

        `when_cut_off` makes the error, from its text, for those whose trip was under way when that time was over or
        the store was closed. Those who had still been waiting for a trip get `StoreUnavailable`.
        """
        self._lanes = runners
        self._timeout_seconds = timeout_seconds
        self._when_cut_off = when_cut_off
        self._waiting: list[_Waiting[K, V]] = []
        self._parked: list[asyncio.Future[None]] = []
        self._is_waking = False
        self._workers: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Start, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._is_waking = False
        self._workers = [self._loop.create_task(self._work(runner)) for runner in self._lanes]

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

    def submit(self, key: K) -> asyncio.Future[V | None]:
        """The answer to `key`, or None where there is none, by a trip that starts after this call.

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

    async def _work(self, runner: BatchRunner[K, V]) -> None:
        limit = ReusableTimeout()
        try:
            while True:
                if not self._waiting:
                    await self._work_to_come()
                    continue
                batch = self._take()
                # Asked anew for each batch, and only now: what is read is never older than the question.
                keys = list(dict.fromkeys([key for key, waiter, _ in batch if not waiter.done()]))
                if keys:  # else all callers have gone
                    await self._go(runner, batch, keys, limit)
        finally:
            limit.close()

    async def _go(
        self, runner: BatchRunner[K, V], batch: Sequence[_Waiting[K, V]], keys: Sequence[K], limit: ReusableTimeout
    ) -> None:
        try:
            with limit.until(batch[0][2] + self._timeout_seconds):  # the first came first
                found = await runner.run(keys)
        except TimeoutError as error:
            # No answer for so long is an outage. Who came meanwhile is not made to wait as long again.
            waiting, self._waiting = self._waiting, []
            message = "the store cannot answer (TimeoutError)"
            _fail(batch, self._when_cut_off(message), error)
            _fail(waiting, StoreUnavailable(message), error)
        except Exception as error:  # noqa: BLE001 (whatever it is, the callers get it, and the worker goes on)
            if not isinstance(error, StoreUnavailable):
                _log.exception("a shared trip to the store failed")
            _fail(batch, error, error.__cause__)
        except BaseException:
            _fail(batch, self._when_cut_off("the store is closed"))
            raise
        else:
            for key, waiter, _ in batch:
                if not waiter.done():  # else the caller has gone
                    answer = found.get(key)
                    if isinstance(answer, StoreUnavailable):
                        waiter.set_exception(_own(answer))
                    else:
                        waiter.set_result(answer)

    async def _work_to_come(self) -> None:
        parked = asyncio.get_running_loop().create_future()
        self._parked.append(parked)
        await parked
        self._is_waking = False

    def _wake(self) -> None:
        """Have one idle runner look at who is waiting, in the next step of the loop."""
        self._is_waking = True
        self._parked.pop().set_result(None)

    def _take(self) -> list[_Waiting[K, V]]:
        """The next batch. Half of many, where another runner is idle: one is served while the other is asked."""
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


def _fail(batch: Sequence[_Waiting[K, V]], error: Exception, cause: BaseException | None = None) -> None:
    for _, waiter, _ in batch:
        if not waiter.done():
            own = _own(error)
            own.__cause__ = cause
            waiter.set_exception(own)


def _own(error: Exception) -> Exception:
    # One for each: an exception that is raised in many tasks gathers the tracebacks of all.
    return type(error)(str(error)) if isinstance(error, StoreUnavailable) else error
