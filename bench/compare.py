"""Candidates side by side, in alternation, in one run: `make bench-peers`, or `python bench/compare.py --help`.

Each candidate is a process that fills a store of its own and waits. A round runs one candidate after the other, and the
figures are medians over the rounds. PostgreSQL and Redis are started for the run, on loopback, and removed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import asyncpg
import typer
from rich.progress import track

import markdown
from stage import console, show
from tests.servers import signals
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PostgresServer
from tests.servers.programs import wait_for_end
from tests.servers.redis import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).parent
OURS = HERE / "ours" / "candidate.py"
PEERS = HERE / "peers"
LIMITS = HERE / "limits"
ENVIRONMENTS = HERE.parent / ".venv-peers"
STORES = {
    "coatcheck": ("postgresql", "sqlite", "redis"),
    "coatcheck_before": ("postgresql", "sqlite", "redis"),
    "coatcheck_pgbouncer": ("postgresql",),
    "pgbench": ("postgresql",),
    "coatcheck_one_user": ("postgresql", "sqlite"),
    "insert": ("postgresql", "sqlite"),
    "fetchrow": ("postgresql",),
    "prepared": ("postgresql",),
    "core": ("postgresql",),
    "sqlite": ("sqlite",),
    "fastapi_users": ("postgresql", "sqlite"),
    "django_sessions": ("postgresql", "sqlite"),
    "django_rest_knox": ("postgresql", "sqlite"),
    "flask_session": ("postgresql", "sqlite"),
    "express_session": ("postgresql",),
    "better_auth": ("postgresql",),
    "redis_benchmark": ("redis",),
    "starsessions": ("redis",),
    "litestar_sessions": ("redis",),
}
SIGNING_IN = {"coatcheck", "coatcheck_before", "coatcheck_pgbouncer", "insert"}
NOT_OF_ALL = {"coatcheck_before", "coatcheck_one_user", "coatcheck_pgbouncer", "insert"}
"""Asked for by name only."""
BEFORE = "coatcheck_before"
"""Coatcheck itself, at an earlier revision of this repository."""
POOLED = "coatcheck_pgbouncer"
"""Coatcheck itself, through PgBouncer in transaction mode."""
ONE_CALLER = {"prepared"}  # one connection, no waiting for it


class CandidateError(Exception):
    """A candidate has reported an error, or has not answered."""


@dataclass
class Running:
    """A candidate's process, and what it has measured so far, by concurrency (text, as JSON has it)."""

    name: str
    store: str
    sessions: int
    process: subprocess.Popen[str]
    versions: dict[str, str] = field(default_factory=dict)
    runs: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The candidate and its store."""
        return f"{self.name}, {self.store}"

    def order(self, **what: object) -> dict[str, Any]:
        """Send an order to the candidate, and wait for its answer.

        Raises:
            CandidateError: the candidate failed.
        """
        _pipe(self.process.stdin).write(json.dumps(what) + "\n")
        _pipe(self.process.stdin).flush()
        line = _pipe(self.process.stdout).readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it has ended; see its output above"}
        if "error" in answer:
            raise CandidateError(f"{self.title}: {answer['error']}")
        return answer


class Servers:
    """The servers of a run, started when a candidate needs them."""

    def __init__(self, stack: ExitStack, postgres_settings: Mapping[str, str]) -> None:
        """Begin without servers. `stack` stops those that are started."""
        self._stack = stack
        self._settings = {"max_connections": "1000", **postgres_settings}
        self._postgres: PostgresServer | None = None
        self._databases = 0

    def environment(self, candidate: str, store: str) -> dict[str, str]:
        """The environment variable that gives a candidate a store of its own."""
        if store == "sqlite":
            folder = tempfile.mkdtemp(prefix="coatcheck-bench-")
            self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
            return {"BENCH_SQLITE": folder}
        if store == "redis":
            return {"BENCH_REDIS": self._redis()}
        if self._postgres is None:
            self._postgres = PostgresServer(durable=True, settings=self._settings)
            self._stack.callback(self._postgres.remove)
        self._databases += 1
        name = f"bench_{self._databases}"
        asyncio.run(_create_database(self._postgres.dsn(), name))
        direct = self._postgres.dsn(name)
        if candidate == POOLED:
            pgbouncer = PgBouncer(direct)
            self._stack.callback(pgbouncer.remove)
            return {"BENCH_POSTGRES": pgbouncer.dsn(name) + f"?listen=127.0.0.1:{self._postgres.port}"}
        return {"BENCH_POSTGRES": direct}

    def _redis(self) -> str:
        server = RedisServer()
        self._stack.callback(server.remove)
        return server.url


def main(
    *,
    candidates: Annotated[str, typer.Option(help="names, with commas; `all` for every one")] = "all",
    stores: Annotated[str, typer.Option(help="postgresql, sqlite, redis, with commas")] = "postgresql,sqlite,redis",
    sessions: Annotated[
        str, typer.Option(help="how many are stored; with commas, each candidate is asked for each")
    ] = ("1000000"),
    call: Annotated[str, typer.Option(help="what is measured: validate or sign_in")] = "validate",
    concurrency: Annotated[str, typer.Option(help="callers at a time, with commas")] = "1,64",
    rounds: Annotated[int, typer.Option(help="how often each is measured")] = 5,
    seconds: Annotated[float, typer.Option(help="how long each time")] = 2.0,
    postgres: Annotated[
        list[str] | None, typer.Option(help="a setting of the server, as shared_buffers=4GB; may be repeated")
    ] = None,
    before: Annotated[
        str | None, typer.Option(help="a revision of git: Coatcheck as it was then is measured too (coatcheck_before)")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="write everything that was measured here, as JSON")] = None,
) -> None:
    """Measure validations, or sign-ins, of candidates side by side."""
    if call not in markdown.NAMES:
        raise typer.BadParameter(f"{call!r} is nothing that is measured; there are {', '.join(markdown.NAMES)}")
    levels = [int(level) for level in concurrency.split(",")]
    settings = _settings(postgres or [])
    names = _names(candidates, call)
    if (BEFORE in names) != (before is not None):
        raise typer.BadParameter(f"--before names the revision of the candidate {BEFORE}: give both or neither")
    chosen = [
        (name, store, int(size))
        for name in names
        for store in STORES[name]
        if store in stores.split(",")
        for size in sessions.split(",")
    ]
    with ExitStack() as stack:
        servers = Servers(stack, settings)
        running: list[Running] = []
        checkout = None if before is None else _checkout(before, stack)
        for name, store, size in track(chosen, "filling", console=console):
            running.append(_start(name, store, size, servers, stack, checkout))
            answer = running[-1].order(do="fill", sessions=size)
            running[-1].versions = answer["versions"]
        for number in track(range(rounds * len(levels)), "measuring", console=console):
            level = levels[number % len(levels)]
            for candidate in running:
                if level > 1 and candidate.name in ONE_CALLER:
                    continue
                run = candidate.order(do="run", call=call, concurrency=level, seconds=seconds)
                candidate.runs.setdefault(str(level), []).append(run)
    document = _document(running, call, rounds, seconds) | {"postgres": settings}
    for level in markdown.levels(document):
        show(f"{markdown.NAMES[call]}, {level} at a time", markdown.COLUMNS, markdown.rows(document, level))
    if results is not None:
        results.write_text(json.dumps(document, indent=1) + "\n")


def _names(candidates: str, call: str) -> Sequence[str]:
    if candidates == "all":
        return sorted(SIGNING_IN) if call == "sign_in" else [name for name in STORES if name not in NOT_OF_ALL]
    names = candidates.split(",")
    for name in names:
        if name not in STORES:
            raise typer.BadParameter(f"{name!r} is no candidate; there are {', '.join(STORES)}")
        if call == "sign_in" and name not in SIGNING_IN:
            raise typer.BadParameter(f"{name!r} is not measured for sign-ins; {', '.join(sorted(SIGNING_IN))} are")
    return names


def _settings(given: Sequence[str]) -> dict[str, str]:
    wrong = [one for one in given if "=" not in one]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is no setting; write name=value")
    return dict(one.split("=", 1) for one in given)


def _start(name: str, store: str, sessions: int, servers: Servers, stack: ExitStack, checkout: Path | None) -> Running:
    paths, command = [HERE, PEERS], _command(name)
    if name == BEFORE and checkout is not None:
        paths = [checkout / "src", checkout / "bench"]
        command = [sys.executable, str(checkout / "bench" / "ours" / "candidate.py"), "coatcheck"]
    environ = os.environ | servers.environment(name, store) | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)  # noqa: S603 (our own programs)
    stack.callback(wait_for_end, process)
    stack.callback(_pipe(process.stdin).close)  # which it takes for "quit"
    return Running(name, store, sessions, process)


def _checkout(revision: str, stack: ExitStack) -> Path:
    """The repository at an earlier revision, in a folder of its own that goes with `stack`."""
    folder = Path(tempfile.mkdtemp(prefix="coatcheck-before-")) / "checkout"
    git = ["git", "-C", str(HERE.parent), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), revision], check=True)  # noqa: S603
    stack.callback(subprocess.run, [*git, "remove", "--force", str(folder)], check=True)
    return folder


def _command(name: str) -> Sequence[str]:
    """The program of a candidate, in its environment."""
    if (PEERS / name / "candidate.mjs").exists():
        return ["node", str(_node(name) / "candidate.mjs")]
    if (PEERS / name / "candidate.py").exists():
        return [_python(name), str(PEERS / name / "candidate.py")]
    if (LIMITS / f"{name}.py").exists():
        return [sys.executable, str(LIMITS / f"{name}.py")]
    return [sys.executable, str(OURS), name]


def _python(name: str) -> str:
    """The interpreter of a peer's environment."""
    folder = ENVIRONMENTS / name
    with _renewed(name, "requirements.txt") as requirements:
        if requirements is not None:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)  # noqa: S603
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
            subprocess.run([*pip, "-r", str(requirements)], check=True)  # noqa: S603
    return str(folder / "bin" / "python")


