"""Servers that cannot be used are refused when a store opens, and the error says why."""

from __future__ import annotations

import pytest

from coatcheck import ConfigurationError, StoreUnavailable
from coatcheck.stores.redis.startup_checks import check
from coatcheck.stores.redis.store import RedisStore
from tests.servers.ports import free_port
from tests.servers.scripted_redis import ScriptedRedis


@pytest.mark.parametrize("version", ["6.2.14", "5.0.0"])
def test_an_old_server_is_refused(version: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Redis {version}; 7\.0 or newer"):
        check([{"redis_version": version, "cluster_enabled": "0"}], is_cluster=False)


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "8.2.1", "10.0.0"])
def test_a_new_server_is_accepted(version: str) -> None:
    check([{"redis_version": version, "cluster_enabled": "0"}], is_cluster=False)


def test_a_sentinel_is_not_taken_for_a_server() -> None:
    with pytest.raises(ConfigurationError, match=r"is a sentinel; the store URL must begin with redis\+sentinel://"):
        check([{"redis_version": "7.0.15", "redis_mode": "sentinel"}], is_cluster=False)


@pytest.mark.redis
async def test_a_member_of_a_cluster_is_not_taken_for_a_single_server(redis_cluster_url: str, redis_url: str) -> None:
    member = redis_cluster_url.replace("+cluster", "").partition(",")[0]
    with pytest.raises(
        ConfigurationError, match=r"a member of a Cluster; the store URL must begin with redis\+cluster:"
    ):
        await RedisStore(member).open()
    with pytest.raises(ConfigurationError, match="no member of a Cluster; the store URL must begin with redis:"):
        await RedisStore(redis_url.replace("://", "+cluster://")).open()


async def test_a_server_that_cannot_be_reached_is_an_outage_and_no_configuration_error() -> None:
    for scheme in ("redis", "redis+cluster"):
        with pytest.raises(StoreUnavailable):
            await RedisStore(f"{scheme}://127.0.0.1:{free_port()}").open()


async def test_a_store_that_could_not_be_opened_can_be_opened_later() -> None:
    async with ScriptedRedis(INFO=b"-LOADING Redis is loading the dataset in memory\r\n") as server:
        store = RedisStore(server.url)
        with pytest.raises(StoreUnavailable, match="LOADING"):
            await store.open()
        del server.answers["INFO"]
        async with store:
            assert (await store.guarantee()).settings["role"] == "master"
