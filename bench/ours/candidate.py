"""Coatcheck, and its competitors on the same table, by the same lines as every candidate.

`candidate.py NAME`, with BENCH_POSTGRES (an empty database), BENCH_REDIS (an empty server) or BENCH_SQLITE (an empty
folder):

* `coatcheck`: `TokenManager.validate_token` as an application calls it.
* `coatcheck_pgbouncer`: the same, where the database is behind PgBouncer in transaction mode.
* `fetchrow`: one row by primary key with `asyncpg.Pool.fetchrow`, and the check of hash and deadline by hand.
* `prepared`: the same over one connection with a prepared statement: the least a read can cost.
* `core`: the same with a SQLAlchemy Core select, AUTOCOMMIT.
* `sqlite`: the same read by hand with `sqlite3`, in the event loop's thread.
* `insert`: for sign-ins, one INSERT in a transaction of its own, durable, without reading the user: through an
  `asyncpg.Pool`, or with `sqlite3` in one thread.
* `coatcheck_one_user`: Coatcheck, where all the sessions are one user's.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import sqlite3
import sys
import time
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from coatcheck import Pod, ServerSideSessionsConfig, ServerSideSessionsTokenManager
from coatcheck.bench.filling import Population, fill
from coatcheck.clock import EPOCH
from coatcheck.identifiers import SessionId
from coatcheck.token_format import Secret, format_token
from contract import Candidate, sample_of, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coatcheck import AuthServices

NEW_COLUMNS = (
    "id", "user_id", "method", "scopes", "follows_user", "created_at", "last_used_at", "key_hash", "key_salt",
)  # fmt: skip
PEPPER = "a pepper of the benchmark, 32 bytes"


class Ours(Candidate):
    """Coatcheck itself, and the table that the others read too."""

    packages: Sequence[str] = ("coatcheck", "asyncpg", "redis", "hiredis", "sqlalchemy", "uvloop")
    of_one_user = False

    def __init__(self) -> None:
        """Take the store from the environment."""
        folder = os.environ.get("BENCH_SQLITE")
        server = os.environ.get("BENCH_POSTGRES") or os.environ.get("BENCH_REDIS")
        self.url = server or f"sqlite:///{Path(folder or '.') / 'sessions.db'}"
        self.pod = Pod(self.url, environ={}, config_dir="no-such-folder", prune_interval=None)
        self.config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
        self.auth: AuthServices = self.pod.initialize_auth_services(token_manager_builders=[self.config])
        self._validate = self.auth.token_manager.validate_token
        self._users = count()

    async def fill(self, sessions: int) -> tuple[Sequence[str], dict[str, str]]:
        """See `Candidate.fill`."""
        await self.pod.__aenter__()
        population = self.population = Population(sessions, self.config.key_hasher(), of_one_user=self.of_one_user)
        await fill(self.url, population, lambda _: None)
        sessions_of_ours = self.auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions
        expired = await sessions_of_ours.create_session(population.user(0), method="bench", expires_at=EPOCH)
        wrong = population.token(0)[:40] + population.token(1)[40:]
        return [str(population.token(number)) for number in sample_of(sessions)], {
            "expired": str(expired.token),
            "wrong secret": wrong,
        }

    async def validate(self, credential: str) -> bool:
        """See `Candidate.validate`."""
        return await self._validate(credential) is not None

    async def sign_in(self) -> str:
        """See `Candidate.sign_in`."""
        user = self.population.user(next(self._users))
        return str((await self.auth.token_manager.create_token(auth_user_id=user, method="bench")).token)

    async def close(self) -> None:
        """See `Candidate.close`."""
        await self.pod.__aexit__(None, None, None)


# --- the same read by hand, without Coatcheck's code ---

COLUMNS = "id, user_id, scopes, last_used_at, expires_at, expire_after_unused_for_us, key_hash, key_salt, pepper_id"
ONE = f"SELECT {COLUMNS}, clock_timestamp() AS now FROM coatcheck_sessions WHERE id = "  # noqa: S608 (constants only)


def taken_apart(credential: str) -> tuple[UUID, bytes]:
    """Id and secret of a token, by Python's own functions."""
    raw = urlsafe_b64decode(credential)
    return UUID(bytes=raw[3:19]), raw[19:]


def is_right(row: Any, secret: bytes, now: Any) -> bool:  # noqa: ANN401 (a row of any driver)
    """Whether hash and deadline are right."""
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


class OneUser(Ours):
    """Coatcheck, where all sessions are one user's."""

    of_one_user = True


class Insert(Ours):
    """The least cost of a sign-in that has a transaction of its own."""

    packages = ("asyncpg",)

    async def fill(self, sessions: int) -> tuple[Sequence[str], dict[str, str]]:
        """See `Candidate.fill`."""
        filled = await super().fill(sessions)
        places = ", ".join("?" * len(NEW_COLUMNS))
        self.statement = f"INSERT INTO coatcheck_sessions ({', '.join(NEW_COLUMNS)}) VALUES ({places})"  # noqa: S608 (constants only)
        if self.url.startswith("sqlite"):
            self.thread = ThreadPoolExecutor(max_workers=1)
            self.writer = await self._in_thread(self._connect)
            return filled
        for number in range(len(NEW_COLUMNS)):
            self.statement = self.statement.replace("?", f"${number + 1}", 1)
        self.pool = await asyncpg.create_pool(self.url, min_size=10, max_size=10)
        return filled

    async def sign_in(self) -> str:
        """See `Candidate.sign_in`."""
        session_id, secret, salt = UUID(bytes=os.urandom(16), version=4), os.urandom(32), os.urandom(16)
        digest = b"\x01" + hashlib.sha512(secret + salt + PEPPER.encode()).digest()
        user = self.population.user(next(self._users))
        if self.url.startswith("sqlite"):
            row = [str(session_id), user, "bench", "[]", True, *[time.time_ns() // 1000] * 2, digest, salt]
            await self._in_thread(self.writer.execute, self.statement, row)
        else:
            now = datetime.now(UTC)
            await self.pool.execute(self.statement, session_id, user, "bench", "[]", True, now, now, digest, salt)
        return format_token(SessionId(str(session_id)), Secret(secret))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    async def _in_thread(self, call: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(self.thread, call, *arguments)


KINDS = {
    "coatcheck": Ours,
    "coatcheck_pgbouncer": Ours,
    "coatcheck_one_user": OneUser,
    "insert": Insert,
    "fetchrow": Fetchrow,
    "prepared": Prepared,
    "core": Core,
    "sqlite": Sqlite,
}

if __name__ == "__main__":
    serve(KINDS[sys.argv[1]]())
