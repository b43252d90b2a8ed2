"""The guarantee of a PostgreSQL server, judged by its settings. The probe is in `store`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.stores.guarantee import Finding, Guarantee, GuaranteeLevel, guarantee_of
from coatcheck.stores.sql.postgresql.listener import UNHEARD_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

POSTGRES_SETTINGS = (
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
    "transaction_read_only",
    "default_transaction_isolation",
    "server_version",
)

_ON_A_STANDBY: Finding = (
    GuaranteeLevel.EVENTUAL,
    "This server is a standby, or does not write: it answers with what has reached it, however old.",
)
_WEAK_COMMIT: Finding = (
    GuaranteeLevel.STRICT_UNTIL_CRASH,
    "synchronous_commit is weaker than on, and could not be raised.",
)
_NO_SYNCHRONOUS_STANDBY: Finding = (
    GuaranteeLevel.STRICT_UNTIL_FAILOVER,
    "Synchronous standbys are named and none is connected: this server cannot write, or was replaced by another.",
)
_HIDDEN_STANDBYS: Finding = (
    GuaranteeLevel.STRICT_UNTIL_FAILOVER,
    "Synchronous standbys are named; this role may not see whether one is connected: GRANT pg_read_all_stats TO it.",
)
_ASYNCHRONOUS_STANDBYS: Finding = (
    GuaranteeLevel.STRICT_UNTIL_FAILOVER,
    "The log is streamed to others and no commit waits for them: synchronous_standby_names is empty.",
)

_HONEST_DISK = "The disk keeps what it says it has written."
_NO_FAILOVER = "No other server takes over."
_SAFE_FAILOVER = (
    "If another server takes over, it has everything that was acknowledged (of several synchronous standbys the one "
    "that is furthest ahead), and the old primary is shut off for good before."
)
_NO_CANCELLED_WAITS = (
    "Nobody cancels a commit while it waits for a standby: what it did is not acknowledged, but seen until a failover."
)
_NO_FOREIGN_SETTINGS = (
    "Other clients of the pooler do not change settings of its server connections for good, as search_path: Coatcheck "
    "has a database user of its own."
)
_HEARS_NOTHING = (
    "Announcements of other processes, and of transactions of the application's own, are not heard through the pooler, "
    "and the store URL has no `listen`: subscribers "
    f"hear AnnouncementsMissed every {UNHEARD_SECONDS:.0f} seconds instead, and an open connection may outlive its "
    "session as long."
)


def judge_postgresql(
    settings: Mapping[str, str],
    standbys: Sequence[str | None],
    *,
    is_pooled: bool = False,
    is_listening: bool = True,
) -> Guarantee:
    """The guarantee of a server with these settings, as a writing connection of ours sees them.

    `standbys` has the `sync_state` of each client that the log is streamed to; None where this role may not see it.
    """
    findings = [
        (GuaranteeLevel.STRICT_UNTIL_POWER_LOSS, f"{name} is off on the server.")
        for name in ("fsync", "full_page_writes")
        if settings[name] != "on"
    ]
    if settings["in_recovery"] == "on" or settings["transaction_read_only"] == "on":
        findings.append(_ON_A_STANDBY)
    if settings["synchronous_commit"] in {"off", "local"}:
        findings.append(_WEAK_COMMIT)
    waits_for_standbys = settings["synchronous_standby_names"] != ""
    if waits_for_standbys and not {"sync", "quorum"} & set(standbys):
        findings.append(_HIDDEN_STANDBYS if None in standbys else _NO_SYNCHRONOUS_STANDBY)
    if standbys and not waits_for_standbys:
        findings.append(_ASYNCHRONOUS_STANDBYS)
    failover = [_SAFE_FAILOVER, _NO_CANCELLED_WAITS] if waits_for_standbys else [_NO_FAILOVER]
    conditions = [_HONEST_DISK, *failover, *([_NO_FOREIGN_SETTINGS] if is_pooled else [])]
    return guarantee_of(findings, conditions, settings, [] if is_listening else [_HEARS_NOTHING])
