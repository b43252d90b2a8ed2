"""Scripts are called by their digest, and a server that does not know them causes no error."""

from __future__ import annotations

import asyncio
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from coatcheck.identifiers import UserId
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.redis.scripts import script
from coatcheck.stores.redis.store import RedisStore
from coatcheck.testing.samples import ADA, read, sign_in, stored_ids

if TYPE_CHECKING:
    from tests.servers.redis import RedisServer
    from tests.servers.redis_cluster import RedisCluster

NAMES = sorted(
    name.removesuffix(".lua")
    for name in (each.name for each in (files("coatcheck.stores.redis") / "scripts").iterdir())
    if name.endswith(".lua") and name != "prelude.lua"
)
USERS = [UserId(f"user {number}") for number in range(30)]  # some with each member


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_of_a_script_is_the_one_that_the_server_computes(name: str, shared_redis: RedisServer) -> None:
    found = script(name)
    assert found.digest == sha1(found.text.encode(), usedforsecurity=False).hexdigest()
    assert shared_redis.ask("SCRIPT LOAD", found.text) == found.digest


@pytest.mark.parametrize("name", NAMES)
def test_no_script_runs_on_a_replica(name: str) -> None:
    """With the flag no-writes a replica would run it."""
    first, *_ = script(name).text.splitlines()
    assert first in {"#!lua", "#!lua flags=allow-oom"}


async def test_a_server_that_forgot_the_scripts_causes_no_error(
    redis_server: RedisServer,
) -> None:
    async with RedisStore(redis_server.url) as store:
        session = await sign_in(store)
        redis_server.ask("SCRIPT FLUSH")
        await store.end_user_sessions(ADA)
        assert await read(store, session.id) is None
        redis_server.ask("SCRIPT FLUSH")
        assert await read(store, (await sign_in(store)).id) is not None


async def test_a_batch_that_is_sent_again_with_its_scripts_is_done_once(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coatcheck.stores.redis.store.epoch_step", lambda: 1)
    async with RedisStore(redis_server.url) as store:
        for user in USERS:
            await sign_in(store, user)
        redis_server.ask("SCRIPT FLUSH")
        changes = await asyncio.gather(*(store.end_user_sessions(user) for user in USERS))
        assert [len(each.ended) for each in changes] == [1] * len(USERS)
        revocations = {(await store.read_user(user)).epochs.revocations for user in USERS}  # type: ignore[union-attr]  # they exist
        assert revocations == {1}


async def test_a_restarted_server_causes_no_error(redis_server: RedisServer) -> None:
    """It keeps nothing on disk: keys and scripts are gone, and the connections with them."""
    async with RedisStore(redis_server.url) as store:
        session = await sign_in(store)
        redis_server.stop()
        redis_server.start()
        assert (await store.delete_sessions(SessionFilter(session_id=session.id))).ended == ()
        assert await read(store, (await sign_in(store)).id) is not None


async def test_each_primary_of_a_cluster_gets_the_scripts_it_does_not_know(shared_redis_cluster: RedisCluster) -> None:
    shared_redis_cluster.flush()
    async with RedisStore(shared_redis_cluster.url) as store:
        await asyncio.gather(*(sign_in(store, user) for user in USERS))
        for node in shared_redis_cluster.nodes:
            node.ask("SCRIPT FLUSH")
        await asyncio.gather(*(store.end_user_sessions(user) for user in USERS))
        assert await stored_ids(store) == set()
        digest = script("end_user_sessions").digest
        assert [node.ask("SCRIPT EXISTS", digest) for node in shared_redis_cluster.primaries] == [[True]] * 3
