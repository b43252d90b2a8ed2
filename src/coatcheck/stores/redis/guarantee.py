"""Judges what Redis or Valkey can promise, by its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.stores.guarantee import Guarantee, GuaranteeLevel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coatcheck.stores.redis.url import Sentinels

SETTINGS = (
    *("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "save", "maxmemory", "maxmemory-policy"),
    *("min-replicas-to-write", "min-replicas-max-lag"),
)
"""The settings that are asked for with CONFIG GET."""

FACTS = {
    **{
        name: name
        for name in ("redis_version", "valkey_version", "redis_mode", "role", "connected_slaves", "cluster_enabled")
    },
    "maxmemory_policy": "maxmemory-policy",
    "server_mode": "redis_mode",  # Valkey's name for it
}
"""The lines taken from INFO, each with its name in CONFIG, or the name it would have there."""

_HONEST_DISK = "The disk keeps what it says it has written."
_NO_FAILOVER = "No other server takes over."
_UNTOLD = (
    "The server does not tell how it writes to disk: this user may not CONFIG GET, and by its defaults the last writes "
    "before a crash may be lost."
)
_NOTHING_KEPT = "Every session ends when the server stops: it keeps nothing on disk."
_SILENT = "The primaries that do not answer now are set up like those that do."
_ANY_IS_BELIEVED = (
    "sentinels is any: a process that is cut off from most sentinels goes on with the primary that it knows, also when "
    "that one was replaced, and accepts sessions that were revoked on the new one."
)
_NOT_UNDER_WAY = "No slot is being moved to another server."


def judge(
    servers: Sequence[Mapping[str, str]],
    *,
    is_cluster: bool,
    replicas: int,
    sentinels: Sentinels | None = None,
    silent: int = 0,
) -> Guarantee:
    """The guarantee of these primaries, each given by its settings and facts; of several the weakest counts.

    `replicas` is how many replicas each revocation waits for, `sentinels` who may put one of them in the primary's
    place, `silent` how many more primaries do not answer.
    """
    findings: dict[str, GuaranteeLevel] = {}
    conditions: dict[str, None] = {}
    for server in servers:
        # A store that waits for replicas has some, even while none of them is connected.
        has_replicas = is_cluster or sentinels is not None
        is_replicated = has_replicas or replicas > 0 or server.get("connected_slaves", "0") != "0"
        for level, why in _findings(server, is_replicated=is_replicated, replicas=replicas):
            findings[why] = min(level, findings.get(why, level))
        conditions.update(dict.fromkeys(_conditions(server, is_cluster=is_cluster, is_replicated=is_replicated)))
    if silent:
        conditions[_SILENT] = None
    if sentinels is not None and sentinels.believes_any:
        findings[_ANY_IS_BELIEVED] = GuaranteeLevel.BEST_EFFORT
    if sentinels is not None and not replicas and servers:
        findings |= dict.fromkeys(_loss_of_one_that_stands_alone(servers), GuaranteeLevel.BEST_EFFORT)
    level = min(findings.values(), default=GuaranteeLevel.STRICT)
    settings = {
        name: ", ".join(dict.fromkeys(server[name] for server in servers if name in server))
        for name in dict.fromkeys(name for server in servers for name in server)
    }
    return Guarantee(level, tuple(findings), tuple(conditions), settings | {"replicas_waited_for": str(replicas)})


def _loss_of_one_that_stands_alone(servers: Sequence[Mapping[str, str]]) -> list[str]:
    """Where no revocation waits for a replica, the server's own setting limits the time for which they are lost."""
    least, lag = (servers[0].get(f"min-replicas-{name}") for name in ("to-write", "max-lag"))
    if least is None:
        return []
    setting, how_long = f"min-replicas-to-write is {least}, min-replicas-max-lag {lag}", f"about {lag} seconds"
    if "0" in {least, lag}:
        setting, how_long = "min-replicas-to-write is not set", "as long as it stands alone"
    why = f"{setting}: a primary that has lost its replicas acknowledges what no other server has, for {how_long}."
    return [why]


def _findings(server: Mapping[str, str], *, is_replicated: bool, replicas: int) -> list[tuple[GuaranteeLevel, str]]:
    findings: list[tuple[GuaranteeLevel, str]] = []
    if server.get("role") != "master":
        why = "This server is a replica: it answers with what has reached it, however old, and does not write."
        findings.append((GuaranteeLevel.EVENTUAL, why))
    if is_replicated:
        waited = "does not wait for any" if not replicas else f"waits for {replicas}, which Redis need not choose"
        why = (
            "A replica can take over, and Redis chooses it without asking what it has: acknowledged revocations can "
            f"come back. Each revocation {waited}."
        )
        findings.append((GuaranteeLevel.BEST_EFFORT, why))
    if server.get("maxmemory-policy", "noeviction").startswith("allkeys"):
        policy = server["maxmemory-policy"]
        why = f"maxmemory-policy is {policy}: the server may drop what says which sessions a user has."
        findings.append((GuaranteeLevel.BEST_EFFORT, why))
    if "appendonly" not in server:
        findings.append((GuaranteeLevel.STRICT_UNTIL_CRASH, _UNTOLD))
    if server.get("appendonly") == "yes" and server.get("appendfsync") != "always":
        why = f"appendfsync is {server.get('appendfsync')}: the last seconds before a crash may be lost."
        findings.append((GuaranteeLevel.STRICT_UNTIL_CRASH, why))
    if server.get("appendonly") == "yes" and server.get("no-appendfsync-on-rewrite") == "yes":
        why = (
            "no-appendfsync-on-rewrite is yes: while a child process rewrites the file or saves a snapshot, what is "
            "acknowledged is not yet on the disk."
        )
        findings.append((GuaranteeLevel.STRICT_UNTIL_POWER_LOSS, why))
    if server.get("appendonly") == "no" and server.get("save"):
        why = "appendonly is no and save is on: after a crash an older state comes back, and revoked sessions with it."
        findings.append((GuaranteeLevel.STRICT_UNTIL_CRASH, why))
    return findings


def _conditions(server: Mapping[str, str], *, is_cluster: bool, is_replicated: bool) -> list[str]:
    conditions = []
    if server.get("appendonly") == "yes":
        conditions.append(_HONEST_DISK)
    if server.get("appendonly") == "no" and not server.get("save"):
        conditions.append(_NOTHING_KEPT)
    if server.get("maxmemory-policy", "").startswith("volatile"):
        policy = server["maxmemory-policy"]
        conditions.append(f"Memory does not run out: maxmemory-policy {policy} would end sessions that live.")
    if is_cluster:
        conditions.append(_NOT_UNDER_WAY)
    elif not is_replicated:
        conditions.append(_NO_FAILOVER)
    return conditions
