"""Batches: callers who ask while a round trip to the store is under way share the next one.

A batch is never held back for a timer, so a lone caller is as fast as with a round trip of its own
(`docs/explanation/speed.md`). A caller that is cancelled leaves; the batch goes on for the others, and the connection
does not notice.

Reads are batched, and so are sign-ins and revocations. For writes databases call this group commit.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

from coatcheck.errors import StoreUnavailable
from coatcheck.opening import Opening, running_loop
from coatcheck.stores.failures import cannot_answer
from coatcheck.stores.reusable_timeout import ReusableTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_log = logging.getLogger(__name__)

MAX_BATCH = 256
"""How many keys a batch has at most."""

_SPLIT_FROM = 16  # a smaller batch is not worth a second round trip

K = TypeVar("K")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

# A caller: the key it asked for, the future that it waits for, and the time of the call by the clock of the loop.
_Caller: TypeAlias = "tuple[K, asyncio.Future[V | None], float]"


class BatchRunner(Protocol[K, V_co]):
    """Runs one batch at a time, over connections of its own."""

    async def run(self, keys: Sequence[K]) -> Mapping[K, V_co | StoreUnavailable]:
        """Answer these keys; each occurs once. The round trip starts after the call.

        A key may be left without an answer. A key whose answer is a StoreUnavailable has failed by itself. A batch that
        takes too long is cancelled; its answer must not reach a later batch.

        Raises:
            StoreUnavailable: there is no answer. A runner that reads tries again on a new connection before it says so;
                a runner that writes says what is known of the outcome (`RevocationIndeterminate`).
        """
        ...


class Batcher(Generic[K, V]):
    """Forms batches of the keys that the callers of one event loop ask for, and hands them to its runners."""

    def __init__(
        self,
        runners: Sequence[BatchRunner[K, V]],
        *,
        timeout_seconds: float,
        when_cut_off: Callable[[str], StoreUnavailable] = StoreUnavailable,
    ) -> None:
        """Use `runners`; two are enough. No caller waits for longer than `timeout_seconds`, from call to answer.

        `when_cut_off` makes the error, from its text, for callers whose batch was under way when the time was over or
        the store was closed. Callers that were still waiting for a batch get `StoreUnavailable`.
        """
        self._runners = runners
        self._timeout_seconds = timeout_seconds
        self._when_cut_off = when_cut_off
        self._waiting: list[_Caller[K, V]] = []
        self._idle: list[asyncio.Future[None]] = []  # one for each worker that waits for a caller
        self._is_waking = False
        self._workers: list[asyncio.Task[None]] = []
        self._opening = Opening()

    def open(self) -> None:
        """Start, in the running event loop."""
        self._opening.begin()
        self._is_waking = False
        loop = asyncio.get_running_loop()
        self._workers = [loop.create_task(self._work(runner)) for runner in self._runners]

    async def close(self) -> None:
        """Stop. Callers that still wait get StoreUnavailable."""
        if not self._opening.stop():
            return
        try:
            workers, self._workers = self._workers, []
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self._idle.clear()
            waiting, self._waiting = self._waiting, []
            _fail(waiting, StoreUnavailable("the store is closed"))
        finally:
            self._opening.end()

    def submit(self, key: K) -> asyncio.Future[V | None]:
        """The answer to `key`, or None where there is none, from a round trip that starts after this call.

        Raises:
            NotOpenError: before `open` or after `close`, or in another event loop or process.
        """
        loop = running_loop()
        if loop is None or loop is not self._opening.loop:
            raise self._opening.refusal()
        answer: asyncio.Future[V | None] = loop.create_future()
        self._waiting.append((key, answer, loop.time()))
        if self._idle and not self._is_waking:
            self._wake()
        return answer

    async def _work(self, runner: BatchRunner[K, V]) -> None:
        """Run one batch after the other, and sleep while no caller waits."""
        loop = asyncio.get_running_loop()
        limit = ReusableTimeout()
        try:
            while True:
                while not self._waiting:
                    sleep = loop.create_future()
                    self._idle.append(sleep)
                    await sleep
                    self._is_waking = False
                await self._run_batch(runner, self._take(), limit)
        finally:
            limit.close()

    def _wake(self) -> None:
        """Have one idle worker look at the waiting callers, in the next step of the loop."""
        self._is_waking = True
        self._idle.pop().set_result(None)

    def _take(self) -> list[_Caller[K, V]]:
        """The next batch: half of many callers where another worker is idle, which then runs the other half."""
        waiting = self._waiting
        size = min(len(waiting), MAX_BATCH)
        if self._idle and size >= _SPLIT_FROM:
            size = (size + 1) // 2
            self._wake()
        if size == len(waiting):
            self._waiting = []
            return waiting
        batch = waiting[:size]
        del waiting[:size]
        return batch

    async def _run_batch(
        self, runner: BatchRunner[K, V], batch: Sequence[_Caller[K, V]], limit: ReusableTimeout
    ) -> None:
        # The keys are read again for each batch, and only now: an answer is never older than the call.
        keys: dict[K, None] = {}
        for key, answer, _ in batch:
            if not answer.done():
                keys[key] = None
        if not keys:  # every caller has gone
            return
        try:
            with limit.until(batch[0][2] + self._timeout_seconds):  # the first of the batch called first
                found = await runner.run(list(keys))
        except TimeoutError as error:
            # No answer within the limit is an outage. Callers that came meanwhile need not wait as long again.
            waiting, self._waiting = self._waiting, []
            message = cannot_answer(error)
            _fail(batch, self._when_cut_off(message), error)
            _fail(waiting, StoreUnavailable(message), error)
        except Exception as error:  # noqa: BLE001 (whatever it is, the callers get it, and the worker goes on)
            if not isinstance(error, StoreUnavailable):
                _log.exception("a batch to the store failed")
            _fail(batch, error, error.__cause__)
        except BaseException:
            _fail(batch, self._when_cut_off("the store is closed"))
            raise
        else:
            _answer(batch, found)


def _answer(batch: Sequence[_Caller[K, V]], found: Mapping[K, V | StoreUnavailable]) -> None:
    for key, answer, _ in batch:
        if answer.done():  # the caller has gone
            continue
        value = found.get(key)
        if isinstance(value, StoreUnavailable):
            answer.set_exception(_own(value))
        else:
            answer.set_result(value)


def _fail(batch: Sequence[_Caller[K, V]], error: Exception, cause: BaseException | None = None) -> None:
    for _, answer, _ in batch:
        if not answer.done():
            own = _own(error)
            own.__cause__ = cause
            answer.set_exception(own)


def _own(error: Exception) -> Exception:
    # One for each caller: an exception that is raised in many tasks collects the tracebacks of all of them.
    return type(error)(str(error)) if isinstance(error, StoreUnavailable) else error
