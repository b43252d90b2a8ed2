"""Sentinels replace a primary under load: `make chaos`, or `python -m chaos.redis_sentinel_failover --help`.

The program starts a primary with replicas, and three sentinels, on loopback. Callers of an application sign in,
validate, change scopes and revoke, until the primary is removed and a replica has taken over; in other ways the
sentinels are told to replace a primary that is well. Then every session is validated. Each revocation waits for all
replicas that the sentinels might choose, the default; sign-ins do not. The program also runs cases in which calls may
be undone: nothing waits, or only for one of two replicas. At last it asks a primary that stood still while it was
replaced, when it goes on.

Sentinels choose a replica by its priority first, and by the data that it has second. While they promote one, another
still follows the old primary, and confirms what the new one will not have.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop
from redis.exceptions import ConnectionError  # noqa: A004 (redis-py's name)

from chaos import failover, report
from chaos.checker import Promise
from coatcheck.errors import StoreUnavailable
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.redis.store import RedisStore
from coatcheck.testing.samples import ADA, insert, new_session, register
from tests.servers import signals
from tests.servers.redis_sentinel import Watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coatcheck.identifiers import SessionId
    from tests.servers.redis import RedisServer

HELD_SECONDS = 1.5  # how long a replica is out of step before the primary dies
DOWN_AFTER_MS = 3000  # after this time without an answer the sentinels replace the primary

KILLED = "killed"
BY_HAND = "replaced by hand"
LAGGING = "it lags, killed"
TWO_BY_HAND = "two replicas, replaced by hand"
TWO_LAGGING = "two replicas, the preferred one lags, killed"
WAITING = (KILLED, BY_HAND, LAGGING, TWO_BY_HAND, TWO_LAGGING)
CONTROL = "nothing waits, it lags, killed"
ONE_OF_TWO = "waits for one of two, replaced by hand"
CONTRASTS = (CONTROL, ONE_OF_TWO)

_WITH_TWO = frozenset((TWO_BY_HAND, TWO_LAGGING, ONE_OF_TWO))
_REPLACED_BY_HAND = frozenset((BY_HAND, TWO_BY_HAND, ONE_OF_TWO))
_OPTIONS = {CONTROL: "&replicas=0", ONE_OF_TWO: "&replicas=1"}


class Service:
    """A primary whose place a replica takes in one way."""

    def __init__(self, way: str) -> None:
        """Start servers and sentinels."""
        self._way = way
        self._watched = Watched(
            replicas=1 + (way in _WITH_TWO),
            down_after_ms=DOWN_AFTER_MS,
            requirepass=failover.new_password(),
            sentinel_settings={"requirepass": failover.new_password()},
        )
        self.primary: RedisServer = self._watched.primary
        self.replica: RedisServer = self._watched.replica
        if way == TWO_LAGGING:
            self.replica.ask("CONFIG SET", "replica-priority", 1)
            self._watched.wait_until_priority_is_known(self.replica, 1)

    @property
    def store(self) -> str:
        """The URL of the sentinels. It has options: their password."""
        return f"{self._watched.url}{_OPTIONS.get(self._way, '')}"

    @property
    def store_that_does_not_wait(self) -> str:
        """The same for revocations that wait for no replica."""
        return f"{self._watched.url}&replicas=0"

    def concerns(self, session: str) -> bool:  # noqa: ARG002 (one server has all of them)
        """See `failover.Servers`."""
        return True

    def break_down(self) -> None:
        """See `failover.Servers`. A primary that is replaced by hand is gone when the sentinels say so."""
        if self._way in _REPLACED_BY_HAND:
            self._watched.fail_over()
            return
        if self._way != KILLED:
            self.hold_back_the_replica()
            time.sleep(HELD_SECONDS)
        self.primary.kill()

    def hold_back_the_replica(self) -> None:
        """Stop the replication to it."""
        self._watched.cut_off(self.replica)

    def fail_over(self) -> None:
        """See `failover.Servers`. The sentinels elect one of them, and it promotes a replica, without our help."""
        self.replica.resume()
        self._watched.wait_for_failover(self.primary)

    def stop_and_replace(self) -> None:
        """Pause the primary, until another has taken its place."""
        self.primary.pause()
        self._watched.wait_for_failover(self.primary)

    def primary_is_one_still(self) -> bool:
        """Whether the first primary takes itself for one; the sentinels change that after some seconds."""
        with suppress(ConnectionError):  # which they break when they do
            return bool(self.primary.ask("ROLE")[0] == "master")
        return True

    def close(self) -> None:
        """Stop all of them."""
        self._watched.remove()


def main(
    rounds: Annotated[int, typer.Option(min=1, help="failovers with revocations that wait, in each of 5 ways")] = 10,
    contrasts: Annotated[int, typer.Option(min=0, help="rounds of each way that may lose revocations")] = 2,
    seconds: Annotated[float, typer.Option(min=0.2, help="of load before, and again after")] = 3.0,
    callers: Annotated[int, typer.Option(min=1, help="at a time")] = 16,
    results: Annotated[Path, typer.Option(help="where everything that was measured goes, as JSON")] = Path(
        "chaos/results/redis_sentinel_failover.json"
    ),
) -> None:
    """Let sentinels replace a primary, and count the acknowledged calls that survive."""
    logging.getLogger("coatcheck").setLevel(logging.CRITICAL)  # outages are expected here
    plan = [way for way in WAITING for _ in range(rounds)] + [way for way in CONTRASTS for _ in range(contrasts)]
    replaced: dict[str, int] = {}
    with report.progress(len(plan) + bool(contrasts)) as advance:
        runs = failover.run_all(
            plan,
            lambda way: closing(Service(way)),
            callers=lambda _: callers,
            seconds=seconds,
            advance=advance,
        )
        if contrasts:
            advance("old primary goes on")
            with closing(Service(KILLED)) as service:
                replaced = uvloop.run(_replaced(service))

    report.show(f"Failovers by Redis Sentinel, {callers} callers", runs)
    waiting = [one for way in WAITING for one in runs[way]]
    acknowledged = sum(one.acknowledged for one in waiting)
    undone = acknowledged - sum(one.survived for one in waiting)
    report.console.print(f"Revocations that wait for all replicas: {report.bound(undone, acknowledged)}.")
    if replaced:
        report.console.print(
            "Old primary that stood still and goes on as one: of {revoked} sessions revoked on the new one {accepted} "
            "are still accepted in validations that waited for it, and {later} in later ones; {still waiting} "
            "validations waited for it until then.".format(**replaced)
        )
    report.write(
        results,
        {
            "callers": callers,
            "seconds": seconds,
            "down_after_ms": DOWN_AFTER_MS,
            "runs": {way: [one.as_json() for one in rounds_] for way, rounds_ in runs.items()},
            "waiting": {"acknowledged": acknowledged, "undone": undone},
            "old primary goes on": replaced,
        },
    )
    # A call that was seen but not acknowledged may be undone, and a sign-in, which does not wait, may be lost.
    is_broken = undone or report.broken(waiting, Promise.REVOKED_STAYS_REVOKED, Promise.SCOPES_ARE_LIVE)
    if is_broken or replaced.get("accepted") or replaced.get("later"):
        report.console.print("[bold red]A promise was broken where it should hold.[/]")
        raise typer.Exit(1)


async def _replaced(service: Service, sessions: int = 20) -> dict[str, int]:
    """Send calls to a paused primary, have it replaced, and let it go on: for some seconds it is a primary still."""
    async with RedisStore(service.store, timeout_seconds=20) as old:
        await register(old, ADA)
        made = [(await insert(old, new_session())).id for _ in range(sessions)]
        await old.set_session_scopes(made[0], frozenset())  # the replica has this write, and all before it
        await asyncio.gather(*map(old.read_session, made))  # both connections are open
        service.primary.pause()
        asked = [asyncio.ensure_future(old.read_session(session)) for session in made]
        await asyncio.to_thread(service.stop_and_replace)
        async with RedisStore(service.store_that_does_not_wait) as new:
            for session in made:
                await new.delete_sessions(SessionFilter(session_id=session))
        late = [one for one in asked if not one.done()]  # the new one has answered the others, before it revoked
        await asyncio.to_thread(service.primary.resume)
        answers = await asyncio.gather(*late, return_exceptions=True)
        accepted = sum(one is not None and not isinstance(one, BaseException) for one in answers)
        await asyncio.gather(*asked, return_exceptions=True)
        later = 0
        while service.primary_is_one_still():
            later = max(later, await _accepted(old, made))
    return {"revoked": sessions, "still waiting": len(late), "accepted": accepted, "later": later}


async def _accepted(store: RedisStore, sessions: Sequence[SessionId]) -> int:
    answers = await asyncio.gather(*map(store.read_session, sessions), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, StoreUnavailable):
            raise answer
    return sum(one is not None and not isinstance(one, BaseException) for one in answers)


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
