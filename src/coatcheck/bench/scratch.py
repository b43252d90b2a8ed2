"""A database or a file for one benchmark, removed afterwards. What else is on the server is left alone."""

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
async def scratch(server: str | None) -> AsyncIterator[str]:
    """The URL of an empty store: a new database on the PostgreSQL server at `server`, None: a SQLite file.

    Raises:
        ConfigurationError: `server` is no PostgreSQL URL, a package is missing, or no database may be made there.
        StoreUnavailable: the server cannot be reached.
    """
    if server is None:
        with tempfile.TemporaryDirectory(prefix="coatcheck-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'sessions.db'}"
        return
    parts = urlsplit(server)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ConfigurationError("--postgresql must be a URL like postgresql://user@host:5432/database")
    store_from_url(server)  # whose error says which package is missing
    import asyncpg  # noqa: PLC0415 (an extra)

    name = f"coatcheck_bench_{secrets.token_hex(4)}"
    try:
        connection = await asyncpg.connect(server)
        await connection.execute(f"CREATE DATABASE {name}")
    except asyncpg.PostgresError as error:
        raise ConfigurationError(f"--postgresql: no database can be made there ({error})") from error
    except (OSError, ValueError, asyncpg.InterfaceError) as error:
        raise StoreUnavailable(f"--postgresql: the server cannot be reached ({type(error).__name__})") from error
    try:
        yield parts._replace(path=f"/{name}").geturl()
    finally:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.close()
