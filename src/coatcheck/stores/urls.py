"""Which store a URL means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError
from coatcheck.stores.url_text import store_url_text

if TYPE_CHECKING:
    from coatcheck.clock import Clock
    from coatcheck.stores.store import Store
    from coatcheck.stores.url_text import StoreUrl

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_REDIS = (
    "unix://",
    *(
        f"{name}{kind}://"
        for name in ("redis", "rediss", "valkey", "valkeys")
        for kind in ("", "+cluster", "+sentinel", "+unix", "+socket")
    ),
)
_ALLOWED = (
    "sqlite:///relative/path.db, sqlite:////absolute/path.db, postgresql://user:password@host:5432/database "
    "(with standbys host:5432,host:5432; through a pooler ?listen=host:5432), "
    "redis://user:password@host:6379/0, redis+cluster://host:6379,host:6379, "
    "redis+sentinel://host:26379,host:26379/service or unix:///path/to/redis.sock"
)


def store_from_url(url: StoreUrl, *, clock: Clock | None = None, migrates: bool = True) -> Store:
    """The store that `url` names, not yet opened. `clock` is for tests, and not for PostgreSQL, which has its own.

    Raises:
        ConfigurationError: the URL names no store this library has, a package it needs is not installed, or the store
            takes no `clock`. The URL itself is not repeated: it may hold a password.
    """
    url = store_url_text(url)
    if url.startswith(_SQLITE):
        path = url.removeprefix(_SQLITE)
        if not path or path.startswith(":memory:") or "?" in path:
            raise ConfigurationError(
                f"the store URL must name a file; allowed are {_ALLOWED}. A database in memory cannot be shared by "
                "the connections that read and those that write"
            )
        from coatcheck.stores.sql.sqlite.store import SqliteStore  # noqa: PLC0415 (a store is imported when it is used)

        return SqliteStore(Path(str(path)), clock=clock, migrates=migrates)
    if url.startswith(_POSTGRES):
        if clock is not None:
            raise ConfigurationError(
                "clock is not for PostgreSQL, whose server tells the time; allowed are SQLite, Redis and, in tests, "
                "MemoryStore(clock=clock)"
            )
        try:
            from coatcheck.stores.sql.postgresql.store import PostgresStore  # noqa: PLC0415 (a store is imported when it is used)
        except ModuleNotFoundError as missing:
            raise ConfigurationError(
                f"PostgreSQL needs the package {missing.name}; install coatcheck[postgres]"
            ) from missing
        return PostgresStore(url, migrates=migrates)
    if url.startswith(_REDIS):
        try:
            from coatcheck.stores.redis.store import RedisStore  # noqa: PLC0415 (a store is imported when it is used)
        except ModuleNotFoundError as missing:
            raise ConfigurationError(f"Redis needs the package {missing.name}; install coatcheck[redis]") from missing
        return RedisStore(url, clock=clock)
    # Without a scheme, any of it may be a password.
    start = f"starts with {str(url[: url.index('://')])[:20]!r}" if "://" in url else "has no scheme"
    raise ConfigurationError(f"the store URL {start}; allowed are {_ALLOWED}")
