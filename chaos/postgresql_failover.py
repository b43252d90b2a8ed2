"""PostgreSQL fails over under load: `make chaos`, or `python -m chaos.postgresql_failover --help`.

The program starts a primary and a standby on loopback. Callers of an application sign in, validate, change scopes and
revoke, until the primary is removed and the standby promoted; the old primary stays off (it is fenced). Then every
session is validated. With a synchronous standby no acknowledged call may be undone. The program also runs cases in
which calls are expected to be undone, to prove that it would notice: an asynchronous standby, waits that an operator
cancels, with our retries as they are and as they would be if they did not wait, and an old primary that is not fenced.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from unittest.mock import patch

import asyncpg
import typer
import uvloop

from chaos import failover, report
from chaos.checker import Promise
from coatcheck import StoreUnavailable
from coatcheck.identifiers import UserId
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.testing.samples import insert, new_session, register
from tests.servers import signals
from tests.servers.postgres import IMMEDIATE, STANDBY, PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coatcheck.identifiers import SessionId

HELD_SECONDS = 1.5  # how long the standby is out of step before the primary dies
NAIVE = "coatcheck.stores.sql.postgresql.store.WAIT_FOR_WHAT_WAS_SEEN"

KILLED = "synchronous, killed"
STOPPED = "synchronous, stopped"
STALLED = "synchronous, stalls first"
SYNCHRONOUS = (KILLED, STOPPED, STALLED)
CANCELLED = "synchronous, waits cancelled"
CONTROL = "the same, naive retries"
ASYNCHRONOUS = "asynchronous, lags"


class Pair:
    """A primary, its standby, and one way in which the primary goes down."""

    def __init__(self, way: str) -> None:
        """Start both servers."""
        settings = {} if way == ASYNCHRONOUS else {"synchronous_standby_names": STANDBY}
        self.primary = PostgresServer(durable=True, settings=settings, password=failover.new_password())
        self.standby = PostgresServer(durable=True, primary=self.primary)
        self._way = way

    @property
    def store(self) -> str:
        """A URL with both hosts."""
        first = f"127.0.0.1:{self.primary.port}"
        return self.primary.dsn().replace(first, f"{first},127.0.0.1:{self.standby.port}")

    def concerns(self, session: str) -> bool:  # noqa: ARG002 (the primary has them all)
        """See `failover.Servers`."""
        return True

    def break_down(self) -> None:
        """See `failover.Servers`."""
        if self._way == STOPPED:
            self.primary.stop(IMMEDIATE)
            return
        if self._way == STALLED:
            self.standby.pause()
            time.sleep(HELD_SECONDS)
        elif self._way in {CANCELLED, CONTROL}:
            asyncio.run(self._hold_the_stream(cancelling=True))
        elif self._way == ASYNCHRONOUS:
            asyncio.run(self._hold_the_stream(cancelling=False))
        self.primary.kill()

    def fail_over(self) -> None:
        """See `failover.Servers`."""
        self.standby.resume()
        self.standby.promote()

    def remove(self) -> None:
        """Stop both servers."""
        self.standby.remove()
        self.primary.remove()

    async def _hold_the_stream(self, *, cancelling: bool) -> None:
        """Stop the standby's replication for a while, in which an operator may cancel the COMMITs that wait."""
        standby = await asyncpg.connect(self.standby.dsn())
        await standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        await standby.execute("SELECT pg_reload_conf()")
        await standby.close()
        primary = await asyncpg.connect(self.primary.dsn())
        end = time.monotonic() + HELD_SECONDS
        while time.monotonic() < end:
            if cancelling:
                await primary.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                )
            await asyncio.sleep(0.05)
        primary.terminate()


def main(
    rounds: Annotated[int, typer.Option(min=1, help="failovers of a synchronous pair, in each of three ways")] = 8,
    contrasts: Annotated[
        int, typer.Option(min=0, help="rounds of each way in which calls are expected to be undone")
    ] = 2,
    seconds: Annotated[
        float, typer.Option(min=0.2, help="seconds of load before the failover, and again after it")
    ] = 3.0,
    callers: Annotated[int, typer.Option(min=1, help="at a time")] = 16,
    results: Annotated[Path, typer.Option(help="where everything that was measured goes, as JSON")] = Path(
        "chaos/results/postgresql_failover.json"
    ),
) -> None:
    """Fail over PostgreSQL, and count the acknowledged calls that survive."""
    logging.getLogger("coatcheck").setLevel(logging.CRITICAL)  # outages are expected here
    plan = [way for way in SYNCHRONOUS for _ in range(rounds)]
    plan += [way for way in (CANCELLED, CONTROL, ASYNCHRONOUS) for _ in range(contrasts)]
    unfenced: dict[str, Any] = {}
    with report.progress(len(plan) + bool(contrasts)) as advance:
        runs = failover.run_all(
            plan,
            _pair,
            # Few callers for the run that looks at retries: among many callers, one alone in its transaction is rare.
            callers=lambda way: min(callers, 4) if way in {CANCELLED, CONTROL} else callers,
            seconds=seconds,
            advance=advance,
        )
        if contrasts:
            advance("old primary not fenced")
            with _pair(KILLED) as pair:
                unfenced = uvloop.run(_unfenced(pair))

    report.show(f"PostgreSQL failovers, {callers} callers", runs)
    synchronous = [one for way in SYNCHRONOUS for one in runs[way]]
    acknowledged = sum(one.acknowledged for one in synchronous)
    undone = acknowledged - sum(one.survived for one in synchronous)
    report.console.print(f"Synchronous standby, old primary fenced: {report.bound(undone, acknowledged)}.")
    if unfenced:
        report.console.print(
            "Old primary not fenced: of {revoked} sessions revoked on the new one it still accepts {accepted}; of "
            "{tried} revocations tried on it, it confirmed {confirmed}; its guarantee: {level}.".format(**unfenced)
        )
    report.write(
        results,
        {
            "callers": callers,
            "seconds": seconds,
            "runs": {way: [one.as_json() for one in rounds_] for way, rounds_ in runs.items()},
            "synchronous": {"acknowledged": acknowledged, "undone": undone},
            "old primary not fenced": unfenced,
        },
    )
    if undone or report.broken(synchronous, *Promise):
        report.console.print("[bold red]A promise was broken where it should hold.[/]")
        raise typer.Exit(1)


@contextmanager
def _pair(way: str) -> Iterator[Pair]:
    pair = Pair(way)
    try:
        if way == CONTROL:
            with patch(NAIVE, "SELECT 1"):
                yield pair
        else:
            yield pair
    finally:
        pair.remove()


async def _unfenced(pair: Pair, sessions: int = 20) -> dict[str, Any]:
    """Promote the standby while the old primary still runs and has connections, and ask both."""
    user = UserId("ada")
    async with PostgresStore(pair.primary.dsn()) as old:
        await register(old, user)
        made = [(await insert(old, new_session(user))).id for _ in range(sessions)]
        await asyncio.to_thread(pair.standby.promote)
        async with PostgresStore(pair.standby.dsn()) as new:
            for session in made:
                await new.delete_sessions(SessionFilter(session_id=session))
            accepted = [await old.read_session(session) is not None for session in made]
        confirmed = sum(await asyncio.gather(*(_confirms(old, session) for session in made[:3])))
        level = (await old.guarantee()).level.name
    return {"revoked": sessions, "accepted": sum(accepted), "tried": 3, "confirmed": confirmed, "level": level}


async def _confirms(store: PostgresStore, session: SessionId) -> bool:
    try:
        await store.delete_sessions(SessionFilter(session_id=session))
    except StoreUnavailable:
        return False
    return True


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
