"""A file, a database or keys for one benchmark, removed afterwards. Other data on the server is not touched."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.stores.urls import store_from_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def scratch(*, postgresql: str | None = None, redis: str | None = None) -> AsyncIterator[str]:
    """The URL of an empty store on the given server; without a server, of a SQLite file.

    Raises:
        ConfigurationError: a URL is not valid, a package is missing, or the server allows no new database.
        StoreUnavailable: the server cannot be reached.
    """
    if postgresql is not None:
        made = _database(postgresql)
    elif redis is not None:
        made = _prefix(redis)
    else:
        made = _file()
    async with made as url:
        yield url


@asynccontextmanager
async def _file() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="coatcheck-bench-") as folder:
        yield f"sqlite:///{Path(folder) / 'sessions.db'}"


@asynccontextmanager
async def _database(server: str) -> AsyncIterator[str]:
    """A new database on a PostgreSQL server."""
    if not server.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError("--postgresql must be a URL like postgresql://user@host:5432/database")
    store_from_url(server)  # its errors say what is wrong with the URL, or which package is missing
    parts = urlsplit(server)
    import asyncpg  # noqa: PLC0415 (an extra)

    name = f"coatcheck_bench_{secrets.token_hex(4)}"
    try:
        connection = await asyncpg.connect(server)
        await connection.execute(f"CREATE DATABASE {name}")
    except asyncpg.PostgresError as error:
        raise ConfigurationError(f"--postgresql: a database cannot be created there ({error})") from error
    except (OSError, ValueError, asyncpg.InterfaceError) as error:
        raise StoreUnavailable(f"--postgresql: the server cannot be reached ({type(error).__name__})") from error
    try:
        yield parts._replace(path=f"/{name}").geturl()
    finally:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.close()


@asynccontextmanager
async def _prefix(server: str) -> AsyncIterator[str]:
    """Keys of a new prefix on a Redis or Valkey server."""
    if not server.startswith(("redis://", "rediss://", "valkey://", "valkeys://")) or "?" in server:
        raise ConfigurationError("--redis must be a URL like redis://user:password@host:6379/0, of a single server")
    store_from_url(server)  # its errors say what is wrong with the URL, and do not repeat it
    parts = urlsplit(server)
    prefix = f"coatcheck_bench_{secrets.token_hex(4)}"
    url = parts._replace(query=f"prefix={prefix}").geturl()
    store = store_from_url(url)
    await store.open()  # its errors say what is missing
    await store.close()
    from redis.asyncio import Redis  # noqa: PLC0415 (an extra)

    try:
        yield url
    finally:
        scheme = parts.scheme.replace("valkey", "redis")
        async with Redis.from_url(parts._replace(scheme=scheme).geturl()) as connection:
            keys = [key async for key in connection.scan_iter(f"{prefix}:*", count=1000)]
            for start in range(0, len(keys), 1000):
                await connection.unlink(*keys[start : start + 1000])
