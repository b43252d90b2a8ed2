"""Writing keys to Redis in bulk, for peers that keep a session as one value that expires."""

from __future__ import annotations

import asyncio
import os
from itertools import islice
from typing import TYPE_CHECKING

from redis.asyncio import Redis

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta


def connect() -> Redis:
    """A client for the database at BENCH_REDIS, with a pool that grows as needed (the default)."""
    return Redis.from_url(os.environ["BENCH_REDIS"])


async def insert(redis: Redis, values: Iterable[tuple[str, bytes]], lifetime: timedelta) -> None:
    """Set so many keys, by pipelines."""
    remaining = iter(values)
    while some := tuple(islice(remaining, 5000)):
        async with redis.pipeline(transaction=False) as pipeline:
            for key, value in some:
                pipeline.set(key, value, ex=lifetime)
            await pipeline.execute()


async def insert_expired(redis: Redis, key: str, value: bytes) -> None:
    """Set a key for a millisecond, and wait until it has expired."""
    await redis.set(key, value, px=1)
    await asyncio.sleep(0.02)
