"""The load that is measured: one kind of call or a mix of kinds, by a number of concurrent callers."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, TypeVar

from coatcheck.errors import CoatcheckError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from coatcheck.bench.filling import Population
    from coatcheck.tokens import TokenManager

T = TypeVar("T")

MIXES: Mapping[str, Mapping[str, int]] = {
    "validate": {"validate": 1},
    "touch": {"touch": 1},
    "sign-in": {"sign-in": 1},
    "revoke": {"revoke": 1},
    "everyday": {"validate": 96, "touch": 2, "sign-in": 1, "revoke": 1},
}
"""Kinds of calls with their weights. "touch" is a validation whose use has to be written."""


class BenchError(CoatcheckError):
    """A call gave a wrong result."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one run. Latencies are in microseconds; `cpu_us` is this process's CPU time for each call."""

    mix: str
    concurrency: int
    operations: int
    seconds: float
    p50_us: float
    p99_us: float
    cpu_us: float

    @property
    def per_second(self) -> float:
        """Calls per second."""
        return self.operations / self.seconds


class Workload:
    """The calls on one population. Sessions are divided: half are validated, a quarter touched, a quarter revoked."""

    def __init__(self, manager: TokenManager, population: Population, *, runs: int) -> None:
        """Call `manager`, whose store holds `population`. All `runs` share the sessions to be touched and revoked."""
        self._manager = manager
        self._population = population
        size = population.size
        chooser = random.Random(0)  # noqa: S311 (the same choice each time, and no secret)
        sample = [population.token(chooser.randrange(max(1, size // 2))) for _ in range(min(20_000, size))]
        self._validated = _endless(sample)
        self._all_touched = iter(range(size // 2, size * 3 // 4))
        self._all_revoked = iter(range(size * 3 // 4, size))
        self._share = max(1, size // 4 // runs)
        self._touched: Iterator[int] = iter(())
        self._revoked: Iterator[int] = iter(())
        self._users = map(population.user, count())
        self._calls: Mapping[str, Callable[[], Awaitable[None]]] = {
            "validate": self._validate,
            "touch": self._touch,
            "sign-in": self._sign_in,
            "revoke": self._revoke,
        }

    async def run(self, mix: str, *, concurrency: int, seconds: float) -> Figures:
        """Run one mix for about `seconds`, or until its share of sessions to touch or revoke is used up.

        Raises:
            BenchError: a call gave a wrong result.
            StoreUnavailable: the store cannot answer.
        """
        self._touched = islice(self._all_touched, self._share)
        self._revoked = islice(self._all_revoked, self._share)
        chooser = random.Random(concurrency)  # noqa: S311
        kinds = chooser.choices(list(MIXES[mix]), list(MIXES[mix].values()), k=10_000)
        calls = _endless([self._calls[kind] for kind in kinds])
        latencies: list[float] = []
        clock, took = time.perf_counter, latencies.append
        cpu, start = time.process_time(), clock()
        end = start + seconds

        async def caller() -> None:
            now = clock()
            try:
                while now < end:
                    await next(calls)()
                    before, now = now, clock()
                    took(now - before)
            except _UsedUpError:
                return

        await asyncio.gather(*(caller() for _ in range(concurrency)))
        if not latencies:
            raise BenchError(f"no session is left for {mix!r}; store more sessions (--sessions)")
        cpu, elapsed = time.process_time() - cpu, clock() - start
        latencies.sort()
        number = len(latencies)
        return Figures(
            mix,
            concurrency,
            number,
            elapsed,
            p50_us=latencies[number // 2] * 1e6,
            p99_us=latencies[min(number - 1, number * 99 // 100)] * 1e6,
            cpu_us=cpu / number * 1e6,
        )

    async def _validate(self) -> None:
        _expect(await self._manager.validate_token(next(self._validated)), "a live session is refused")

    async def _touch(self) -> None:
        token = self._population.token(_next(self._touched))
        _expect(await self._manager.validate_token(token), "a live session is refused")

    async def _sign_in(self) -> None:
        await self._manager.create_token(auth_user_id=next(self._users), method="bench")

    async def _revoke(self) -> None:
        session_id = self._population.session_id(_next(self._revoked))
        _expect(await self._manager.revoke_token(token_id=session_id), "a session was not there to be revoked")


class _UsedUpError(Exception):
    """Each session is touched or revoked once, and none is left."""


def _next(numbers: Iterator[int]) -> int:
    number = next(numbers, None)
    if number is None:
        raise _UsedUpError
    return number


def _endless(items: Sequence[T]) -> Iterator[T]:
    while True:
        yield from items


def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise BenchError(otherwise)
