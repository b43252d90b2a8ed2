"""Announcements on SQLite: a table in the same file, which other processes look at when the file has changed."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

POLL_SECONDS = 0.05
KEPT_US = 60_000_000
"""How long an announcement stays. A listener that has not looked for so long has missed it, and is told so."""

INSERT = "INSERT INTO coatcheck_announcements (announced_at, text) VALUES (?, ?)"
FORGET = "DELETE FROM coatcheck_announcements WHERE announced_at < ?"

_SEQUENCE = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'coatcheck_announcements'"
_PROBE = "SELECT id FROM coatcheck_announcements LIMIT 1"  # the sequence is there without the table
_NEWER = "SELECT id, text FROM coatcheck_announcements WHERE id > ? AND id <= ? ORDER BY id"

_log = logging.getLogger(__name__)


async def announcements(connect: Callable[[], sqlite3.Connection]) -> AsyncGenerator[str | None, None]:
    """The texts of the table from now on; None where some may have been missed, first of all when looking begins."""
    is_out_of_reach = False
    while True:
        try:
            with closing(connect()) as connection:
                version, last = _version(connection), _sequence(connection)
                is_out_of_reach = False
                yield None
                while True:
                    await asyncio.sleep(POLL_SECONDS)
                    if (now := _version(connection)) == version:
                        continue
                    version = now
                    newest = _sequence(connection)
                    for text in _between(connection, last, newest):
                        yield text
                    last = newest
        except sqlite3.Error as error:
            _log.debug("announcements cannot be read: %s", type(error).__name__)
            if not is_out_of_reach:
                is_out_of_reach = True
                yield None
            await asyncio.sleep(POLL_SECONDS)


def _between(connection: sqlite3.Connection, last: int, newest: int) -> Iterator[str | None]:
    rows = connection.execute(_NEWER, (last, newest)).fetchall()
    # Ids have no gaps (an INSERT that is rolled back takes its number back): those that are missing were forgotten.
    if len(rows) < newest - last or newest < last:
        yield None
    for _, text in rows:
        yield text


def _version(connection: sqlite3.Connection) -> int:
    """Changes when another connection commits to the file; costs a microsecond or two."""
    number: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return number


def _sequence(connection: sqlite3.Connection) -> int:
    connection.execute(_PROBE)
    number: int = connection.execute(_SEQUENCE).fetchone()[0]
    return number
