"""Coatcheck, and what it is measured against on the same table, by the same lines as every candidate.

`candidate.py NAME`, with BENCH_POSTGRES (an empty database) or BENCH_SQLITE (an empty folder):

* `coatcheck`: `TokenManager.validate_token` as an application calls it.
* `fetchrow`: one row by primary key with `asyncpg.Pool.fetchrow`, and the check of hash and deadline by hand.
* `prepared`: the same over one connection with a prepared statement: the least a read can cost.
* `core`: the same with a SQLAlchemy Core select, AUTOCOMMIT.
* `sqlite`: the same read by hand with `sqlite3`, in the event loop's thread.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
import sys
import time
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.bench.filling import Population, fill
from contract import Candidate, sample_of, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coatcheck import AuthServices

PEPPER = "a pepper of the benchmark, 32 bytes"


class Ours(Candidate):
    """Coatcheck itself, and the table that the others read too."""

    packages: Sequence[str] = ("coatcheck", "asyncpg", "sqlalchemy", "uvloop")

    def __init__(self) -> None:
        """Take the store from the environment."""
        folder = os.environ.get("BENCH_SQLITE")
        self.url = os.environ["BENCH_POSTGRES"] if folder is None else f"sqlite:///{Path(folder) / 'sessions.db'}"
        self.pod = Pod(self.url, environ={}, config_dir="no-such-folder", prune_interval=None)
        self.config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
        self.auth: AuthServices = self.pod.initialize_auth_services(token_manager_builders=[self.config])
        self._validate = self.auth.token_manager.validate_token

    async def fill(self, sessions: int) -> tuple[Sequence[str], dict[str, str]]:
        """See `Candidate.fill`."""
        await self.pod.__aenter__()
        population = Population(sessions, self.config.key_hasher())
        await fill(self.url, population, lambda _: None)
        expired = await self.auth.token_manager.create_token(auth_user_id=population.user(0), method="bench")
        await self._expire(expired.server_side_session_id)
        wrong = population.token(0)[:40] + population.token(1)[40:]
        return [str(population.token(number)) for number in sample_of(sessions)], {
            "expired": str(expired.token),
            "wrong secret": wrong,
        }

    async def validate(self, credential: str) -> bool:
        """See `Candidate.validate`."""
        return await self._validate(credential) is not None

    async def close(self) -> None:
        """See `Candidate.close`."""
        await self.pod.__aexit__(None, None, None)

    async def _expire(self, session_id: str) -> None:
        if self.url.startswith("sqlite"):
            with sqlite3.connect(self.url.removeprefix("sqlite:///")) as connection:
                connection.execute("UPDATE coatcheck_sessions SET expires_at = 1 WHERE id = ?", (session_id,))
            return
        connection = await asyncpg.connect(self.url)
        await connection.execute("UPDATE coatcheck_sessions SET expires_at = now() WHERE id = $1", session_id)
        await connection.close()


# --- the same read by hand, without Coatcheck's code on the way ---

COLUMNS = "id, user_id, scopes, last_used_at, expires_at, expire_after_unused_for_us, key_hash, key_salt, pepper_id"
ONE = f"SELECT {COLUMNS}, clock_timestamp() AS now FROM coatcheck_sessions WHERE id = "  # noqa: S608 (constants only)


def taken_apart(credential: str) -> tuple[UUID, bytes]:
    """Id and secret, with what Python has for it."""
    raw = urlsafe_b64decode(credential)
    return UUID(bytes=raw[3:19]), raw[19:]


def is_right(row: Any, secret: bytes, now: Any) -> bool:  # noqa: ANN401 (a row of any driver)
    """Hash and deadline."""
    if row is None or (row["expires_at"] is not None and now >= row["expires_at"]):
        return False
    digest = hashlib.sha512(secret + row["key_salt"] + PEPPER.encode()).digest()
    return hmac.compare_digest(row["key_hash"], b"\x01" + digest)


class Fetchrow(Ours):
    """A pool, and a query for each validation."""

    async def fill(self, sessions: int) -> tuple[Sequence[str], dict[str, str]]:
        """See `Candidate.fill`."""
        filled = await super().fill(sessions)
        self.pool = await asyncpg.create_pool(self.url, min_size=10, max_size=10)
        return filled

    async def validate(self, credential: str) -> bool:
        """See `Candidate.validate`."""
        session_id, secret = taken_apart(credential)
        row = await self.pool.fetchrow(ONE + "$1", session_id)
        return row is not None and is_right(row, secret, row["now"])


class Prepared(Ours):
    """One connection, one prepared statement: for a single caller."""

    packages = ("asyncpg",)

    async def fill(self, sessions: int) -> tuple[Sequence[str], dict[str, str]]:
        """See `Candidate.fill`."""
        filled = await super().fill(sessions)
        self.statement = await (await asyncpg.connect(self.url)).prepare(ONE + "$1")
        return filled

    async def validate(self, credential: str) -> bool:
        """See `Candidate.validate`."""
        session_id, secret = taken_apart(credential)
        row = await self.statement.fetchrow(session_id)
        return row is not None and is_right(row, secret, row["now"])


class Core(Ours):
    """SQLAlchemy Core on asyncpg, without a transaction around the read."""

    packages = ("sqlalchemy", "asyncpg")

    async def fill(self, sessions: int) -> tuple[Sequence[str], dict[str, str]]:
        """See `Candidate.fill`."""
        filled = await super().fill(sessions)
        url = self.url.replace("postgresql://", "postgresql+asyncpg://")
        self.engine: AsyncEngine = create_async_engine(url, pool_size=10, isolation_level="AUTOCOMMIT")
        self.read = text(ONE + ":id")
        return filled

    async def validate(self, credential: str) -> bool:
        """See `Candidate.validate`."""
        session_id, secret = taken_apart(credential)
        async with self.engine.connect() as connection:
            row = (await connection.execute(self.read, {"id": session_id})).mappings().one_or_none()
        return row is not None and is_right(row, secret, row["now"])


class Sqlite(Ours):
    """`sqlite3` in the event loop's thread, one cached statement."""

    packages = ()

    async def fill(self, sessions: int) -> tuple[Sequence[str], dict[str, str]]:
        """See `Candidate.fill`."""
        filled = await super().fill(sessions)
        self.reader = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)
        self.reader.row_factory = sqlite3.Row
        return filled

    async def validate(self, credential: str) -> bool:
        """See `Candidate.validate`."""
        session_id, secret = taken_apart(credential)
        read = f"SELECT {COLUMNS} FROM coatcheck_sessions WHERE id = ?"  # noqa: S608 (constants only)
        row = self.reader.execute(read, (str(session_id),)).fetchone()
        return is_right(row, secret, time.time_ns() // 1000)


KINDS = {"coatcheck": Ours, "fetchrow": Fetchrow, "prepared": Prepared, "core": Core, "sqlite": Sqlite}

if __name__ == "__main__":
    serve(KINDS[sys.argv[1]]())
