"""The limit of one key for each command: Redis's own `redis-benchmark`, in C.

Each of its clients sends one GET, waits for a value as large as a session's (300 bytes), and checks nothing. No client
that sends its commands one by one can be faster, and no library on Redis comes near to it. It speaks the lines of
`contract.py`; BENCH_REDIS is the URL of an empty database.
"""

from __future__ import annotations

import csv
import os

from limits.program import found, output, serve

URL = os.environ["BENCH_REDIS"]
BATCH = 10_000
FILL = """
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do
    redis.call('SET', string.format('key:%012d', number), ARGV[3])
end
"""
VALUE = "x" * 300


def fill(sessions: int) -> dict[str, str]:
    """Create the keys that the program reads."""
    for start in range(0, sessions, BATCH):
        end = min(start + BATCH, sessions) - 1
        output(["redis-cli", "-e", "-u", URL, "EVAL", FILL, "0", str(start), str(end), VALUE])
    stored = int(output(["redis-cli", "-u", URL, "DBSIZE"]))
    if stored != sessions:
        raise AssertionError(f"{stored} keys are stored, and not {sessions}")
    return {"redis-benchmark": found(r"redis-benchmark ([0-9.]+)", output(["redis-benchmark", "--version"]))}


def measured(sessions: int, clients: int, seconds: float) -> dict[str, float]:
    """Measure one run. The program takes a number of commands, so a short run first finds how many fit in a second."""
    rate = _run(sessions, clients, 10_000)["rps"]
    count = max(10_000, round(rate * seconds))
    figures = _run(sessions, clients, count)
    return {
        "operations": count,
        "seconds": count / figures["rps"],
        "p50_us": figures["p50_latency_ms"] * 1000,
        "p99_us": figures["p99_latency_ms"] * 1000,
        "cpu_us": 0.0,  # of another process
    }


def _run(sessions: int, clients: int, count: int) -> dict[str, float]:
    size = ["-n", str(count), "-c", str(clients), "-r", str(sessions)]
    said = output(["redis-benchmark", "-u", URL, "-t", "get", *size, "--csv"])
    (row,) = csv.DictReader(said.splitlines())
    return {name: float(value) for name, value in row.items() if name != "test"}


if __name__ == "__main__":
    serve(fill, measured)
