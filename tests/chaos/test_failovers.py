"""The programs run, with small numbers, so that they stay correct. The documentation claims no more than they find."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from chaos import redis_sentinel_failover
from chaos.redis_cluster_failover import CONTROL, Cluster
from coatcheck import ConfigurationError, StoreUnavailable
from coatcheck.stores.redis.store import RedisStore
from coatcheck.testing.samples import ADA, insert, new_session, register
from tests.chaos.programs import results_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.redis
@pytest.mark.sentinel
@pytest.mark.parametrize(
    ("kind", "way"), [(redis_sentinel_failover.Service, redis_sentinel_failover.KILLED), (Cluster, CONTROL)]
)
async def test_the_servers_of_a_run_answer_only_with_its_password(
    kind: type[redis_sentinel_failover.Service | Cluster], way: str
) -> None:
    """Another program that has taken a port of theirs is refused, and not mistaken for them."""
    with closing(kind(way)) as servers:
        async with RedisStore(servers.store, timeout_seconds=20) as store:
            await register(store, ADA)
        for password in re.findall(r"[0-9a-f]{32}", servers.store):
            with pytest.raises((ConfigurationError, StoreUnavailable)):
                await RedisStore(servers.store.replace(password, "another")).open()
        assert re.search(r"://:[0-9a-f]{32}@", servers.store)


@pytest.mark.extended
@pytest.mark.postgres
@pytest.mark.timeout(240)
def test_a_synchronous_pair_loses_nothing_and_an_asynchronous_one_does(tmp_path: Path) -> None:
    document = results_of("postgresql_failover", tmp_path)
    assert document["synchronous"]["undone"] == 0
    (asynchronous,) = document["runs"]["asynchronous, lags"]
    assert asynchronous["broken"], "the standby lagged, and nothing that was acknowledged is missing on it"
    assert document["old primary not fenced"]["accepted"] == document["old primary not fenced"]["revoked"]
    assert document["old primary not fenced"]["confirmed"] == 0


@pytest.mark.extended
@pytest.mark.redis
@pytest.mark.timeout(240)
def test_on_a_cluster_a_write_that_waited_for_the_replica_survives(tmp_path: Path) -> None:
    document = results_of("redis_cluster_failover", tmp_path)
    assert document["waiting"]["undone"] == 0


@pytest.mark.redis
async def test_on_a_cluster_a_session_whose_ending_did_not_wait_for_the_replica_comes_back() -> None:
    """As in the last row of the program, but without a race: such a failover does lose revocations."""
    with closing(Cluster(CONTROL)) as cluster:
        user = cluster.user()
        async with RedisStore(cluster.store) as store:
            await register(store, user)
            made = [(await insert(store, new_session(user))).id for _ in range(5)]
            waiting_store = cluster.store.replace("replicas=0", "replicas=1")
            async with RedisStore(waiting_store, timeout_seconds=20) as waiting:
                await waiting.set_session_scopes(made[0], frozenset())  # the replica has this write, and all before it
            cluster.hold_back_the_replica()
            assert len((await store.end_user_sessions(user)).ended) == 5
            assert [await store.read_session(one) for one in made] == [None] * 5
        cluster.primary.kill()
        cluster.fail_over()
        async with RedisStore(cluster.store) as store:
            assert [await store.read_session(one) is not None for one in made] == [True] * 5


@pytest.mark.extended
@pytest.mark.sentinel
@pytest.mark.timeout(240)
def test_with_sentinels_a_write_that_waited_for_the_replica_survives_and_an_old_primary_is_not_believed(
    tmp_path: Path,
) -> None:
    document = results_of("redis_sentinel_failover", tmp_path)
    assert document["waiting"]["undone"] == 0
    replaced = document["old primary goes on"]
    assert (replaced["revoked"], replaced["accepted"], replaced["later"]) == (20, 0, 0)


@pytest.mark.sentinel
async def test_with_sentinels_a_session_whose_ending_did_not_wait_for_the_replica_comes_back() -> None:
    """As in a row of the program, but without a race: such a failover does lose revocations."""
    with closing(redis_sentinel_failover.Service(redis_sentinel_failover.CONTROL)) as service:
        async with RedisStore(service.store, timeout_seconds=20) as store:
            await register(store, ADA)
            made = [(await insert(store, new_session())).id for _ in range(5)]
            waiting_store = service.store.replace("replicas=0", "replicas=1")
            async with RedisStore(waiting_store, timeout_seconds=20) as waiting:
                await waiting.set_session_scopes(made[0], frozenset())  # the replica has this write, and all before it
            service.hold_back_the_replica()
            assert len((await store.end_user_sessions(ADA)).ended) == 5
            assert [await store.read_session(one) for one in made] == [None] * 5
        service.primary.kill()
        service.fail_over()
        async with RedisStore(service.store) as store:
            assert [await store.read_session(one) is not None for one in made] == [True] * 5
