"""A process has at most the connections to Redis that docs/how-to/connections.md says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from coatcheck.stores.records import SessionFilter, SessionUse
from coatcheck.stores.redis.store import RedisStore
from coatcheck.testing.conformance.announcing import Listening
from coatcheck.testing.samples import insert, new_session, read_present, register

if TYPE_CHECKING:
    from tests.servers.redis import RedisServer

pytestmark = pytest.mark.redis

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "connections.md").read_text("utf-8")


async def test_a_busy_process_has_as_many_connections_to_a_server_as_the_page_says(redis_server: RedisServer) -> None:
    said = re.search(r"\*\*Redis\*\*: (\d+) to each server", PAGE)
    assert said is not None
    admin = Redis.from_url(redis_server.url)
    async with RedisStore(redis_server.url, timeout_seconds=30) as store, Listening(store):
        await register(store)

        async def live() -> None:
            session = await insert(store, new_session())
            await read_present(store, session.id)
            await store.touch_sessions([SessionUse(session.id, 1)])
            await store.delete_sessions(SessionFilter(session_id=session.id))

        await asyncio.gather(*(live() for _ in range(400)))
        clients = [one for one in await admin.client_list() if one["cmd"] != "client|list"]
    await admin.aclose()
    assert len(clients) == int(said[1])
