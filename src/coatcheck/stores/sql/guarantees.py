"""What databases promise, judged by their settings. The probes are in `postgresql` and `sqlite`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.stores.guarantee import Guarantee, GuaranteeLevel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

POSTGRES_SETTINGS = (
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
    "transaction_read_only",
    "default_transaction_isolation",
    "server_version",
)

_NETWORK_FILE_SYSTEMS = frozenset(
    "9p afs ceph cifs fuse.glusterfs fuse.sshfs glusterfs lustre ncpfs nfs nfs4 ocfs2 smb3 smbfs vboxsf".split()  # noqa: SIM905 (as mount prints them)
)
_SYNCHRONOUS = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}

# What lowers the level, and how far.
_Finding = tuple[GuaranteeLevel, str]

_ON_A_STANDBY: _Finding = (
    GuaranteeLevel.EVENTUAL,
    "This server is a standby, or does not write: it answers with what has reached it, however old.",
)
_WEAK_COMMIT: _Finding = (
    GuaranteeLevel.STRICT_UNTIL_CRASH,
    "synchronous_commit is weaker than on, and could not be raised.",
)
_NO_SYNCHRONOUS_STANDBY: _Finding = (
    GuaranteeLevel.STRICT_UNTIL_FAILOVER,
    "Synchronous standbys are named and none is connected: this server cannot write, or was replaced by another.",
)
_HIDDEN_STANDBYS: _Finding = (
    GuaranteeLevel.STRICT_UNTIL_FAILOVER,
    "Synchronous standbys are named; this role may not see whether one is connected: GRANT pg_read_all_stats TO it.",
)
_ASYNCHRONOUS_STANDBYS: _Finding = (
    GuaranteeLevel.STRICT_UNTIL_FAILOVER,
    "The log is streamed to others and no commit waits for them: synchronous_standby_names is empty.",
)

_HONEST_DISK = "The disk keeps what it says it has written."
_LOCAL_DISK = "The file is on a disk of this machine."
_NO_FAILOVER = "No other server takes over."
_SAFE_FAILOVER = (
    "If another server takes over, it has everything that was acknowledged (of several synchronous standbys the one "
    "that is furthest ahead), and the old primary is shut off for good before."
)
_NO_CANCELLED_WAITS = (
    "Nobody cancels a commit while it waits for a standby: what it did is not acknowledged, but seen until a failover."
)
_OWN_CONNECTIONS = "Transactions of the application's own are begun on connections with synchronous=FULL."


def judge_postgresql(settings: Mapping[str, str], standbys: Sequence[str | None]) -> Guarantee:
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
    return _guarantee(findings, [_HONEST_DISK, *failover], settings)


def judge_sqlite(settings: Mapping[str, str]) -> Guarantee:
    """The guarantee of a file with these settings; `file_system` is its type, empty where that is not known."""
    file_system, journal_mode, synchronous = (settings[name] for name in ("file_system", "journal_mode", "synchronous"))
    findings = []
    if file_system in _NETWORK_FILE_SYSTEMS:
        why = f"The file is on a network ({file_system}), where neither SQLite's locks nor its WAL can be relied on."
        findings.append((GuaranteeLevel.BEST_EFFORT, why))
    if journal_mode in {"memory", "off"}:
        findings.append((GuaranteeLevel.STRICT_UNTIL_CRASH, f"journal_mode is {journal_mode}."))
    if synchronous not in {"FULL", "EXTRA"}:
        findings.append((GuaranteeLevel.STRICT_UNTIL_POWER_LOSS, f"synchronous is {synchronous}."))
    conditions = [_HONEST_DISK, _OWN_CONNECTIONS]
    return _guarantee(findings, conditions if file_system else [_LOCAL_DISK, *conditions], settings)


def synchronous_name(value: object) -> str:
    """What `PRAGMA synchronous` means by a number."""
    return _SYNCHRONOUS.get(str(value), str(value))


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system of `path`, out of Linux's `/proc/self/mountinfo`; empty if it is not in it."""
    longest, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")  # proc(5): a variable number of fields ends in a single hyphen
        fields = before.split()
        if len(fields) > 4 and after:
            point = fields[4].replace("\\040", " ")
            # Of two on one place the later covers the earlier.
            if path.is_relative_to(point) and len(point) >= len(longest):
                longest, kind = point, after.split()[0]
    return kind


def _guarantee(findings: Sequence[_Finding], conditions: Sequence[str], settings: Mapping[str, str]) -> Guarantee:
    level = min((level for level, _ in findings), default=GuaranteeLevel.STRICT)
    return Guarantee(level, tuple(why for _, why in findings), tuple(conditions), dict(settings))
