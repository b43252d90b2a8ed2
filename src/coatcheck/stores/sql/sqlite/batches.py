"""Sign-ins and revocations that share a transaction on SQLite, in a thread and over a connection of their own.

A mistake of one of a batch is undone for that one alone, which is left without an answer and then done by itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from coatcheck.errors import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import UserId
from coatcheck.stores.announcement import Announcement, encode
from coatcheck.stores.failures import cannot_answer
from coatcheck.stores.records import EndedSession, Insertion
from coatcheck.stores.sql.rows import INSERTED_COLUMNS, row_of
from coatcheck.stores.sql.sqlite import outbox
from coatcheck.stores.sql.transactions import INDETERMINATE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coatcheck.clock import Clock
    from coatcheck.opening import Opening
    from coatcheck.stores.sql.group_commit import PlainDeletion, PlainInsertion

_COLUMNS = [column.name for column in INSERTED_COLUMNS]
_INSERT = f"""
INSERT INTO coatcheck_sessions ({", ".join(_COLUMNS)})
SELECT {", ".join(f":{name}" for name in _COLUMNS)}
FROM coatcheck_users AS owner
WHERE owner.id = :user_id AND owner.revocations = :revocations
    AND (:rescopes IS NULL OR owner.rescopes = :rescopes)
    AND (:began_at IS NULL OR owner.last_ending IS NULL OR owner.last_ending <= :began_at)
    AND CASE WHEN :known_scopes IS NULL THEN owner.is_registered ELSE owner.scopes = :known_scopes END
"""  # noqa: S608 (constants only)

_OWNER = "SELECT user_id FROM coatcheck_sessions WHERE id = :id AND (:user_id IS NULL OR user_id = :user_id)"
_DELETE = "DELETE FROM coatcheck_sessions WHERE id = ?"

W = TypeVar("W")
R = TypeVar("R")


class GroupWriter:
    """One connection and one thread for it. A batch is one transaction, and one wait for the disk."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], clock: Clock) -> None:
        """Set up without connecting; `connect` makes a connection without transactions of its own accord."""
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self.clock = clock

    def open(self) -> None:
        """Allow writing."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="coatcheck-write")

    async def close(self) -> None:
        """Bring the batch that is being written to its end, and disconnect."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def write(
        self,
        one: Callable[[sqlite3.Connection, W], R | None],
        batch: Sequence[W],
        *,
        when_lost: StoreUnavailable,
    ) -> Mapping[W, R]:
        """Do `one` to each of the batch in one durable transaction; those that gave a result are answered.

        Raises:
            StoreUnavailable: nothing was written.
            when_lost: the COMMIT failed; the outcome is not known.
        """
        if self._thread is None:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, one, batch, when_lost)

    def _write(
        self, one: Callable[[sqlite3.Connection, W], R | None], batch: Sequence[W], when_lost: StoreUnavailable
    ) -> Mapping[W, R]:
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise StoreUnavailable(cannot_answer(error)) from error
        try:
            done = {}
            for item in batch:
                # Values that SQLite refuses, or Python cannot hand to it (a lone surrogate, a number of 65 bits).
                with suppress(sqlite3.Error, ValueError, OverflowError):
                    result = one(connection, item)
                    if result is not None:
                        done[item] = result
                if not connection.in_transaction:  # a full disk ends the transaction with the statement
                    raise StoreUnavailable("the store cannot answer (the transaction was rolled back)")
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise when_lost from error
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return done

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = self._connect()
            connection.execute("PRAGMA synchronous = FULL")
            self._connection = connection
        return self._connection


class SessionInserter:
    """Inserts a batch of sessions."""

    def __init__(self, writer: GroupWriter) -> None:
        """By `writer`, which other runners use too."""
        self._writer = writer

    async def run(self, keys: Sequence[PlainInsertion]) -> Mapping[PlainInsertion, Insertion]:
        lost = StoreUnavailable("the store cannot answer (a COMMIT failed)")
        return await self._writer.write(self._insert, keys, when_lost=lost)

    def _insert(self, connection: sqlite3.Connection, plain: PlainInsertion) -> Insertion | None:
        new, now_us = plain.session, self._writer.clock.now_us()
        expected = {
            "revocations": plain.expected_revocations,
            "rescopes": plain.expected_rescopes,
            "began_at": None if plain.began_at is None else int(plain.began_at),
            "known_scopes": plain.known_scopes,
        }
        is_inserted = connection.execute(_INSERT, row_of(new, now_us) | expected).rowcount == 1
        return Insertion(new.inserted(now_us)) if is_inserted else None


class SessionDeleter:
    """Deletes a batch of sessions."""

    def __init__(self, writer: GroupWriter, opening: Opening) -> None:
        """By `writer`, which other runners use too. The name of `opening` signs the announcements."""
        self._writer = writer
        self._opening = opening

    async def run(self, keys: Sequence[PlainDeletion]) -> Mapping[PlainDeletion, EndedSession]:
        return await self._writer.write(self._delete, keys, when_lost=RevocationIndeterminate(INDETERMINATE))

    def _delete(self, connection: sqlite3.Connection, deletion: PlainDeletion) -> EndedSession | None:
        found = connection.execute(_OWNER, {"id": deletion.session_id, "user_id": deletion.user_id}).fetchone()
        if found is None:
            return None
        ended, now_us = EndedSession(UserId(found[0]), deletion.session_id), self._writer.clock.now_us()
        # First, so that nothing is deleted where it cannot be announced.
        connection.execute(outbox.FORGET, (now_us - outbox.KEPT_US,))
        for text in encode(Announcement(ended.user_id, ended.session_id), self._opening.name):
            connection.execute(outbox.INSERT, (now_us, text))
        connection.execute(_DELETE, (deletion.session_id,))
        return ended
