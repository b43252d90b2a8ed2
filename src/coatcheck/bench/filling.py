"""Filling a store with sessions. The token of each follows from its number, so that each can be validated."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from coatcheck.identifiers import SessionId, UserId, session_id_from_bytes, shard_of_user
from coatcheck.scope import scope_set
from coatcheck.stores.records import KeyHash, NewSession
from coatcheck.stores.scope_text import encode_scopes
from coatcheck.stores.sql.rows import SESSION_COLUMNS, USER_COLUMNS
from coatcheck.token_format import Secret, format_token
from coatcheck.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from coatcheck.sessions.key_hash import KeyHasher

COLUMNS = tuple(column.name for column in SESSION_COLUMNS)
_USER_COLUMNS = ", ".join(column.name for column in USER_COLUMNS)

_USED_AT = COLUMNS.index("last_used_at")
_CHUNK = 20_000
_AT_ONCE = 1000
_UNUSED_US = 120 * 1_000_000
_LIFETIME_US = 30 * 86_400 * 1_000_000
_SCOPES = encode_scopes(scope_set({"notes:read", "notes:write"}))


class Population:
    """`size` sessions of at most `size // 2` users, as if one user had signed in each millisecond until now.

    With `of_one_user` all sessions are of one user. The sessions from number `unused_from` on were last used two
    minutes ago, so that their next use has to be written.
    """

    def __init__(
        self, size: int, hasher: KeyHasher, *, of_one_user: bool = False, unused_from: int | None = None
    ) -> None:
        """Plan the sessions; nothing is stored yet."""
        self.size = size
        self.users: int = 1 if of_one_user else max(1, size // 2)
        self._hasher = hasher
        self._unused_from = size if unused_from is None else unused_from
        self._now_us = time.time_ns() // 1000

    def user(self, number: int) -> UserId:
        """The user of a session."""
        return UserId(f"bench-user-{number % self.users}")

    def session_id(self, number: int) -> SessionId:
        """The id of a session: a UUIDv7, in the order of the numbers."""
        shard = bytes.fromhex(shard_of_user(self.user(number)))
        moment = (self._now_us // 1000 - self.size + number).to_bytes(6, "big")
        raw = bytearray(moment + _digest(b"id", number)[:9] + shard)
        raw[6] = 0x70 | (raw[6] & 0x0F)
        raw[8] = 0x80 | (raw[8] & 0x3F)
        return session_id_from_bytes(bytes(raw))

    def token(self, number: int) -> Token:
        """The token of a session."""
        return Token(format_token(self.session_id(number), _digest(b"secret", number)))

    def rows(self, start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        """The rows of some sessions, in the order of COLUMNS; times in microseconds since 1970."""
        for number in range(start, stop):
            key = self._hasher.hash(Secret(_digest(b"secret", number)))
            used_at = self._now_us - (_UNUSED_US if number >= self._unused_from else 0)
            expires_at = self._now_us + _LIFETIME_US
            yield (
                self.session_id(number), self.user(number), "bench", _SCOPES, True, used_at, used_at,
                expires_at, None, key.hash, key.salt, key.pepper_id,
            )  # fmt: skip


async def fill(url: str, population: Population, advance: Callable[[int], None]) -> None:
    """Store a population at `url` as fast as the database allows; `advance` gets the size of each stored chunk."""
    if url.startswith("sqlite"):
        await asyncio.to_thread(_fill_sqlite, url.removeprefix("sqlite:///"), population, advance)
    elif url.startswith("redis"):
        await _fill_redis(url, population, advance)
    else:
        await _fill_postgres(url, population, advance)


async def _fill_postgres(url: str, population: Population, advance: Callable[[int], None]) -> None:
    from coatcheck.stores.sql.postgresql.connecting import connect_through_pooler  # noqa: PLC0415 (needs an extra)
    from coatcheck.stores.sql.postgresql.connections import with_integer_times  # noqa: PLC0415 (as above)
    from coatcheck.stores.sql.postgresql.dsn import parse_dsn  # noqa: PLC0415 (as above)

    connection = await connect_through_pooler(parse_dsn(url), timeout_seconds=60)  # where there is none, too
    try:
        await with_integer_times(connection)
        await connection.execute(
            f"INSERT INTO coatcheck_users ({_USER_COLUMNS}) "  # noqa: S608 (constants only)
            "SELECT 'bench-user-' || number, now(), $1, false, true, 0, 0 FROM generate_series(0, $2 - 1) AS number",
            _SCOPES,
            population.users,
        )
        for start, stop in _chunks(population.size):
            rows = population.rows(start, stop)
            await connection.copy_records_to_table("coatcheck_sessions", records=rows, columns=COLUMNS)
            advance(stop - start)
        await connection.execute("VACUUM ANALYZE coatcheck_sessions, coatcheck_users")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def _fill_redis(url: str, population: Population, advance: Callable[[int], None]) -> None:
    """Insert the sessions through the store, which alone knows its keys, at the time when each was last used."""
    from coatcheck.stores.redis.store import RedisStore  # noqa: PLC0415 (an extra)

    clock = _SetClock()
    async with RedisStore(url, clock=clock, timeout_seconds=60) as store:
        scopes = scope_set({"notes:read", "notes:write"})
        for start, stop in _chunks(population.users, size=_AT_ONCE):
            users = map(population.user, range(start, stop))
            await asyncio.gather(*(store.insert_user(user, scopes=scopes, blocked=False) for user in users))
        for start, stop in _chunks(population.size, size=_AT_ONCE):
            for clock.time_us, rows in groupby(population.rows(start, stop), key=itemgetter(_USED_AT)):
                sessions = [
                    NewSession(id_, user, method, scopes, follows, expires_at_us, None, unused_for_us, KeyHash(*key))
                    for id_, user, method, _, follows, _, _, expires_at_us, unused_for_us, *key in rows
                ]
                await asyncio.gather(
                    *(store.insert_session(one, expected_revocations=0, expected_rescopes=0) for one in sessions)
                )
            advance(stop - start)


def _fill_sqlite(path: str | Path, population: Population, advance: Callable[[int], None]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany(
            f"INSERT INTO coatcheck_users ({_USER_COLUMNS}) VALUES (?, ?, ?, 0, 1, 0, 0)",  # noqa: S608 (constants only)
            ((population.user(number), 0, _SCOPES) for number in range(population.users)),
        )
        statement = f"INSERT INTO coatcheck_sessions ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 (constants only)
        for start, stop in _chunks(population.size):
            connection.executemany(statement, population.rows(start, stop))
            connection.commit()
            advance(stop - start)
        connection.execute("ANALYZE")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _chunks(total: int, *, size: int = _CHUNK) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, total)) for start in range(0, total, size))


@dataclass
class _SetClock:
    """A clock that shows the time to which it was set."""

    time_us: int = 0

    def now_us(self) -> int:
        return self.time_us


def _digest(purpose: bytes, number: int) -> bytes:
    return hashlib.sha256(purpose + number.to_bytes(8, "big")).digest()
