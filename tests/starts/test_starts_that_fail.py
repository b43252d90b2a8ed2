"""Each way in which a start can fail: the last line of its error says what to do or where, and nothing is a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.starts.postgresql import POSTGRES
from tests.starts.redis import REDIS, SENTINEL
from tests.starts.sqlite import SQLITE
from tests.starts.ways import Places, Shared, Way, check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    servers = Shared()
    yield servers
    servers.close()


@pytest.fixture
def places(tmp_path: Path, shared: Shared) -> Places:
    return Places(tmp_path, shared)


@pytest.mark.redis
@REDIS.tried
async def test_on_redis(way: Way, places: Places) -> None:
    await check(way, places)


@pytest.mark.postgres
@POSTGRES.tried
async def test_on_postgresql(way: Way, places: Places) -> None:
    await check(way, places)


@SQLITE.tried
async def test_on_sqlite(way: Way, places: Places) -> None:
    await check(way, places)


@pytest.mark.sentinel
@SENTINEL.tried
async def test_with_sentinels(way: Way, places: Places) -> None:
    await check(way, places)
