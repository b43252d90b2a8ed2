"""The contract of the candidates in a comparison.

A candidate is a program of its own, in an environment of its own, that

1. fills its store with live sessions, and a few that must be refused,
2. proves that it refuses them, and
3. validates on request, or signs in, for a given time at a given concurrency, and reports its figures.

It reads orders as lines of JSON on its standard input, and answers each with one line on its standard output:

    {"do": "fill", "sessions": 1000000}          {"filled": 1000000, "versions": {"asyncpg": "0.31.0"}}
    {"do": "run", "call": "validate",            {"operations": ..., "seconds": ..., "p50_us": ..., "p99_us": ...,
     "concurrency": 64, "seconds": 2}             "cpu_us": ...}
    {"do": "quit"}

`cpu_us` is the processor time of the candidate's process for each operation, without that of a database server. An
error is one line too: {"error": "..."}. Text for people goes to standard error.

This module needs nothing but Python, so that it can be imported in every environment (PYTHONPATH is `bench`).
Candidates in other languages speak the same lines (`peers/shared.mjs`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import threading
import time
from abc import ABC, abstractmethod
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

SAMPLE = 50_000
"""The number of live sessions whose credentials a candidate keeps, chosen evenly over all sessions."""


class Candidate(ABC):
    """A candidate that validates in an event loop."""

    packages: Sequence[str] = ()
    """The distributions whose versions are reported with the figures."""

    @abstractmethod
    async def fill(self, sessions: int) -> tuple[Sequence[str], dict[str, str]]:
        """Fill the store with this number of live sessions, in the quickest way, and be ready to validate.

        Returns the credentials of a sample (`sample_of`), and the credentials that must be refused, by the reason: at
        least "expired", a session past its deadline with the right credential, and "wrong secret", a live session
        with another credential.
        """

    @abstractmethod
    async def validate(self, credential: str) -> bool:
        """Do the work of an authenticated request: read, check credential and deadlines. True if it is valid."""

    async def sign_in(self) -> str:
        """Create one more session, durably, and return its credential. Not every candidate is asked to."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the connections."""
        return


class ThreadedCandidate(ABC):
    """A candidate that blocks: each caller is a thread of its own. See `Candidate`."""

    packages: Sequence[str] = ()

    @abstractmethod
    def fill(self, sessions: int) -> tuple[Sequence[str], dict[str, str]]:
        """See `Candidate.fill`."""

    @abstractmethod
    def validate(self, credential: str) -> bool:
        """See `Candidate.validate`."""

    def leave_thread(self) -> None:
        """Release the resources of a thread that ends, for example its database connection."""
        return

    def close(self) -> None:
        """Close the connections."""
        return


def sample_of(count: int) -> Iterable[int]:
    """The numbers of the sessions that are validated, out of `count`: the same choice for every candidate."""
    chooser = random.Random(20261124)  # noqa: S311 (an even choice, not a secret one)
    return sorted(chooser.sample(range(count), min(SAMPLE, count)))


def serve(candidate: Candidate | ThreadedCandidate) -> None:
    """Follow the orders on standard input until "quit" or its end."""
    # The output of libraries must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if isinstance(candidate, Candidate):
        with contextlib.suppress(ImportError):
            import uvloop  # noqa: PLC0415 (not in every environment)

            uvloop.install()
        asyncio.run(_serve(candidate, answers))
    else:
        _serve_threaded(candidate, answers)


async def _serve(candidate: Candidate, answers: Any) -> None:  # noqa: ANN401
    loop = asyncio.get_running_loop()
    sample: Sequence[str] = ()
    while True:
        order = json.loads(await loop.run_in_executor(None, sys.stdin.readline) or '{"do": "quit"}')
        try:
            if order["do"] == "quit":
                await candidate.close()
                return
            if order["do"] == "fill":
                sample, refused = await candidate.fill(order["sessions"])
                for credential in sample[:100]:
                    _expect(await candidate.validate(credential), "a live session is refused")
                for reason, credential in _checked(refused).items():
                    _expect(not await candidate.validate(credential), f"accepted in spite of: {reason}")
                answer = _filled(candidate, order["sessions"])
            else:
                call = candidate.validate
                if order["call"] == "sign_in":
                    _expect(await candidate.validate(await candidate.sign_in()), "who has signed in is refused")
                    call = _signing_in(candidate)
                answer = await _run(call, sample, order["concurrency"], order["seconds"])
        except Exception as error:  # noqa: BLE001 (the driver says which candidate it was)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


