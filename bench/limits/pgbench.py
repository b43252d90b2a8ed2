"""The limit of one row for each query: PostgreSQL's own `pgbench -M prepared`, in C, on Coatcheck's table.

It reads the columns of a validation by primary key and checks nothing. So it is not a candidate but a limit: no client
that sends its queries one by one can be faster. It speaks the lines of `contract.py`; BENCH_POSTGRES is an empty
database.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import asyncpg

from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.bench.filling import Population, fill
from coatcheck.stores.sql.rows import READING_COLUMN_LIST
from limits.program import found, output, serve

URL = os.environ["BENCH_POSTGRES"]
ID = "('00000000-0000-7000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid"
SCRIPT = f"""\\set n random(0, :rows - 1)
SELECT {READING_COLUMN_LIST}, clock_timestamp() FROM coatcheck_sessions WHERE id = {ID.format(number=":n::int")};
"""  # noqa: S608 (constants only)


async def fill_table(sessions: int) -> None:
    """Fill the table with rows whose ids pgbench can compute."""
    config = ServerSideSessionsConfig(session_key_hash_pepper="a pepper of the benchmark, 32 bytes")
    async with Pod(URL, environ={}, config_dir="no-such-folder", prune_interval=None):  # creates the tables
        await fill(URL, Population(sessions, config.key_hasher()), lambda _: None)
    connection = await asyncpg.connect(URL)
    number = "row_number() OVER (ORDER BY id) - 1"
    await connection.execute(
        f"UPDATE coatcheck_sessions AS session SET id = {ID.format(number='numbered.n::int')} "  # noqa: S608 (constants only)
        f"FROM (SELECT id, {number} AS n FROM coatcheck_sessions) AS numbered WHERE session.id = numbered.id"
    )
    await connection.execute("VACUUM FULL ANALYZE coatcheck_sessions")
    await connection.execute("CHECKPOINT")
    ends = f"{ID.format(number='0')}, {ID.format(number=sessions - 1)}"
    found = await connection.fetchval(f"SELECT count(*) FROM coatcheck_sessions WHERE id IN ({ends})")  # noqa: S608 (constants only)
    await connection.close()
    if found != min(sessions, 2):
        raise AssertionError("pgbench would look for rows that are not there")


def filled(sessions: int) -> dict[str, str]:
    """Fill the table with this number of sessions."""
    asyncio.run(fill_table(sessions))
    return {"pgbench": found(r"pgbench \(PostgreSQL\) ([0-9.]+)", output([_program(), "--version"]))}


def measured(sessions: int, clients: int, seconds: float) -> dict[str, float]:
    """Measure one run."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script, tempfile.TemporaryDirectory() as logs:
        script.write(SCRIPT)
        script.flush()
        options = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, os.cpu_count() or 1))]
        logging = ["-l", "--log-prefix", f"{logs}/log", "--sampling-rate", "0.05"]
        size = ["-T", str(max(1, round(seconds))), "-D", f"rows={sessions}", "-f", script.name]
        said = output([_program(), *options, *logging, *size, URL])
        latencies = sorted(
            float(line.split()[2]) for log in Path(logs).iterdir() for line in log.read_text().splitlines()
        )
    operations = int(found(r"transactions actually processed: (\d+)", said))
    return {
        "operations": operations,
        "seconds": operations / float(found(r"tps = ([0-9.]+)", said)),
        "p50_us": latencies[len(latencies) // 2],
        "p99_us": latencies[len(latencies) * 99 // 100],
        "cpu_us": 0.0,  # of another process
    }


def _program() -> str:
    # Debian keeps the server's programs out of the PATH; its wrapper in the PATH takes no other options.
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    return str(places[-1]) if places else "pgbench"


if __name__ == "__main__":
    serve(filled, measured)
