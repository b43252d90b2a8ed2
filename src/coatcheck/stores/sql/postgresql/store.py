"""The PostgreSQL store, 15 or newer, through asyncpg.

The frequent calls go straight through the driver on held connections with prepared statements: SQLAlchemy
Core costs about 300 µs of CPU for each read where the driver costs 50. The rest goes through SQLAlchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, ColumnElement, Table, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import Insert, insert

from coatcheck.errors import InvalidArgumentError
from coatcheck.hidden import HiddenText, shown_when_made
from coatcheck.identifiers import SessionId
from coatcheck.stores.announcement import encode
from coatcheck.stores.batching import Batcher
from coatcheck.stores.records import Position
from coatcheck.stores.sql.group_commit import revocation_batcher
from coatcheck.stores.sql.postgresql.batches import (
    DELETE,
    INSERT,
    READ_MANY,
    READ_ONE,
    READ_USERS,
    SessionDeleter,
    SessionInserter,
    SessionReader,
    UserReader,
)
from coatcheck.stores.sql.postgresql.callers_transaction import DATABASE, join
from coatcheck.stores.sql.postgresql.client_certificate import refused_certificate
from coatcheck.stores.sql.postgresql.commits import WAIT_FOR_WHAT_WAS_SEEN
from coatcheck.stores.sql.postgresql.connection_shares import DEFAULT_CONNECTIONS, ConnectionShares
from coatcheck.stores.sql.postgresql.connections import Connections
from coatcheck.stores.sql.postgresql.dsn import parse_dsn
from coatcheck.stores.sql.postgresql.guarantee import POSTGRES_SETTINGS, judge_postgresql
from coatcheck.stores.sql.postgresql.listener import CHANNEL
from coatcheck.stores.sql.postgresql.pooled_statements import ON_THE_PRIMARY
from coatcheck.stores.sql.postgresql.positions import FORM, READ_POSITION, READ_POSITION_INSIDE, SERVER, is_before
from coatcheck.stores.sql.postgresql.prepared_connections import (
    DRIVER_ERRORS,
    PreparedConnection,
    PreparedConnectionPool,
)
from coatcheck.stores.sql.postgresql.setup_mistakes import setup_mistake
from coatcheck.stores.sql.rows import USER_COLUMNS, user_of
from coatcheck.stores.sql.schema import Timestamp, metadata, users
from coatcheck.stores.sql.store import SqlStore
from coatcheck.stores.sql.transactions import Transactions

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence

    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from coatcheck.identifiers import UserId
    from coatcheck.stores.announcement import Announcement
    from coatcheck.stores.guarantee import Guarantee
    from coatcheck.stores.records import SessionReading, SessionUse, UserRecord

# Rows are locked in order of id before any is written: batches that are not ordered deadlock. The time
# moves forward, or back where the stored one is ahead of the clock; never past the clock.
_TOUCH_ONE = """
WITH used AS (
    SELECT id, used_at FROM unnest($1::uuid[], $2::timestamptz[]) AS used (id, used_at)
), settings AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), locked AS (
    SELECT session.id, used.used_at
    FROM coatcheck_sessions AS session JOIN used ON used.id = session.id CROSS JOIN settings
    ORDER BY session.id
    FOR NO KEY UPDATE OF session
)
UPDATE coatcheck_sessions AS session
SET last_used_at = least(
    clock_timestamp(),
    CASE WHEN session.last_used_at > clock_timestamp() THEN locked.used_at
         ELSE greatest(session.last_used_at, locked.used_at) END
)
FROM locked
WHERE session.id = locked.id
RETURNING session.id
"""

# A batch does not wait: one row that a transaction of the application's holds must not keep everybody else's touches.
_TOUCH_MANY = _TOUCH_ONE.replace("FOR NO KEY UPDATE OF session", "FOR NO KEY UPDATE OF session SKIP LOCKED")
_WHICH_EXIST = f"SELECT id FROM coatcheck_sessions WHERE id = ANY($1::uuid[]) AND {ON_THE_PRIMARY}"  # noqa: S608 (constants only)

_SETTINGS = text(
    "SELECT name, setting FROM pg_settings WHERE name = ANY(:names) "
    "UNION ALL SELECT 'in_recovery', CASE WHEN pg_is_in_recovery() THEN 'on' ELSE 'off' END"
).bindparams(names=list(POSTGRES_SETTINGS))
_NOTIFY = text("SELECT count(pg_notify(:channel, text)) FROM unnest(CAST(:texts AS text[])) AS text").bindparams(
    channel=CHANNEL
)
_NOTIFY_PROBE = text("SELECT pg_notify(:channel, '')")
# An id that is not given out yet was given by another server, whose data were restored here: for a position that was
# taken since, that ending is long past.
_WAS_ENDED_AFTER = text(f"""
SELECT NOT {is_before("ending", "given")} AND (
    split_part(given, '/', 1) <> {SERVER}
    OR ending < pg_snapshot_xmax(pg_current_snapshot()) OR ending = pg_current_xact_id_if_assigned()
)
FROM (
    SELECT last_ending::text::xid8 AS ending, CAST(:position AS text) AS given
    FROM coatcheck_users WHERE id = :user_id AND last_ending IS NOT NULL
) AS owner
""")  # noqa: S608 (constants only)
_ENDING = literal_column("pg_current_xact_id()::text::bigint", BigInteger)
_MISSING_RIGHTS = text(
    "SELECT name || ' (' || privilege || ')' FROM unnest(CAST(:names AS text[])) AS name, "
    "unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS privilege WHERE NOT has_table_privilege(name, privilege)"
)
_STANDBYS = text("SELECT sync_state FROM pg_stat_replication")


class PostgresStore(SqlStore):
    """Sessions and users in a PostgreSQL database.

    The database's clock decides about deadlines. Everything that must be durable is, whatever the server's default
    for `synchronous_commit`; touches are not.
    """

    def __init__(
        self, dsn: str, *, migrates: bool = True, connections: int | None = None, timeout_seconds: float = 5.0
    ) -> None:
        """A store in the database that the connection URI `dsn` names (`postgresql://user@host:5432/name`).

        The URI may name several hosts (`user@one:5432,two:5432`); whichever is the primary is used. It may lead through
        a pooler in transaction mode, with `?listen=host:5432` for where to listen past it. The store has at most
        `connections`, or else as many as the URI says (`?connections=20`), or else 20. After `timeout_seconds` without
        an answer it counts as unavailable.

        Raises:
            ConfigurationError: `dsn` is no such URI, no part of which is repeated; or there are too few connections.
        """
        dsn = HiddenText(dsn)
        self._target = parse_dsn(dsn)
        if connections is None:
            connections = self._target.connections
        shares = ConnectionShares.of(DEFAULT_CONNECTIONS if connections is None else connections)
        self._connections = ours = Connections(self._target, shares, timeout_seconds=timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._database = ""  # the name of ours; asked for before a transaction waits for the answer
        self._readers: list[PreparedConnection | PreparedConnectionPool]
        self._user_readers: list[PreparedConnection]
        if shares.user_reads:
            self._readers = [ours.reader((READ_ONE, READ_MANY)) for _ in range(shares.session_reads)]
            self._user_readers = [ours.reader((READ_USERS,)) for _ in range(shares.user_reads)]
        else:
            both = (READ_ONE, READ_MANY, READ_USERS)
            self._readers = [
                PreparedConnectionPool(
                    lambda: ours.reader(both), size=shares.session_reads, timeout_seconds=timeout_seconds
                )
            ]
            self._user_readers = []
        self._reads = Batcher([SessionReader(one) for one in self._readers], timeout_seconds=timeout_seconds)
        self._user_reads = Batcher(
            [UserReader(one) for one in self._user_readers or self._readers], timeout_seconds=timeout_seconds
        )
        self._inserters = [ours.writer((INSERT,)) for _ in range(shares.sign_ins)]
        self._deleters = [ours.writer((DELETE,)) for _ in range(shares.revocations)]
        self._touches = PreparedConnectionPool(
            lambda: ours.toucher((_TOUCH_ONE, _TOUCH_MANY, _WHICH_EXIST)),
            size=shares.touches,
            timeout_seconds=timeout_seconds,
        )
        transactions = Transactions(
            dialect="postgresql",
            driver_errors=DRIVER_ERRORS,
            timeout_seconds=timeout_seconds,
            join=self._join,
            before_writing=ours.commits.before_writing,
            begun=ours.make_settings,
            commit=ours.commits.commit,
        )
        super().__init__(
            PostgresDialect(),
            transactions,
            insertions=Batcher([SessionInserter(one) for one in self._inserters], timeout_seconds=timeout_seconds)
            if self._inserters
            else None,
            deletions=revocation_batcher(
                SessionDeleter(self._deleters[0], transactions.opening), timeout_seconds=timeout_seconds
            )
            if self._deleters
            else None,
            migrates=migrates,
        )

    @shown_when_made
    def __repr__(self) -> str:
        """Show hosts and database, and nothing else of the connection URI."""
        return f"PostgresStore({self._target})"

    async def guarantee(self) -> Guarantee:
        async with self._transactions.read(None) as connection:
            settings = {str(name): str(value) for name, value in await connection.execute(_SETTINGS)}
            standbys = (await connection.execute(_STANDBYS)).scalars().all()
        return judge_postgresql(
            settings,
            standbys,
            is_pooled=self._connections.is_pooled,
            is_listening=self._connections.listens_to is not None,
        )

    def _announced(self) -> AsyncGenerator[str | None, None]:
        return self._connections.announced()

    def read_session(self, session_id: SessionId) -> Awaitable[SessionReading | None]:
        """See `Store.read_session`. Reads that arrive while one is under way go together in the next."""
        return self._reads.submit(session_id)

    def _read_user(self, user_id: UserId) -> Awaitable[UserRecord | None]:
        return self._user_reads.submit(user_id)

    async def touch_sessions(self, uses: Sequence[SessionUse]) -> frozenset[SessionId]:
        self._transactions.opened_engine()
        latest: dict[SessionId, int] = {}
        for use in uses:
            latest[use.session_id] = max(use.used_at_us, latest.get(use.session_id, use.used_at_us))
        statement = _TOUCH_ONE if len(latest) == 1 else _TOUCH_MANY
        touched = _ids(await self._touches.fetch(statement, list(latest), list(latest.values())))
        missing = latest.keys() - touched
        if statement is _TOUCH_ONE or not missing:
            return touched
        # Gone, or held by somebody. The latter exist still, and their next use is written with the next batch.
        return touched | _ids(await self._touches.fetch(_WHICH_EXIST, sorted(missing)))

    async def _read_position_inside(self, connection: AsyncConnection) -> Position:
        return Position((await connection.exec_driver_sql(READ_POSITION_INSIDE)).scalar_one())

    async def _prepare(self) -> None:
        await self._connections.look_for_pooler()

    async def _join(self, connection: AsyncConnection) -> None:
        theirs = await join(connection)
        if self._transactions.is_on_own_engine(connection):
            self._database = theirs
        if theirs == self._database or self._transactions.engine is None:  # closed, there is nobody to ask
            return
        await self._ask_database()  # another server may have taken over, and has another name
        if theirs != self._database:
            raise InvalidArgumentError(
                f"transaction must be on the database of this store, {self!r}, and find its tables there: this one is "
                "on another server or database, or has another search_path"
            )

    async def _ask_database(self) -> None:
        async with self._transactions.read(None) as connection:
            self._database = (await connection.exec_driver_sql(f"SELECT {DATABASE}")).scalar_one()

    async def _setup_mistake(self, error: BaseException) -> str | None:
        return setup_mistake(error) or await refused_certificate(error, self._target, self._timeout_seconds)

    def _create_engine(self) -> AsyncEngine:
        return self._connections.engine()

    @property
    def _direct(self) -> Sequence[PreparedConnection | PreparedConnectionPool]:
        """The connections that do not go through SQLAlchemy."""
        return (*self._readers, *self._user_readers, *self._inserters, *self._deleters, self._touches)

    async def _open_direct(self) -> None:
        async with self._transactions.read(None) as connection:
            await self._connections.tell(connection)
        await self._ask_database()
        first, *others = self._direct
        await first.open()
        for one in others:
            one.reopen()
        for trips in (self._reads, self._user_reads):
            trips.open()
        await self._connections.check_listening(self._announce_probe)

    async def _announce_probe(self, channel: str) -> None:
        async with self._transactions.begin() as connection:
            await connection.execute(_NOTIFY_PROBE, {"channel": channel})

    async def _close_direct(self) -> None:
        for trips in (self._reads, self._user_reads):
            await trips.close()
        for one in self._direct:
            await one.close(timeout_seconds=self._timeout_seconds)


class PostgresDialect:
    """PostgreSQL's side of `SqlDialect`."""

    def __init__(self) -> None:
        """The tables are those of both databases."""
        self.tables: tuple[Table, ...] = tuple(metadata.sorted_tables)

    async def missing_rights(self, connection: AsyncConnection) -> Sequence[str]:
        names = [table.name for table in self.tables]
        return (await connection.execute(_MISSING_RIGHTS, {"names": names})).scalars().all()

    def now(self) -> ColumnElement[int]:
        # Not now(): that is the start of the transaction, and would let a session live on in a long one.
        return func.clock_timestamp(type_=Timestamp)

    def later(self, duration_us: int) -> ColumnElement[int]:
        return func.clock_timestamp(type_=Timestamp) + func.make_interval(0, 0, 0, 0, 0, 0, duration_us / 1_000_000)

    def idle_deadline(self) -> ColumnElement[int]:
        return literal_column(
            "coatcheck_sessions.last_used_at "
            "+ coatcheck_sessions.expire_after_unused_for_us * interval '1 microsecond'",
            Timestamp,
        )

    def insert(self, table: Table) -> Insert:
        return insert(table)

    async def announce(
        self, connection: AsyncConnection, announcements: Iterable[Announcement], *, origin: str
    ) -> None:
        texts = [part for announcement in announcements for part in encode(announcement, origin)]
        if texts:
            await connection.execute(_NOTIFY, {"texts": texts})

    async def wait_for_what_was_seen(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql(WAIT_FOR_WHAT_WAS_SEEN)

    async def ending(self, connection: AsyncConnection) -> ColumnElement[int]:  # noqa: ARG002 (SQLite needs it)
        return _ENDING

    @property
    def position_form(self) -> re.Pattern[str]:
        return FORM

    async def position(self, connection: AsyncConnection) -> Position:
        return Position((await connection.exec_driver_sql(READ_POSITION)).scalar_one())

    async def was_ended_after(self, connection: AsyncConnection, user_id: UserId, position: Position) -> bool:
        found = await connection.execute(_WAS_ENDED_AFTER, {"user_id": user_id, "position": position})
        return found.scalar() is True

    async def lock_user(self, connection: AsyncConnection, user_id: UserId) -> UserRecord | None:
        statement = select(*USER_COLUMNS).where(users.c.id == user_id)
        row = (await connection.execute(statement.with_for_update(key_share=True))).one_or_none()
        return None if row is None else user_of(row)


def _ids(rows: Sequence[asyncpg.Record]) -> frozenset[SessionId]:
    return frozenset(SessionId(str(row[0])) for row in rows)