def _signing_in(candidate: Candidate) -> Callable[[str], Awaitable[bool]]:
    async def sign_in(_: str) -> bool:
        return bool(await candidate.sign_in())

    return sign_in


async def _run(
    validate: Callable[[str], Awaitable[bool]], sample: Sequence[str], concurrency: int, seconds: float
) -> dict[str, float]:
    latencies: list[float] = []
    clock = time.perf_counter
    # Before the clock starts: 64 shuffles of a full sample take half a second, and a pool connects when first used.
    orders = [_shuffled(sample, number) for number in range(concurrency)]
    await asyncio.gather(*(validate(credentials[0]) for credentials in orders))
    end = clock() + seconds

    async def caller(credentials: Sequence[str]) -> None:
        position, size, took = 0, len(credentials), latencies.append
        now = clock()
        while now < end:
            if not await validate(credentials[position % size]):
                raise AssertionError("a live session is refused")
            position += 1
            before, now = now, clock()
            took(now - before)

    cpu, start = time.process_time(), clock()
    await asyncio.gather(*map(caller, orders))
    return _figures(latencies, clock() - start, time.process_time() - cpu)


def _serve_threaded(candidate: ThreadedCandidate, answers: Any) -> None:  # noqa: ANN401
    sample: Sequence[str] = ()
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["do"] == "quit":
                break
            if order["do"] == "fill":
                sample, refused = candidate.fill(order["sessions"])
                for credential in sample[:100]:
                    _expect(candidate.validate(credential), "a live session is refused")
                for reason, credential in _checked(refused).items():
                    _expect(not candidate.validate(credential), f"accepted in spite of: {reason}")
                answer = _filled(candidate, order["sessions"])
            else:
                answer = _run_threaded(candidate, sample, order["concurrency"], order["seconds"])
        except Exception as error:  # noqa: BLE001 (the driver says which candidate it was)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)
    candidate.close()


def _run_threaded(
    candidate: ThreadedCandidate, sample: Sequence[str], concurrency: int, seconds: float
) -> dict[str, float]:
    latencies: list[float] = []
    failures: list[Exception] = []
    ready = threading.Barrier(concurrency + 1)
    clock = time.perf_counter
    end = float("inf")  # no caller ends before all have begun

    def caller(number: int) -> None:
        own: list[float] = []
        credentials = _shuffled(sample, number)
        try:
            _expect(candidate.validate(credentials[0]), "a live session is refused")  # connects
            ready.wait()
            now = clock()
            while now < end:
                if not candidate.validate(credentials[len(own) % len(credentials)]):
                    raise AssertionError("a live session is refused")
                before, now = now, clock()
                own.append(now - before)
        except Exception as error:  # noqa: BLE001 (raised again where the threads are waited for)
            failures.append(error)
            ready.abort()
        finally:
            candidate.leave_thread()
        latencies.extend(own)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(concurrency)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait()
    cpu, start = time.process_time(), clock()
    end = start + seconds
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return _figures(latencies, clock() - start, time.process_time() - cpu)


def _figures(latencies: list[float], seconds: float, cpu_seconds: float) -> dict[str, float]:
    latencies.sort()
    count = len(latencies)
    return {
        "operations": count,
        "seconds": seconds,
        "p50_us": latencies[count // 2] * 1e6,
        "p99_us": latencies[min(count - 1, count * 99 // 100)] * 1e6,
        "cpu_us": cpu_seconds / count * 1e6,
    }


def _filled(candidate: Candidate | ThreadedCandidate, sessions: int) -> dict[str, object]:
    return {"filled": sessions, "versions": {name: version(name) for name in candidate.packages}}


def _shuffled(sample: Sequence[str], number: int) -> Sequence[str]:
    size = len(sample)
    start = number * 7919 % size
    ordered = list(sample[start:]) + list(sample[:start])
    random.Random(number).shuffle(ordered)  # noqa: S311
    return ordered


def _checked(refused: dict[str, str]) -> dict[str, str]:
    missing = {"expired", "wrong secret"} - refused.keys()
    _expect(not missing, f"the candidate does not show that it refuses: {', '.join(sorted(missing))}")
    return refused


def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
