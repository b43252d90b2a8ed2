"""Shared parts of the peers: the place of their store, their rows, and the quickest way to insert them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from contract import sample_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Row = TypeVar("Row")

USERS = 1000
"""The number of users of the sessions, unless a peer is faster with more."""


def rows(
    sessions: int, credential: Callable[[], str], row: Callable[[int, str], Row], kept: list[str]
) -> Iterator[Row]:
    """The row of each session, made while it is inserted; only the sample's credentials are kept, in `kept`."""
    chosen = set(sample_of(sessions))
    for number in range(sessions):
        new = credential()
        if number in chosen:
            kept.append(new)
        yield row(number, new)


@dataclass(frozen=True)
class Database:
    """The database that the driver has made for this candidate: exactly one of the two."""

    postgres: str | None
    sqlite: Path | None

    @classmethod
    def from_environment(cls) -> Database:
        """BENCH_POSTGRES is the DSN of an empty database; otherwise BENCH_SQLITE is an empty folder."""
        if dsn := os.environ.get("BENCH_POSTGRES"):
            return cls(dsn, None)
        if folder := os.environ.get("BENCH_SQLITE"):
            file = Path(folder) / "peer.sqlite3"
            with closing(sqlite3.connect(file)) as connection:
                # A property of the file, so that every connection has it: readers are quicker than by default.
                connection.execute("PRAGMA journal_mode = WAL")
            return cls(None, file)
        raise RuntimeError("neither BENCH_POSTGRES nor BENCH_SQLITE is set")

    def url(self, *, postgres: str, sqlite: str) -> str:
        """The database for SQLAlchemy, by the given dialects with their drivers."""
        if self.postgres:
            return f"{postgres}://{self.postgres.partition('://')[2]}"
        return f"{sqlite}:///{self.sqlite}"

    def insert(self, table: str, columns: Sequence[str], values: Iterable[Sequence[Any]]) -> None:
        """Add rows in bulk: by COPY with psycopg, or in one transaction of SQLite."""
        names = ", ".join(columns)
        if self.sqlite:
            marks = ", ".join("?" * len(columns))
            with closing(sqlite3.connect(self.sqlite)) as connection, connection:
                connection.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', values)  # noqa: S608 (ours)
            return
        import psycopg  # noqa: PLC0415 (not in every environment)

        into = f'COPY "{table}" ({names}) FROM STDIN'
        with psycopg.connect(self.postgres) as connection, connection.cursor().copy(into) as copy:
            for row in values:
                copy.write_row(row)

    def settle(self) -> None:
        """Gather the planner's statistics, so that PostgreSQL has no reason to vacuum during the measurement."""
        if self.sqlite:
            with closing(sqlite3.connect(self.sqlite)) as connection:
                connection.execute("ANALYZE")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return
        import psycopg  # noqa: PLC0415 (not in every environment)

        with psycopg.connect(self.postgres, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
