"""starsessions: `load_session` with the `RedisStore`, as its middleware does with the session id of a cookie.

A request reads one key and decodes its JSON; a session that has expired is a key that Redis has dropped. It writes
nothing here; its middleware also writes each loaded session back with the response (SET), which is not measured.
The session id is part of the key as it is, so the wrong secret is another id.
"""

from __future__ import annotations

import time
from datetime import timedelta

from starlette.requests import HTTPConnection
from starsessions.session import SessionHandler, generate_session_id
from starsessions.stores.redis import RedisStore

import redis_keys
from contract import Candidate, serve
from shared import USERS, rows
from starsessions import JsonSerializer, load_session

LIFETIME = timedelta(days=14)


class Starsessions(Candidate):
    """See the module."""

    packages = ("starsessions", "starlette", "redis", "hiredis")

    def __init__(self) -> None:
        """Connect when first used."""
        self._redis = redis_keys.connect()
        self._store = RedisStore(connection=self._redis)
        self._serializer = JsonSerializer()

    async def fill(self, sessions: int) -> tuple[list[str], dict[str, str]]:
        """Sessions of up to 1000 users."""
        kept: list[str] = []
        values = rows(sessions, generate_session_id, lambda number, new: (self._key(new), self._data(number)), kept)
        await redis_keys.insert(self._redis, values, LIFETIME)
        expired = generate_session_id()
        await redis_keys.insert_expired(self._redis, self._key(expired), self._data(0))
        return kept, {"expired": expired, "wrong secret": generate_session_id()}

    async def validate(self, credential: str) -> bool:
        """Do the work of the two middlewares before the application is called, without parsing cookies."""
        connection = HTTPConnection({"type": "http", "headers": []})
        handler = SessionHandler(connection, credential, self._store, self._serializer, int(LIFETIME.total_seconds()))
        connection.scope["session_handler"] = handler
        await load_session(connection)
        return "user_id" in connection.session

    async def close(self) -> None:
        """Close the pool."""
        await self._redis.aclose()

    def _key(self, session_id: str) -> str:
        return self._store.prefix(session_id)

    def _data(self, number: int) -> bytes:
        now = time.time()
        metadata = {"lifetime": int(LIFETIME.total_seconds()), "created": now, "last_access": now}
        return self._serializer.serialize({"user_id": number % USERS, "__metadata__": metadata})


if __name__ == "__main__":
    serve(Starsessions())