def _node(name: str) -> Path:
    """The folder with a peer's packages, and its program beside them: Node looks for packages from there."""
    folder = ENVIRONMENTS / name
    with _renewed(name, "package-lock.json") as lock:
        if lock is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for file in ("package.json", "package-lock.json"):
                shutil.copy(PEERS / name / file, folder)
            npm = ["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(npm, cwd=folder, check=True, stdout=sys.stderr)  # noqa: S603
    shutil.copy(PEERS / name / "candidate.mjs", folder)
    shutil.copy(PEERS / "shared.mjs", ENVIRONMENTS)
    return folder


@contextmanager
def _renewed(name: str, requirements: str) -> Iterator[Path | None]:
    """A peer's list of requirements if its environment is missing or was made from another list; else None."""
    listed = PEERS / name / requirements
    made = ENVIRONMENTS / name / "made-from"
    if made.exists() and made.read_text() == listed.read_text():
        yield None
        return
    console.print(f"installing {name} ...")
    yield listed
    made.write_text(listed.read_text())


def _document(running: Sequence[Running], call: str, rounds: int, seconds: float) -> dict[str, Any]:
    return {
        "call": call,
        "rounds": rounds,
        "seconds": seconds,
        "python": sys.version.split()[0],
        "candidates": [
            {
                "name": one.name,
                "store": one.store,
                "sessions": one.sessions,
                "versions": one.versions,
                "runs": one.runs,
            }
            for one in running
        ],
    }


async def _create_database(dsn: str, name: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise CandidateError("the process has no pipe")
    return pipe


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
