"""Shared parts of the benchmarks' drivers: a new store, and tables on the terminal."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import ExitStack

console = Console(width=None if sys.stdout.isatty() else 120)


def new_store(store: str, stack: ExitStack) -> str:
    """The URL of an empty, durable store of this kind ("postgresql", "redis" or "sqlite"); `stack` removes it."""
    if store == "redis":
        redis = RedisServer(appendonly="yes", appendfsync="always")
        stack.callback(redis.remove)
        return redis.url
    if store == "postgresql":
        server = PostgresServer(durable=True)
        stack.callback(server.remove)
        return server.dsn()
    return f"sqlite:///{Path(stack.enter_context(tempfile.TemporaryDirectory())) / 'sessions.db'}"


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, named_by: int = 1) -> None:
    """Print a table. Its first `named_by` columns are names, the others are figures."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < named_by else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
