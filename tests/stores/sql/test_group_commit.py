"""Sign-ins and revocations share transactions, and none waits for another or fails with it."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import text

from coatcheck.errors import RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import UserId
from coatcheck.stores.batching import Batcher
from coatcheck.stores.records import EndedSession, InsertRefusal, SessionFilter, SessionRecord, UserEpochs
from coatcheck.stores.sql.group_commit import PlainDeletion, PlainInsertion
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.stores.sql.sqlite.store import SqliteStore
from coatcheck.testing.samples import ADA, BOB, insert, new_session, register, stored_ids, unknown_id
from tests.kinds_of_store import WITH_TRANSACTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness


@pytest.fixture
def store(harness: StoreHarness) -> Store:
    return harness.store


@pytest.fixture
async def postgres(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore(postgres_dsn) as store:
        yield store


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each batch that writes."""
    sizes: list[int] = []
    run_batch = Batcher._run_batch  # noqa: SLF001 (where a batch begins)

    async def counted(batcher: Any, runner: Any, batch: Sequence[Any], limit: Any) -> None:
        if isinstance(batch[0][0], PlainInsertion | PlainDeletion):
            sizes.append(len(batch))
        await run_batch(batcher, runner, batch, limit)

    monkeypatch.setattr(Batcher, "_run_batch", counted)
    return sizes


@WITH_TRANSACTIONS
async def test_sign_ins_at_once_share_a_transaction(store: Store, written: list[int]) -> None:
    users = [UserId(f"user {number}") for number in range(40)]
    for user in users:
        await register(store, user)
    made = await asyncio.gather(*(insert(store, new_session(user), epochs=UserEpochs()) for user in users))
    assert all(isinstance(one, SessionRecord) for one in made)
    assert sum(written) == 40
    assert len(written) <= 3
    assert await stored_ids(store) == {one.id for one in made}


async def test_the_record_of_a_new_session_equals_the_stored_row(store: Store) -> None:
    await register(store)
    made = await insert(store, new_session(lifetime_us=5_000_000, scopes={"a", "b"}, expire_after_unused_for_us=7))
    (listed,) = await store.list_sessions(SessionFilter(user_id=ADA))
    assert listed.session == made
    assert made.expires_at_us == made.created_at_us + 5_000_000


@WITH_TRANSACTIONS
async def test_a_refused_or_invalid_sign_in_does_not_disturb_its_batch(store: Store, written: list[int]) -> None:
    await register(store)
    await register(store, BOB)
    await store.end_user_sessions(BOB)
    good, overtaken, wrong = new_session(), new_session(BOB), new_session(method="\ud800")
    outcomes = await asyncio.gather(
        *(insert(store, one, epochs=UserEpochs()) for one in (good, overtaken, wrong)), return_exceptions=True
    )
    assert max(written) == 3
    assert isinstance(outcomes[0], SessionRecord)
    assert outcomes[1] is InsertRefusal.USER_REVOKED
    assert isinstance(outcomes[2], Exception)
    assert await stored_ids(store) == {good.id}


@pytest.mark.postgres
async def test_a_locked_user_does_not_delay_other_sign_ins(postgres: PostgresStore) -> None:
    await register(postgres)
    await register(postgres, BOB)
    async with postgres.transaction() as transaction:
        await postgres.end_user_sessions(ADA, transaction=transaction)
        overtaken = asyncio.create_task(insert(postgres, new_session(), epochs=UserEpochs()))
        assert isinstance(await insert(postgres, new_session(BOB), epochs=UserEpochs()), SessionRecord)
        assert not overtaken.done()
    assert await overtaken is InsertRefusal.USER_REVOKED


@WITH_TRANSACTIONS
async def test_sign_ins_of_the_applications_users_share_a_transaction_where_the_store_knows_their_scopes(
    store: Store, written: list[int]
) -> None:
    known = frozenset({"a"})
    for scopes in (known, known, known | {"b"}):
        session = new_session(scopes=scopes, follows_user=True)
        assert isinstance(await insert(store, session, user_scopes=scopes), SessionRecord)  # type: ignore[arg-type]  # plain texts
    user = await store.read_user(ADA)
    assert user is not None
    assert user.scopes == {"a", "b"}
    assert not user.is_registered
    assert written == [1, 1, 1]


async def test_revocations_at_once_share_a_transaction_and_each_returns_its_own_session(
    store: Store, written: list[int]
) -> None:
    await register(store)
    made = [await insert(store, new_session()) for _ in range(30)]
    written.clear()
    filters = [SessionFilter(session_id=one.id) for one in made]
    others = [
        SessionFilter(session_id=made[0].id),
        SessionFilter(session_id=made[1].id, user_id=BOB),
        SessionFilter(session_id=unknown_id()),
    ]
    changes = await asyncio.gather(*(store.delete_sessions(which) for which in filters + others))
    assert [one.ended for one in changes[1:30]] == [(EndedSession(ADA, one.id),) for one in made[1:]]
    assert sorted(len(changes[index].ended) for index in (0, 30)) == [0, 1]
    assert [one.ended for one in changes[31:]] == [(), ()]
    assert await stored_ids(store) == set()
    assert len(written) <= 3


