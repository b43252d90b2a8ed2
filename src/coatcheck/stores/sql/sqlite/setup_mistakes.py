"""Mistakes in the set-up, told from outages: what has to be changed before the file can be used at all."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from coatcheck.stores.failures import MISSING_TABLES, lacks_tables

if TYPE_CHECKING:
    from pathlib import Path

_NOT_A_DATABASE = ("SQLITE_NOTADB", "SQLITE_CORRUPT")
_NOT_WRITABLE = ("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")
_NOT_TO_BE_OPENED = "SQLITE_CANTOPEN"


def setup_mistake(error: BaseException, path: Path) -> str | None:
    """The mistake in the set-up that this error shows, and its remedy; None for an outage."""
    if not isinstance(error, sqlite3.Error):
        return None
    if lacks_tables(error):
        return MISSING_TABLES
    code = str(getattr(error, "sqlite_errorname", ""))
    if code.startswith(_NOT_A_DATABASE):
        return f"the file is no SQLite database, or a damaged one; name another, or restore it from a backup ({code})"
    if code.startswith(_NOT_WRITABLE):
        return f"the file may not be written; give this process the right to write it and its folder ({code})"
    if code.startswith(_NOT_TO_BE_OPENED):
        return f"{_why_not_opened(path)} ({code})"
    return None


def _why_not_opened(path: Path) -> str:
    if not os.path.isdir(path.parent):  # noqa: PTH112 (Path raises where a folder above may not be entered)
        return f"there is no folder {str(path.parent)!r}; make it, or correct the store URL"
    if os.path.isdir(path):  # noqa: PTH112 (as above)
        return "it is a folder; the store URL has to name a file in it"
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return f"this process may not write in the folder {str(path.parent)!r}; give it the right to"
    return "this process may not open the file; give it the right to read and write it and its folder"
