"""Litestar: `ServerSideSessionBackend.get` with the `RedisStore`, as its middleware does with the id of a cookie.

A request reads one key and decodes its JSON; a session that has expired is a key that Redis has dropped. It writes
nothing here; its middleware also writes each session back with the response (SET), which is not measured.
The session id is part of the key as it is, so the wrong secret is another id.
"""

from __future__ import annotations

from datetime import timedelta

from litestar.middleware.session.server_side import ServerSideSessionBackend, ServerSideSessionConfig
from litestar.stores.redis import RedisStore

import redis_keys
from contract import Candidate, serve
from shared import USERS, rows


class LitestarSessions(Candidate):
    """See the module."""

    packages = ("litestar", "redis", "hiredis")

    def __init__(self) -> None:
        """Connect when first used."""
        self._redis = redis_keys.connect()
        self._store = RedisStore(self._redis)
        self._backend = ServerSideSessionBackend(ServerSideSessionConfig())
        self._lifetime = timedelta(seconds=self._backend.config.max_age)

    async def fill(self, sessions: int) -> tuple[list[str], dict[str, str]]:
        """Sessions of up to 1000 users."""
        new_id, kept = self._backend.generate_session_id, []
        values = rows(sessions, new_id, lambda number, new: (self._key(new), self._data(number)), kept)
        await redis_keys.insert(self._redis, values, self._lifetime)
        expired = new_id()
        await redis_keys.insert_expired(self._redis, self._key(expired), self._data(0))
        return kept, {"expired": expired, "wrong secret": new_id()}

    async def validate(self, credential: str) -> bool:
        """Do the work of `load_from_connection` after it has read the cookie."""
        data = await self._backend.get(credential, self._store)
        return data is not None and "user_id" in self._backend.deserialize_data(data)

    async def close(self) -> None:
        """Close the pool."""
        await self._redis.aclose()

    def _key(self, session_id: str) -> str:
        return f"{self._store.namespace}:{session_id}"

    def _data(self, number: int) -> bytes:
        return self._backend.serialize_data({"user_id": number % USERS})


if __name__ == "__main__":
    serve(LitestarSessions())
