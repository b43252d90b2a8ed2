"""The guarantee that the settings of Redis servers allow, each by itself and all together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from coatcheck import GuaranteeLevel
from coatcheck.stores.redis.guarantee import judge
from coatcheck.stores.redis.url import Sentinels

if TYPE_CHECKING:
    from coatcheck.stores.guarantee import Guarantee

SOUND = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "save": "",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "redis_version": "7.0.15",
    "role": "master",
    "connected_slaves": "0",
    "cluster_enabled": "0",
}


def test_a_server_by_itself_that_syncs_each_write_is_strict() -> None:
    found = judge([SOUND], is_cluster=False, replicas=0)
    assert found.level == GuaranteeLevel.STRICT
    assert found.reasons == ()
    assert found.conditions == ("The disk keeps what it says it has written.", "No other server takes over.")
    assert found.settings == SOUND | {"replicas_waited_for": "0"}


@pytest.mark.parametrize(
    ("changed", "level", "reason"),
    [
        ({"appendfsync": "everysec"}, GuaranteeLevel.STRICT_UNTIL_CRASH, "everysec"),
        ({"appendfsync": "no"}, GuaranteeLevel.STRICT_UNTIL_CRASH, "appendfsync is no"),
        ({"no-appendfsync-on-rewrite": "yes"}, GuaranteeLevel.STRICT_UNTIL_POWER_LOSS, "no-appendfsync-on-rewrite"),
        ({"appendonly": "no", "save": "3600 1"}, GuaranteeLevel.STRICT_UNTIL_CRASH, "older state"),
        ({"role": "slave"}, GuaranteeLevel.EVENTUAL, "replica"),
        ({"connected_slaves": "1"}, GuaranteeLevel.BEST_EFFORT, "does not wait for any"),
        ({"maxmemory-policy": "allkeys-lru"}, GuaranteeLevel.BEST_EFFORT, "allkeys-lru"),
        ({"maxmemory-policy": "allkeys-random"}, GuaranteeLevel.BEST_EFFORT, "allkeys-random"),
    ],
)
def test_a_single_weak_setting_lowers_the_level(changed: dict[str, str], level: GuaranteeLevel, reason: str) -> None:
    found = judge([SOUND | changed], is_cluster=False, replicas=0)
    assert found.level == level
    assert len(found.reasons) == 1
    assert reason in found.reasons[0]


@pytest.mark.parametrize(
    ("changed", "condition"),
    [
        ({"appendonly": "no"}, "Every session ends when the server stops"),
        ({"appendonly": "no", "no-appendfsync-on-rewrite": "yes"}, "Every session ends when the server stops"),
        ({"maxmemory-policy": "volatile-ttl"}, "Memory does not run out: maxmemory-policy volatile-ttl"),
    ],
)
def test_a_setting_that_can_only_end_sessions_is_a_condition(changed: dict[str, str], condition: str) -> None:
    found = judge([SOUND | changed], is_cluster=False, replicas=0)
    assert found.level == GuaranteeLevel.STRICT
    assert any(each.startswith(condition) for each in found.conditions)


def test_settings_that_a_server_does_not_tell_count_as_its_defaults() -> None:
    told = {"redis_version", "role", "connected_slaves", "maxmemory-policy"}
    found = judge([{name: SOUND[name] for name in told}], is_cluster=False, replicas=0)
    assert found.level == GuaranteeLevel.STRICT_UNTIL_CRASH
    assert len(found.reasons) == 1
    assert "CONFIG GET" in found.reasons[0]


def test_a_cluster_is_best_effort_however_many_replicas_it_waits_for() -> None:
    for replicas, said in ((0, "does not wait for any"), (1, "waits for 1, which Redis need not choose")):
        found = judge([SOUND, SOUND], is_cluster=True, replicas=replicas)
        assert found.level == GuaranteeLevel.BEST_EFFORT
        assert said in found.reasons[0]
        assert found.conditions[-1] == "No slot is being moved to another server."


def test_a_store_that_waits_for_a_replica_counts_as_replicated_while_none_is_connected() -> None:
    """The replica may lack the latest changes, and become the primary the next moment."""
    found = judge([SOUND], is_cluster=False, replicas=1)
    assert found.level == GuaranteeLevel.BEST_EFFORT
    assert "waits for 1" in found.reasons[0]
    assert found.conditions == ("The disk keeps what it says it has written.",)


def _with_sentinels(changed: dict[str, str], *, replicas: int, believes_any: bool = False) -> Guarantee:
    sentinels = Sentinels("service", believes_any, None, None)
    return judge([SOUND | changed], is_cluster=False, replicas=replicas, sentinels=sentinels)


def test_with_sentinels_it_is_best_effort_even_while_no_replica_is_connected() -> None:
    for replicas, said in ((0, "does not wait for any"), (1, "waits for 1, which Redis need not choose")):
        found = _with_sentinels({}, replicas=replicas)
        assert found.level == GuaranteeLevel.BEST_EFFORT
        assert said in found.reasons[0]
        assert "No other server takes over." not in found.conditions


@pytest.mark.parametrize(
    ("least", "lag", "said"),
    [
        ("0", "10", "is not set: .* for as long as it stands alone"),
        ("1", "0", "is not set: .* for as long as it stands alone"),
        ("1", "10", "is 1, min-replicas-max-lag 10: .* for about 10 seconds"),
    ],
)
def test_where_no_revocation_waits_the_setting_of_the_server_limits_what_is_lost(
    least: str, lag: str, said: str
) -> None:
    settings = {"min-replicas-to-write": least, "min-replicas-max-lag": lag}
    reasons = _with_sentinels(settings, replicas=0).reasons
    assert len(reasons) == 2
    assert re.search(said, reasons[1])
    assert len(_with_sentinels(settings, replicas=1).reasons) == 1


def test_sentinels_of_which_any_is_believed_are_a_reason_of_their_own() -> None:
    reasons = _with_sentinels({}, replicas=1, believes_any=True).reasons
    assert len(reasons) == 2
    assert "sentinels is any" in reasons[1]


def test_primaries_that_are_down_are_a_condition() -> None:
    found = judge([SOUND], is_cluster=True, replicas=1, silent=1)
    assert found.conditions[-1] == "The primaries that do not answer now are set up like those that do."


def test_the_weakest_of_several_servers_counts_and_each_reason_is_given_once() -> None:
    weak = SOUND | {"appendfsync": "everysec"}
    found = judge([SOUND, weak, weak, SOUND | {"role": "slave"}], is_cluster=False, replicas=0)
    assert found.level == GuaranteeLevel.EVENTUAL
    assert len(found.reasons) == 2
    assert found.settings["appendfsync"] == "always, everysec"
    assert found.settings["role"] == "master, slave"
