"""One failover under load, on any engine, and a count of the acknowledged calls that survive it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import uvloop

from chaos.checker import violations
from chaos.history import Kind, Outcome
from chaos.workload import Application

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from chaos.history import Operation
    from coatcheck.stores.store import Store

OUTAGE_SECONDS = 0.5  # between the end of the old primary and the promotion of the new one


class Servers(Protocol):
    """Servers of one engine, one of which takes over from the other. The calls may block: they are made in a thread."""

    @property
    def store(self) -> str | Store:
        """The URL or the store for the application."""
        ...

    def concerns(self, session: str) -> bool:
        """Whether a session is on the server that goes down."""
        ...

    def break_down(self) -> None:
        """Disturb the server that is written to, in the way of this run, and then remove it for good."""
        ...

    def fail_over(self) -> None:
        """Let another server take its place."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one round. A revocation counts once for each session, however often it was tried."""

    operations: int
    acknowledged: int
    """Revocations that were acknowledged before the server was gone; later ones prove nothing."""
    survived: int
    """Of these: the session is refused in the end."""
    indeterminate: int
    """Revocations that had an unknown outcome at least once."""
    unconfirmed: int
    """Of these: no retry confirmed them before the caller gave up."""
    unconfirmed_ended: int
    """Of these: the session is refused in the end."""
    unavailable_seconds: float
    """The time between the last write that succeeded before the server was gone and the first after it."""
    broken: dict[str, int]
    """How often each promise was broken (`checker.Promise`)."""

    def as_json(self) -> dict[str, Any]:
        """For the results."""
        return asdict(self)


def new_password() -> str:
    """A password for servers of this run: no other program that has taken a port of theirs is mistaken for them."""
    return secrets.token_hex(16)


def run_all(
    plan: Sequence[str],
    make: Callable[[str], AbstractContextManager[Servers]],
    *,
    callers: Callable[[str], int],
    seconds: float,
    advance: Callable[[str], None],
) -> dict[str, list[Figures]]:
    """Run one round for each way in `plan`, on servers of its own; `advance` is called with the name of each."""
    runs: dict[str, list[Figures]] = {way: [] for way in plan}
    for seed, way in enumerate(plan):
        advance(way)
        with make(way) as servers:
            runs[way].append(uvloop.run(run(servers, callers=callers(way), seconds=seconds, seed=seed)))
    return runs


async def run(servers: Servers, *, callers: int, seconds: float, seed: int) -> Figures:
    """Let `callers` work for so many seconds, fail over, and work as long again; then validate every session."""
    async with Application(servers.store, seed=seed) as application:
        application.start(callers)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(servers.break_down)
        gone = time.monotonic()
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(servers.fail_over)
        await application.until_it_writes()
        await asyncio.sleep(seconds)
        await application.stop()
        ended = time.monotonic()
        await application.validate_all()
    concerned = [one for one in application.history.operations if servers.concerns(one.session)]
    return judge(concerned, gone=gone, looked_from=ended)


def judge(operations: Sequence[Operation], *, gone: float, looked_from: float) -> Figures:
    """The figures of a history, from the times when the server was gone and when the last validations began."""
    revocations = [one for one in operations if one.kind is Kind.REVOKE]
    confirmed = {one.session for one in revocations if one.outcome is Outcome.OK}
    acknowledged = {one.session for one in revocations if one.outcome is Outcome.OK and one.returned <= gone}
    indeterminate = {one.session for one in revocations if one.outcome is Outcome.INFO}
    last_look = (one for one in operations if one.kind is Kind.VALIDATE and one.invoked >= looked_from)
    refused = {one.session for one in last_look if one.outcome is Outcome.OK and one.version is None}
    writes = [one for one in operations if one.outcome is Outcome.OK and one.kind is not Kind.VALIDATE]
    return Figures(
        operations=len(operations),
        acknowledged=len(acknowledged),
        survived=len(acknowledged & refused),
        indeterminate=len(indeterminate),
        unconfirmed=len(indeterminate - confirmed),
        unconfirmed_ended=len((indeterminate - confirmed) & refused),
        unavailable_seconds=min((one.returned for one in writes if one.invoked > gone), default=looked_from)
        - max((one.returned for one in writes if one.returned <= gone), default=gone),
        broken=dict(Counter(str(one.promise) for one in violations(operations))),
    )
