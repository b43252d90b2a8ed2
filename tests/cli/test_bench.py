"""`coatcheck bench`, run as a command with small numbers. No figure is judged here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from redis import Redis

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

COATCHECK = Path(sys.executable).with_name("coatcheck")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COATCHECK, *arguments], capture_output=True, text=True, timeout=100, check=False)


SMALL = ("bench", "--sessions", "4000", "--concurrency", "1,4", "--seconds", "0.02")


def test_every_mix_is_measured_written_and_drawn_and_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    done = run(*SMALL, "--json", str(tmp_path / "figures.json"), "--chart", str(tmp_path / "chart.png"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Coatcheck on SQLite, 4,000 sessions stored" in done.stdout
    document = json.loads((tmp_path / "figures.json").read_text())
    measured = [(one["mix"], one["concurrency"]) for one in document["figures"]]
    mixes = ("validate", "touch", "sign-in", "revoke", "everyday")
    assert measured == [(mix, level) for mix in mixes for level in (1, 4)]
    assert all(one["operations"] > 0 and one["p50_us"] <= one["p99_us"] for one in document["figures"])
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert not list(scratch.glob("coatcheck-bench-*"))


@pytest.mark.postgres
async def test_the_benchmark_creates_a_database_and_removes_it(postgres_server: PostgresServer) -> None:
    done = run(*SMALL, "--postgresql", postgres_server.dsn())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Coatcheck on PostgreSQL" in done.stdout
    connection = await asyncpg.connect(postgres_server.dsn())
    names = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'coatcheck_bench%'")
    await connection.close()
    assert names == []


def test_the_benchmark_creates_keys_and_removes_them(redis_url: str) -> None:
    done = run(*SMALL, "--redis", redis_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Coatcheck on Redis" in done.stdout
    with Redis.from_url(redis_url) as connection:
        assert connection.dbsize() == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--mixes", "validat"], "validat.* is unknown; allowed are validate, touch"),
        (["--concurrency", "1,x"], "'x' is not a number from 1 to 10000"),
        (["--concurrency", "0"], "'0' is not a number from 1 to 10000"),
        (["--chart", "chart.pdf"], "must end in .png or .svg"),
        (["--postgresql", "mysql://somewhere"], "must be a URL like postgresql://"),
        (["--postgresql", "postgresql://postgres:hunter2@127.0.0.1:1/x"], "the server cannot be reached"),
        (["--postgresql", "postgresql://postgres:[hunter2]@127.0.0.1:1/x"], "the store URL cannot be read"),
        (["--redis", "redis+cluster://somewhere"], "must be a URL like redis://"),
        (["--redis", "redis://:hunter2@127.0.0.1:1"], "the store cannot answer"),
        (["--redis", "redis://:[hunter2]@127.0.0.1:1"], "the store URL cannot be read"),
        (["--redis", "redis://a", "--postgresql", "postgresql://b"], "one store is measured at a time"),
        (["--json", "no-such-folder/figures.json"], "--json: a file cannot be written at no-such-folder"),
        (["--chart", "/proc/chart.png"], "Error: .*/proc/chart.png"),
    ],
)
def test_an_option_that_is_not_allowed_is_refused_by_name(options: list[str], says: str) -> None:
    done = run(*SMALL, *options)
    assert done.returncode == 1
    assert re.search(says, done.stdout), done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.postgres
async def test_a_role_that_may_not_create_databases_gets_a_clear_error(postgres_server: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres_server.dsn())
    await connection.execute("CREATE ROLE guest LOGIN")
    done = run(*SMALL, "--postgresql", postgres_server.dsn().replace("postgres@", "guest@"))
    await connection.execute("DROP ROLE guest")
    await connection.close()
    assert done.returncode == 1
    assert "a database cannot be created there (permission denied" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_command_without_its_packages_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from coatcheck.cli import run; run()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == "the command needs the package typer; install coatcheck[cli]\n"
