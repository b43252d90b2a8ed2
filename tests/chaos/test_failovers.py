"""The programs run, small, so that they cannot rot. What they find is what the documentation claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.programs import results_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.postgres
@pytest.mark.timeout(240)
def test_a_synchronous_pair_loses_nothing_and_what_should_be_seen_to_lose_something_does(tmp_path: Path) -> None:
    document = results_of("postgresql_failover", tmp_path)
    assert document["synchronous"]["undone"] == 0
    (asynchronous,) = document["runs"]["asynchronous, lags"]
    assert asynchronous["broken"], "the standby lagged, and nothing that was acknowledged is missing on it"
    assert document["old primary not fenced"]["accepted"] == document["old primary not fenced"]["revoked"]
    assert document["old primary not fenced"]["confirmed"] == 0


@pytest.mark.redis
@pytest.mark.timeout(240)
def test_on_a_cluster_what_has_waited_for_the_replica_survives(tmp_path: Path) -> None:
    document = results_of("redis_cluster_failover", tmp_path)
    assert document["waiting"]["undone"] == 0
    # What is lost where nothing waits, and what an old primary accepts when it goes on, are races in so short a run.
    # Both are counted, and the program ends once the old primary accepts nothing.
    assert len(document["runs"]["nothing waits, it lags"]) == 1
    assert document["old primary goes on"]["revoked"] == 20
