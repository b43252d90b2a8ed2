"""A Redis Cluster fails over under load: `make chaos`, or `python -m chaos.redis_cluster_failover --help`.

The program starts three primaries, each with a replica, on loopback. Callers of an application sign in, validate,
change scopes and revoke, until one primary is removed and its replica has taken over. Then every session of that
primary is validated. Each revocation waits for the replica (`?replicas=1`, the default on a Cluster), sign-ins do not.
The program also runs cases in which calls are expected to be undone: the same without waiting, and an old primary that
goes on where it stopped.

Redis does not choose a replica by the data that it has. With one replica for each primary there is no choice; with
more, a replica that a revocation has not reached may win, although the revocation has waited for another. That is why
no figure here makes it a promise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from chaos import failover, report
from chaos.checker import Promise
from coatcheck.identifiers import SHARDS, SessionId, UserId, shard_of_session, shard_of_user
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.redis.store import RedisStore
from coatcheck.testing.samples import insert, new_session, register
from tests.servers import signals
from tests.servers.redis_cluster import RedisCluster

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.servers.redis_cluster import ClusterNode

HELD_SECONDS = 1.5  # how long the replica is out of step before the primary dies
NODE_TIMEOUT_MS = 2000  # after this time the others hold an election

KILLED = "waits for it, killed"
LAGGING = "waits for it, it lags"
WAITING = (KILLED, LAGGING)
CONTROL = "nothing waits, it lags"


class Cluster:
    """A Cluster of six members, one of which goes down in one way."""

    def __init__(self, way: str) -> None:
        """Start the members."""
        self._way = way
        self._cluster = RedisCluster(node_timeout=NODE_TIMEOUT_MS, requirepass=failover.new_password())
        self.primary: ClusterNode = self._cluster.primary_of(SHARDS[0])
        self.replica: ClusterNode = self._cluster.replica_of(self.primary)
        self._shards = {shard for shard in SHARDS if self._cluster.primary_of(shard) is self.primary}

    @property
    def store(self) -> str:
        """The URL of the Cluster."""
        return f"{self._cluster.url}?replicas={int(self._way != CONTROL)}"

    def concerns(self, session: str) -> bool:
        """See `failover.Servers`: two thirds of the sessions are on primaries that stay."""
        return shard_of_session(SessionId(session)) in self._shards

    def user(self) -> UserId:
        """A user whose sessions are on the primary that goes down."""
        return next(user for number in count() if shard_of_user(user := UserId(f"user {number}")) in self._shards)

    def break_down(self) -> None:
        """See `failover.Servers`."""
        if self._way != KILLED:
            self.hold_back_the_replica()
            time.sleep(HELD_SECONDS)
        self.primary.kill()

    def hold_back_the_replica(self) -> None:
        """Stop the replication to it."""
        self._cluster.cut_off(self.replica)

    def fail_over(self) -> None:
        """See `failover.Servers`. The other members elect a replica that is up to date, without our help."""
        if self._way == KILLED:
            self._cluster.wait_for_promotion(self.replica)
        else:
            self.replica.resume()
            self._cluster.promote(self.replica)

    def stop_and_replace(self) -> None:
        """Pause the primary, until another has been elected."""
        self.primary.pause()
        self._cluster.wait_for_promotion(self.replica)

    def close(self) -> None:
        """Stop all members."""
        self._cluster.remove()


def main(
    rounds: Annotated[int, typer.Option(min=1, help="failovers with revocations that wait, in each of two ways")] = 10,
    contrasts: Annotated[int, typer.Option(min=0, help="rounds in which nothing waits")] = 2,
    seconds: Annotated[float, typer.Option(min=0.2, help="of load before, and again after")] = 3.0,
    callers: Annotated[int, typer.Option(min=1, help="at a time")] = 16,
    results: Annotated[Path, typer.Option(help="where everything that was measured goes, as JSON")] = Path(
        "chaos/results/redis_cluster_failover.json"
    ),
) -> None:
    """Fail over a Redis Cluster, and count the acknowledged calls that survive."""
    logging.getLogger("coatcheck").setLevel(logging.CRITICAL)  # outages are expected here
    plan = [way for way in WAITING for _ in range(rounds)] + [CONTROL] * contrasts
    replaced: dict[str, int] = {}
    with report.progress(len(plan) + bool(contrasts)) as advance:
        runs = failover.run_all(
            plan,
            lambda way: closing(Cluster(way)),
            callers=lambda _: callers,
            seconds=seconds,
            advance=advance,
        )
        if contrasts:
            advance("old primary goes on")
            with closing(Cluster(CONTROL)) as cluster:
                replaced = uvloop.run(_replaced(cluster))

    report.show(f"Redis Cluster failovers, {callers} callers", runs)
    waiting = [one for way in WAITING for one in runs[way]]
    acknowledged = sum(one.acknowledged for one in waiting)
    undone = acknowledged - sum(one.survived for one in waiting)
    report.console.print(f"Revocations that wait for the replica: {report.bound(undone, acknowledged)}.")
    if replaced:
        report.console.print(
            "Old primary that stopped and goes on: of {revoked} sessions revoked on the new one it still accepts "
            "{accepted} that were asked for while it stood still, and {later} that are asked for afterwards.".format(
                **replaced
            )
        )
    report.write(
        results,
        {
            "callers": callers,
            "seconds": seconds,
            "node_timeout_ms": NODE_TIMEOUT_MS,
            "runs": {way: [one.as_json() for one in rounds_] for way, rounds_ in runs.items()},
            "waiting": {"acknowledged": acknowledged, "undone": undone},
            "old primary goes on": replaced,
        },
    )
    # A call that was seen but not acknowledged may be undone, and a sign-in, which does not wait, may be lost.
    if undone or report.broken(waiting, Promise.REVOKED_STAYS_REVOKED, Promise.SCOPES_ARE_LIVE):
        report.console.print("[bold red]A promise was broken where it should hold.[/]")
        raise typer.Exit(1)


async def _replaced(cluster: Cluster, sessions: int = 20) -> dict[str, int]:
    """Send calls to a paused primary, which does not know that another was elected; then let it go on."""
    user = cluster.user()
    async with RedisStore(cluster.store) as old:
        await register(old, user)
        made = [(await insert(old, new_session(user))).id for _ in range(sessions)]
        await asyncio.gather(*map(old.read_session, made))  # both connections are open
        await asyncio.to_thread(cluster.stop_and_replace)
        async with RedisStore(cluster.store) as new:
            for session in made:
                await new.delete_sessions(SessionFilter(session_id=session))
            asked = asyncio.gather(*map(old.read_session, made))
            await asyncio.sleep(0.1)  # the calls are on their way
            await asyncio.to_thread(cluster.primary.resume)
            accepted = sum(one is not None for one in await asked)
            later = left = await _accepted(old, made)
            async with asyncio.timeout(30):  # it hears of the election as soon as another member speaks to it
                while left:
                    left = await _accepted(old, made)
    return {"revoked": sessions, "accepted": accepted, "later": later}


async def _accepted(store: RedisStore, sessions: Sequence[SessionId]) -> int:
    return sum(one is not None for one in await asyncio.gather(*map(store.read_session, sessions)))


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
