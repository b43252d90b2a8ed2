"""Sessions run without an event loop: over a store that blocks, one step of a coroutine is a whole call."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest
from sqlalchemy import create_engine

from coatcheck import AuthenticationInfo, ServerSideSessionsConfig, TokenRefusal
from coatcheck.clock import SystemClock
from coatcheck.events import EventBus
from coatcheck.identifiers import UserId
from coatcheck.sessions import ServerSideSessions
from coatcheck.stores.guarantee import Guarantee, GuaranteeLevel
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.sql import schema_version, session_statements, user_statements
from coatcheck.stores.sql.rows import READING_COLUMN_LIST, reading_of
from coatcheck.stores.sql.schema import metadata, sqlite_metadata
from coatcheck.stores.sql.sqlite.store import SqliteDialect
from coatcheck.stores.sql.store import SqlStore
from coatcheck.stores.sql.transactions import Transactions
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from coatcheck.identifiers import SessionId
    from coatcheck.stores.records import Position, Rehash, SessionReading, SessionUse, UserRecord

T = TypeVar("T")
_ADA = UserId("ada")


def run(call: Coroutine[Any, Any, T]) -> T:
    """The result of a call that never waits."""
    try:
        call.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("the call waits for an event loop")


class BlockingConnection:
    """SQLAlchemy's blocking connection in the shape of the asynchronous one, as far as the statements need it."""

    def __init__(self, connection: Connection) -> None:
        self.sync_connection = connection

    async def execution_options(self, **_: object) -> BlockingConnection:
        return self

    async def begin(self) -> None:
        self.sync_connection.begin()

    async def commit(self) -> None:
        self.sync_connection.commit()

    async def execute(self, *arguments: Any) -> Any:
        return self.sync_connection.execute(*arguments)

    async def run_sync(self, call: Callable[[Connection], T]) -> T:
        return call(self.sync_connection)

    async def exec_driver_sql(self, *arguments: Any) -> Any:
        return self.sync_connection.exec_driver_sql(*arguments)


class BlockingEngine:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[BlockingConnection]:
        with self._engine.connect() as connection:
            yield BlockingConnection(connection)

    async def dispose(self) -> None:
        self._engine.dispose()


@asynccontextmanager
async def unlimited(_seconds: float | None) -> AsyncIterator[None]:
    yield


async def no_caller(_connection: AsyncConnection) -> None:
    raise AssertionError("no test here has a transaction of its own")


class BlockingStore(SqlStore):
    """A spike of the store for a blocking API: our statements, transactions and records, without a loop."""

    def __init__(self, path: Path) -> None:
        self._url = f"sqlite:///{path}"
        self._path = path
        self._clock = SystemClock()
        super().__init__(
            SqliteDialect(self._clock),
            Transactions(
                dialect="sqlite",
                driver_errors=(sqlite3.Error,),
                timeout_seconds=5,
                join=no_caller,
                limit=unlimited,
            ),
            insertions=None,
            deletions=None,
            migrates=False,
        )

    def _create_engine(self) -> AsyncEngine:
        engine = create_engine(self._url)
        for tables in (metadata, sqlite_metadata):
            tables.create_all(engine)
        with engine.begin() as connection:
            schema_version.note(connection, version=schema_version.CODE, compatible_with=schema_version.CODE)
        return cast("AsyncEngine", BlockingEngine(engine))

    async def _open_direct(self) -> None:
        self._reader = sqlite3.connect(self._path)

    async def _close_direct(self) -> None:
        self._reader.close()

    async def _announced(self) -> AsyncGenerator[str | None, None]:
        yield None

    async def guarantee(self) -> Guarantee:
        return Guarantee(GuaranteeLevel.STRICT, (), (), {})

    async def read_session(self, session_id: SessionId) -> SessionReading | None:
        statement = f"SELECT {READING_COLUMN_LIST} FROM coatcheck_sessions WHERE id = ?"  # noqa: S608 (constants only)
        row = self._reader.execute(statement, (session_id,)).fetchone()
        return None if row is None else reading_of(row, self._clock.now_us())

    async def touch_sessions(self, uses: Sequence[SessionUse]) -> frozenset[SessionId]:
        return frozenset(use.session_id for use in uses)

    async def _read_user(self, user_id: UserId) -> UserRecord | None:
        async with self._transactions.read(None) as connection:
            return await user_statements.read_user(connection, user_id)

    async def _read_position_inside(self, connection: AsyncConnection) -> Position:
        await no_caller(connection)
        return await self._dialect.position(connection)


class NoTouches:
    """Records the touches."""

    dropped = 0

    def __init__(self) -> None:
        self.noted: list[SessionUse | Rehash] = []

    def note_use(self, use: SessionUse, *, delay_us: int) -> None:
        assert delay_us > 0
        self.noted.append(use)

    def note_rehash(self, rehash: Rehash) -> None:
        self.noted.append(rehash)

    async def flush(self) -> None:
        """Nothing is waiting."""

    async def close(self) -> None:
        """Nothing is waiting."""


class CallsAtOnce:
    """Finishes a call by making it."""

    async def run(self, revocation: Coroutine[Any, Any, T]) -> T:
        return await revocation

    async def close(self) -> None:
        """Nothing is under way."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockingStore]:
    store = BlockingStore(tmp_path / "coatcheck.db")
    run(store.open())
    yield store
    run(store.close())


@pytest.fixture
def sessions(store: BlockingStore) -> ServerSideSessions:
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
    return ServerSideSessions(store, config, bus=EventBus(), touches=NoTouches(), finisher=CallsAtOnce())


def test_a_session_lives_from_sign_in_to_revocation_without_a_loop(
    store: BlockingStore, sessions: ServerSideSessions
) -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    user = run(store.insert_user(_ADA, scopes=frozenset(), blocked=False))
    assert user is not None
    success = run(sessions.create_session(user.id, method="email"))
    caller = run(sessions.explain(success.token))
    assert isinstance(caller, AuthenticationInfo)
    assert caller.auth_id == success.server_side_session_id
    assert run(sessions.revoke_session(caller.auth_id)) is True
    assert run(sessions.explain(success.token)) is TokenRefusal.UNKNOWN


def test_the_change_of_a_blocking_call_is_published_without_a_loop(
    store: BlockingStore, sessions: ServerSideSessions
) -> None:
    heard: list[object] = []

    async def hear(message: object) -> None:
        heard.append(message)

    sessions._bus.subscribe(hear)  # noqa: SLF001 (a pod would have handed it out)
    run(store.insert_user(_ADA, scopes=frozenset(), blocked=False))
    run(sessions.create_session(_ADA, method="email"))
    ended = run(sessions.revoke_all_sessions(_ADA))
    assert len(ended) == 1
    assert [type(message).__name__ for message in heard] == ["RevokedAuthenticationUser"]


def test_the_statements_await_only_their_connection(store: BlockingStore) -> None:
    dialect = SqliteDialect(SystemClock())

    async def insert_and_list(connection: AsyncConnection) -> int:
        await user_statements.register_user(connection, dialect, _ADA, scopes=frozenset(), blocked=False)
        page = await session_statements.list_sessions(
            connection, dialect, SessionFilter(), expired=None, after=None, limit=10
        )
        return len(page)

    async def in_a_transaction() -> int:
        async with store.transaction() as connection:
            return await insert_and_list(connection)

    assert run(in_a_transaction()) == 0
    assert run(store.read_user(_ADA)) is not None
