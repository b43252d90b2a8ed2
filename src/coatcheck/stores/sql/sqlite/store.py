"""The SQLite store: one file in WAL mode, any number of processes on one machine.

Reads run in the event loop's own thread, on a connection of their own: a read by primary key takes about 10 µs where
a worker thread takes 40 to 70 for the way there and back, and in WAL mode a read never waits for a writer.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import URL, ColumnElement, Table, event, literal, select, type_coerce, update
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import BigInteger
from sqlalchemy.util.concurrency import in_greenlet

from coatcheck.clock import Clock, SystemClock
from coatcheck.errors import ConfigurationError, NotOpenError, OpenElsewhereError, StoreUnavailable
from coatcheck.hidden import shown_when_made
from coatcheck.opening import NOT_OPEN, running_loop
from coatcheck.stores.announcement import encode
from coatcheck.stores.batching import Batcher
from coatcheck.stores.failures import cannot_answer
from coatcheck.stores.given_positions import NUMBER
from coatcheck.stores.records import Position
from coatcheck.stores.sql.group_commit import revocation_batcher
from coatcheck.stores.sql.rows import READING_COLUMN_LIST, USER_COLUMNS, reading_of, user_of
from coatcheck.stores.sql.schema import Timestamp, metadata, sessions, sqlite_metadata, users
from coatcheck.stores.sql.sqlite import outbox
from coatcheck.stores.sql.sqlite.batches import GroupWriter, SessionDeleter, SessionInserter
from coatcheck.stores.sql.sqlite.callers_transaction import check_file, join
from coatcheck.stores.sql.sqlite.guarantee import file_system_of, judge_sqlite, synchronous_name
from coatcheck.stores.sql.sqlite.setup_mistakes import setup_mistake
from coatcheck.stores.sql.store import SqlStore
from coatcheck.stores.sql.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.stores.announcement import Announcement
    from coatcheck.stores.guarantee import Guarantee
    from coatcheck.stores.records import SessionReading, SessionUse, UserRecord

_MIN_VERSION = (3, 35, 0)  # RETURNING
_BUSY_TIMEOUT_SECONDS = 5.0
_BUSY_PAUSE_SECONDS = 0.01
_READ_TIMEOUT_SECONDS = 0.05

_opened: WeakSet[SqliteStore] = WeakSet()
"""Every store that was opened, so that a forked child knows which files its parent has open."""

_MOUNTS = Path("/proc/self/mountinfo")

_READ_SESSION = f"SELECT {READING_COLUMN_LIST} FROM coatcheck_sessions WHERE id = ?"  # noqa: S608 (constants only)
_USER_COLUMN_LIST = ", ".join(column.name for column in USER_COLUMNS)
_READ_USER = f"SELECT {_USER_COLUMN_LIST} FROM coatcheck_users WHERE id = ?"  # noqa: S608 (constants only)

# At least the time, so that the number is above all that was ever read from a file in whose place a backup was put.
_COUNT_ENDING = (
    "INSERT INTO coatcheck_endings (id, number) VALUES (1, max(1, ?)) "
    "ON CONFLICT (id) DO UPDATE SET number = max(number + 1, excluded.number) RETURNING number"
)
_POSITION = "SELECT coalesce(max(number), 0) FROM coatcheck_endings"
_POSITION_FORM = re.compile(NUMBER)

# Moves forward, or back where the stored time is ahead of the clock; never past the clock (:now).
_TOUCH_SESSION = """
UPDATE coatcheck_sessions
SET last_used_at = min(:now, CASE WHEN last_used_at > :now THEN :used_at ELSE max(last_used_at, :used_at) END)
WHERE id = :id
"""


class SqliteStore(SqlStore):
    """Sessions and users in one SQLite file.

    Every commit of a sign-in, a revocation or a change of scopes is on the disk when it returns (`synchronous=FULL`).
    """

    def __init__(self, path: Path, *, clock: Clock | None = None, migrates: bool = True) -> None:
        """A store in the file `path`, made if it is missing. `clock` stands in for the machine's, for tests.

        Raises:
            ConfigurationError: the SQLite library of this Python is too old.
        """
        if sqlite3.sqlite_version_info < _MIN_VERSION:
            needed = ".".join(map(str, _MIN_VERSION))
            raise ConfigurationError(f"SQLite {needed} or newer is needed; this Python has {sqlite3.sqlite_version}")
        self._path = path.absolute()  # connections are made later too, when the folder may have changed
        self._clock = clock or SystemClock()
        self._reader: sqlite3.Connection | None = None
        self._toucher: sqlite3.Connection | None = None
        # One thread, so that touches follow each other even where whoever asked for one was cancelled.
        self._touch_thread: ThreadPoolExecutor | None = None
        transactions = Transactions(
            dialect="sqlite",
            driver_errors=(sqlite3.Error,),
            timeout_seconds=2 * _BUSY_TIMEOUT_SECONDS,
            join=self._join,
        )
        self._writer = GroupWriter(self._connect, self._clock)
        super().__init__(
            SqliteDialect(self._clock),
            transactions,
            insertions=Batcher([SessionInserter(self._writer)], timeout_seconds=transactions.timeout_seconds),
            deletions=revocation_batcher(
                SessionDeleter(self._writer, transactions.opening), timeout_seconds=transactions.timeout_seconds
            ),
            migrates=migrates,
        )

    @shown_when_made
    def __repr__(self) -> str:
        """Show the file."""
        return f"SqliteStore({str(self._path)!r})"

    async def guarantee(self) -> Guarantee:
        async with self._transactions.read(None) as connection:
            await connection.execute(select(sessions.c.id).limit(1))  # the pragmas answer without the file too
            journal_mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one()
            synchronous = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one()
        return judge_sqlite(
            {
                "journal_mode": str(journal_mode),
                "synchronous": synchronous_name(synchronous),
                "file_system": await asyncio.to_thread(self._file_system),
                "sqlite_version": sqlite3.sqlite_version,
            }
        )

    def _announced(self) -> AsyncGenerator[str | None, None]:
        # In the event loop, as the reader: it must not wait there.
        return outbox.announcements(lambda: self._connect(busy_timeout_seconds=_READ_TIMEOUT_SECONDS))

    def _file_system(self) -> str:
        try:
            mounts = _MOUNTS.read_text(errors="surrogateescape")
        except OSError:  # elsewhere than on Linux
            return ""
        return file_system_of(self._path.resolve(), mounts)

    async def read_session(self, session_id: SessionId) -> SessionReading | None:
        row = self._read(_READ_SESSION, session_id)
        return None if row is None else reading_of(row, self._clock.now_us())

    def _read(self, statement: str, *keys: str) -> tuple[Any, ...] | None:
        if running_loop() is not self._opening.loop:
            raise self._opening.refusal()
        reader = self._reader
        if reader is None:  # it is being opened
            raise NotOpenError(NOT_OPEN)
        try:
            # A read transaction of its own, which begins now: nothing older can be seen.
            row: tuple[Any, ...] | None = reader.execute(statement, keys).fetchone()
        except sqlite3.Error as error:
            raise StoreUnavailable(cannot_answer(error)) from error
        return row

    async def _read_user(self, user_id: UserId) -> UserRecord | None:
        row = self._read(_READ_USER, user_id)
        return None if row is None else user_of(row)

    async def _read_position(self) -> Position:
        (number,) = self._read(_POSITION) or (0,)
        return Position(str(number))

    async def _read_position_inside(self, connection: AsyncConnection) -> Position:
        # Each of the two may be too late. What a transaction of BEGIN DEFERRED reads next is as old as its first read,
        # older than endings that are seen outside; and what is seen inside has the transaction's own endings in it.
        await self._check_file(connection)
        inside = await self._dialect.position(connection)
        return min(inside, await self._read_position(), key=int)

    async def touch_sessions(self, uses: Sequence[SessionUse]) -> frozenset[SessionId]:
        self._opening.check()
        thread = self._touch_thread
        if thread is None:  # it is being opened
            raise NotOpenError(NOT_OPEN)
        with self._transactions.answering():
            return await asyncio.get_running_loop().run_in_executor(thread, self._touch, uses)

    def _touch(self, uses: Sequence[SessionUse]) -> frozenset[SessionId]:
        if self._toucher is None:
            # Lossy by design: in WAL mode NORMAL leaves out the fsync of each commit, and only a power cut can tell.
            self._toucher = self._connect()
            self._toucher.execute("PRAGMA synchronous = NORMAL")
        connection, now_us = self._toucher, self._clock.now_us()
        connection.execute("BEGIN IMMEDIATE")
        try:
            touched = frozenset(
                use.session_id
                for use in uses
                if connection.execute(
                    _TOUCH_SESSION, {"now": now_us, "used_at": use.used_at_us, "id": use.session_id}
                ).rowcount
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        return touched

    async def _join(self, connection: AsyncConnection) -> None:
        await self._check_file(connection)
        await join(connection)

    async def _check_file(self, connection: AsyncConnection) -> None:
        if not self._transactions.is_on_own_engine(connection):
            await check_file(connection, self._path)

    async def _setup_mistake(self, error: BaseException) -> str | None:
        return setup_mistake(error, self._path)

    async def _prepare(self) -> None:
        self._refuse_inherited_file()
        _opened.add(self)
        await asyncio.to_thread(self._switch_to_wal)

    def _create_engine(self) -> AsyncEngine:
        # At DEBUG aiosqlite logs each statement with its parameters, and with them stored hashes.
        driver_log = logging.getLogger("aiosqlite")
        if driver_log.level == logging.NOTSET:
            driver_log.setLevel(logging.INFO)
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(self._path)),
            connect_args={"timeout": _BUSY_TIMEOUT_SECONDS},
            hide_parameters=True,  # errors and logs would show stored hashes
        )
        event.listen(engine.sync_engine, "connect", _set_up_connection)
        event.listen(engine.sync_engine, "begin", _begin)
        event.listen(engine.sync_engine, "invalidate", _give_the_file_back)
        return engine

    def _refuse_inherited_file(self) -> None:
        """Refuse a file that a parent process had open when it forked this one.

        SQLite notes in memory which locks this process has on a file. A child inherits the notes and not the locks.
        https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_file_across_a_fork_
        """
        path = self._path.resolve()
        if any(one._opening.is_inherited and one._path.resolve() == path for one in _opened):  # noqa: SLF001 (of the same class)
            raise OpenElsewhereError(
                f"{self!r} was open in the parent process when it forked this one, and SQLite cannot share a file with "
                "a forked child; fork before the pod is opened, or start the process with the method `spawn`"
            )

    def _switch_to_wal(self) -> None:
        """Make the file if it is missing. Other processes may be doing the same, and SQLite does not wait for them."""
        give_up = time.monotonic() + _BUSY_TIMEOUT_SECONDS
        with closing(self._connect()) as connection:
            while True:
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                        raise
                    time.sleep(_BUSY_PAUSE_SECONDS)
                else:
                    return

    async def _open_direct(self) -> None:
        # In WAL mode a reader waits for nobody but a recovery after a crash, and the event loop not even for that.
        self._reader = self._connect(busy_timeout_seconds=_READ_TIMEOUT_SECONDS)
        self._reader.execute("PRAGMA query_only = ON")
        self._touch_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="coatcheck-touch")
        self._writer.open()

    async def _close_direct(self) -> None:
        await self._writer.close()
        thread, self._touch_thread = self._touch_thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)
        for connection in (self._reader, self._toucher):
            if connection is not None:
                connection.close()
        self._reader = self._toucher = None

    def _connect(self, *, busy_timeout_seconds: float = _BUSY_TIMEOUT_SECONDS) -> sqlite3.Connection:
        # Used by one thread at a time, though not always closed by the same one.
        return sqlite3.connect(self._path, timeout=busy_timeout_seconds, isolation_level=None, check_same_thread=False)


class SqliteDialect:
    """SQLite's side of `SqlDialect`. It has no clock of its own and locks the whole file for a writer."""

    def __init__(self, clock: Clock) -> None:
        """`clock` is the process's: SQLite has none."""
        self._clock = clock
        self.tables: tuple[Table, ...] = (*metadata.sorted_tables, *sqlite_metadata.sorted_tables)

    async def missing_rights(self, connection: AsyncConnection) -> Sequence[str]:  # noqa: ARG002 (PostgreSQL needs it)
        return ()

    def now(self) -> ColumnElement[int]:
        return literal(self._clock.now_us(), Timestamp)

    def later(self, duration_us: int) -> ColumnElement[int]:
        return literal(self._clock.now_us() + duration_us, Timestamp)

    def idle_deadline(self) -> ColumnElement[int]:
        return type_coerce(sessions.c.last_used_at, BigInteger) + sessions.c.expire_after_unused_for_us

    def insert(self, table: Table) -> Insert:
        return insert(table)

    async def announce(
        self, connection: AsyncConnection, announcements: Iterable[Announcement], *, origin: str
    ) -> None:
        texts = [part for announcement in announcements for part in encode(announcement, origin)]
        if texts:
            now_us = self._clock.now_us()
            await connection.exec_driver_sql(outbox.FORGET, (now_us - outbox.KEPT_US,))
            await connection.exec_driver_sql(outbox.INSERT, [(now_us, part) for part in texts])

    async def wait_for_what_was_seen(self, connection: AsyncConnection) -> None:
        """Nothing to wait for: SQLite syncs a commit to the disk before others see it."""

    async def ending(self, connection: AsyncConnection) -> int:
        # One transaction writes at a time, so that these numbers are in the order of the commits.
        number: int = (await connection.exec_driver_sql(_COUNT_ENDING, (self._clock.now_us(),))).scalar_one()
        return number

    @property
    def position_form(self) -> re.Pattern[str]:
        return _POSITION_FORM

    async def position(self, connection: AsyncConnection) -> Position:
        return Position(str((await connection.exec_driver_sql(_POSITION)).scalar_one()))

    async def was_ended_after(self, connection: AsyncConnection, user_id: UserId, position: Position) -> bool:
        last_ending = (await connection.execute(select(users.c.last_ending).where(users.c.id == user_id))).scalar()
        return last_ending is not None and last_ending > int(position)

    async def lock_user(self, connection: AsyncConnection, user_id: UserId) -> UserRecord | None:
        # A write, though it changes nothing: in a transaction of the application's that has only read so far, this
        # takes the file's write lock before the row is read.
        statement = update(users).where(users.c.id == user_id).values(revocations=users.c.revocations)
        row = (await connection.execute(statement.returning(*USER_COLUMNS))).one_or_none()
        return None if row is None else user_of(row)


def _set_up_connection(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN comes too late (before the first write, after the reads it depends on); see `_begin`.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _give_the_file_back(connection: DBAPIConnection, _record: ConnectionPoolEntry, _: BaseException | None) -> None:
    """Roll back what was cancelled, before SQLAlchemy closes its connection.

    SQLite keeps a connection that is closed in the middle of a statement, with its lock on the file, until the
    statement is gone too: that is when Python collects the traceback that refers to it.
    """
    if in_greenlet():  # else Python collects the connection, and nothing refers to its statements
        with suppress(Exception, asyncio.CancelledError):  # cancelled once more: the driver rolls back all the same
            connection.rollback()


def _begin(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get("coatcheck_reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
