"""The guarantee of a SQLite file, judged by its settings. The probe is in `store`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.stores.guarantee import Finding, Guarantee, GuaranteeLevel, guarantee_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NETWORK_FILE_SYSTEMS = frozenset(
    "9p afs ceph cifs fuse.glusterfs fuse.sshfs glusterfs lustre ncpfs nfs nfs4 ocfs2 smb3 smbfs vboxsf".split()  # noqa: SIM905 (as mount prints them)
)
_SYNCHRONOUS = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}

_HONEST_DISK = "The disk keeps what it says it has written."
_LOCAL_DISK = "The file is on a disk of this machine."
_OWN_CONNECTIONS = "Transactions of the application's own are begun on connections with synchronous=FULL."


def judge_sqlite(settings: Mapping[str, str]) -> Guarantee:
    """The guarantee of a file with these settings; `file_system` is its type, empty where that is not known."""
    file_system, journal_mode, synchronous = (settings[name] for name in ("file_system", "journal_mode", "synchronous"))
    findings: list[Finding] = []
    if file_system in _NETWORK_FILE_SYSTEMS:
        why = f"The file is on a network ({file_system}), where neither SQLite's locks nor its WAL can be relied on."
        findings.append((GuaranteeLevel.BEST_EFFORT, why))
    if journal_mode in {"memory", "off"}:
        findings.append((GuaranteeLevel.STRICT_UNTIL_CRASH, f"journal_mode is {journal_mode}."))
    if synchronous not in {"FULL", "EXTRA"}:
        findings.append((GuaranteeLevel.STRICT_UNTIL_POWER_LOSS, f"synchronous is {synchronous}."))
    conditions = [_HONEST_DISK, _OWN_CONNECTIONS]
    return guarantee_of(findings, conditions if file_system else [_LOCAL_DISK, *conditions], settings)


def synchronous_name(value: object) -> str:
    """The name of a setting of `PRAGMA synchronous`, which SQLite tells as a number."""
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
