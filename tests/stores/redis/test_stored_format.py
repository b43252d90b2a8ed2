"""Data of a newer version are used where they say that they may be, and otherwise refused in words."""

from __future__ import annotations

import logging

import pytest
from redis import Redis

from coatcheck import ConfigurationError
from coatcheck.identifiers import SHARDS
from coatcheck.stores.redis.store import RedisStore
from coatcheck.stores.redis.stored_format import CODE, COMPATIBLE_WITH
from coatcheck.testing.samples import read, sign_in

pytestmark = pytest.mark.redis

KEY = f"coatcheck:{{{SHARDS[0]}}}:format"


@pytest.fixture
def server(redis_url: str) -> Redis:
    return Redis.from_url(redis_url)


def noted(server: Redis) -> object:
    return server.hgetall(KEY)


async def test_the_first_opening_notes_the_version_and_later_ones_leave_it(redis_url: str, server: Redis) -> None:
    for _ in range(2):
        async with RedisStore(redis_url):
            assert noted(server) == {b"version": b"%d" % CODE, b"lowest_code": b"%d" % COMPATIBLE_WITH}


async def test_an_older_version_is_replaced(redis_url: str, server: Redis) -> None:
    server.hset(KEY, mapping={"version": CODE - 1, "lowest_code": CODE - 1})
    async with RedisStore(redis_url):
        assert noted(server) == {b"version": b"%d" % CODE, b"lowest_code": b"%d" % COMPATIBLE_WITH}


async def test_newer_data_that_may_be_used_are_used_and_one_line_says_so(
    redis_url: str, server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    server.hset(KEY, mapping={"version": CODE + 1, "lowest_code": CODE})
    with caplog.at_level(logging.INFO, logger="coatcheck"):
        async with RedisStore(redis_url) as store:
            assert await read(store, (await sign_in(store)).id) is not None
    assert [one for one in caplog.messages if "the stored data have version" in one] == [
        (
            f"the stored data have version {CODE + 1}, and this Coatcheck knows version {CODE}; "
            f"they may be used from version {CODE} on"
        )
    ]
    assert noted(server) == {b"version": b"%d" % (CODE + 1), b"lowest_code": b"%d" % CODE}


async def test_newer_data_that_may_not_be_used_are_refused_with_both_versions(redis_url: str, server: Redis) -> None:
    server.hset(KEY, mapping={"version": CODE + 1, "lowest_code": CODE + 1})
    expected = f"they have version {CODE + 1}, which needs code that knows version {CODE + 1} or newer, and this one"
    with pytest.raises(ConfigurationError, match=expected):
        await RedisStore(redis_url).open()
    assert noted(server) == {b"version": b"%d" % (CODE + 1), b"lowest_code": b"%d" % (CODE + 1)}