@pytest.mark.postgres
async def test_a_locked_session_does_not_delay_other_revocations_and_ends_later(
    postgres: PostgresStore,
) -> None:
    await register(postgres)
    locked, free = await insert(postgres, new_session()), await insert(postgres, new_session())
    async with postgres.transaction() as transaction:
        await postgres.set_session_scopes(locked.id, frozenset(), transaction=transaction)
        waiting = asyncio.create_task(postgres.delete_sessions(SessionFilter(session_id=locked.id)))
        assert len((await postgres.delete_sessions(SessionFilter(session_id=free.id))).ended) == 1
        assert not waiting.done()
    assert (await waiting).ended == (EndedSession(ADA, locked.id),)


@pytest.mark.postgres
async def test_a_write_whose_answer_is_lost_is_not_sent_again(postgres: PostgresStore, postgres_dsn: str) -> None:
    """The server ends the connection in the middle of the statement, while it waits for a lock on the table."""
    await register(postgres)
    session = await insert(postgres, new_session())
    assert (await postgres.delete_sessions(SessionFilter(session_id=unknown_id()))).ended == ()  # both are connected
    other = await asyncpg.connect(postgres_dsn)
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%coatcheck_%' "
        "AND datname = current_database()"
    )
    for call, error in (
        (postgres.delete_sessions(SessionFilter(session_id=session.id)), RevocationIndeterminate),
        (insert(postgres, new_session(), epochs=UserEpochs()), StoreUnavailable),
    ):
        async with postgres.transaction() as transaction:
            await transaction.execute(text("LOCK TABLE coatcheck_sessions IN EXCLUSIVE MODE"))
            task = asyncio.create_task(call)
            while not (found := await other.fetch(waiting)):  # noqa: ASYNC110 (there is no event to wait for)
                await asyncio.sleep(0)
            await other.execute("SELECT pg_terminate_backend($1)", found[0]["pid"])
            with pytest.raises(error) as caught:
                await task
            assert type(caught.value) is error
    await other.close()
    assert await stored_ids(postgres) == {session.id}
    assert len((await postgres.delete_sessions(SessionFilter(session_id=session.id))).ended) == 1


@pytest.mark.postgres
async def test_batched_writes_are_durable_whatever_the_servers_default(postgres_dsn: str) -> None:
    name = postgres_dsn.rpartition("/")[2]
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await admin.close()
    async with PostgresStore(postgres_dsn) as store:
        for prepared in (*store._inserters, *store._deleters):  # noqa: SLF001 (the connections of batched writes)
            await prepared.open()
            assert prepared._connection is not None  # noqa: SLF001 (the connection itself)
            assert await prepared._connection.fetchval("SHOW synchronous_commit") == "on"  # noqa: SLF001 (see above)


class FailingAtCommit(sqlite3.Connection):
    """A connection whose COMMIT fails, as on a disk that breaks."""

    fails = False

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if self.fails and statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(statement, *values)


async def test_a_failed_commit_on_sqlite_is_indeterminate_for_a_revocation_and_an_outage_for_a_sign_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sessions.db"
    async with SqliteStore(path) as store:
        await register(store)
        session = await insert(store, new_session())
        broken = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=FailingAtCommit)
        monkeypatch.setattr(broken, "fails", True)
        whole, store._writer._connection = store._writer._connection, broken  # noqa: SLF001 (what the writes go over)
        with pytest.raises(RevocationIndeterminate):
            await store.delete_sessions(SessionFilter(session_id=session.id))
        with pytest.raises(StoreUnavailable, match="COMMIT failed") as caught:
            await insert(store, new_session())
        assert not isinstance(caught.value, RevocationIndeterminate)
        broken.close()
        store._writer._connection = whole  # noqa: SLF001 (see above)
        assert await stored_ids(store) == {session.id}
        assert len((await store.delete_sessions(SessionFilter(session_id=session.id))).ended) == 1


async def test_a_file_locked_by_another_process_is_an_outage_in_which_nothing_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coatcheck.stores.sql.sqlite.store._BUSY_TIMEOUT_SECONDS", 0.01)
    path = tmp_path / "sessions.db"
    async with SqliteStore(path) as store:
        await register(store)
        session = await insert(store, new_session())
        store._writer._connected().execute("PRAGMA busy_timeout = 0")  # noqa: SLF001 (no waiting in a test)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as caught:
            await store.delete_sessions(SessionFilter(session_id=session.id))
        assert not isinstance(caught.value, RevocationIndeterminate)
        with pytest.raises(StoreUnavailable):
            await insert(store, new_session(), epochs=UserEpochs())
        other.execute("ROLLBACK")
        other.close()
        assert await stored_ids(store) == {session.id}
