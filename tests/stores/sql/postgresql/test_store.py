"""The PostgreSQL store alone: its clock, its prepared connections, its durability, its plans."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from coatcheck import (
    InvalidArgumentError,
    NotOpenError,
    Pod,
    RevocationIndeterminate,
    ServerSideSessionsConfig,
    ServerSideSessionsTokenManager,
    StoreUnavailable,
    UserId,
)
from coatcheck.stores.records import Insertion, InsertRefusal, SessionFilter, SessionUse
from coatcheck.stores.sql.postgresql.batches import READ_MANY, READ_ONE
from coatcheck.stores.sql.postgresql.prepared_connections import PreparedConnection
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.testing.samples import ADA, BOB, new_session, register, sign_in, stored_ids, unknown_id
from tests.servers.proxy import Proxy
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck import AuthServices, ServerSideSessions, SessionId
    from coatcheck.stores.records import Position
    from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.postgres

T = TypeVar("T")

NESTED_LOOP = "?" + "&".join(
    f"enable_{way}=off" for way in ("hashjoin", "mergejoin", "hashagg", "sort", "material", "memoize")
)
"""Added to a DSN it leaves the planner no other way."""


def pod_on(dsn: str, *, timeout_seconds: float = 5.0) -> tuple[Pod, AuthServices]:
    pod = Pod(PostgresStore(dsn, timeout_seconds=timeout_seconds), environ={}, config_dir="none", prune_interval=None)
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER, default_session_lifetime=timedelta(hours=1))
    return pod, pod.initialize_auth_services(token_manager_builders=[config])


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The result of the first attempt that is done in time: on a busy machine a short limit may take a few."""
    while True:
        with suppress(StoreUnavailable):
            return await call()


@asynccontextmanager
async def impatient(dsn: str) -> AsyncIterator[AuthServices]:
    """A pod that waits only half a second, for tests in which it waits in vain."""
    pod, auth = pod_on(dsn, timeout_seconds=0.5)
    await patiently(pod.__aenter__)
    try:
        yield auth
    finally:
        await pod.__aexit__(None, None, None)


def _sessions(auth: AuthServices) -> ServerSideSessions:
    return auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions


@pytest.fixture
async def proxy(postgres_dsn: str) -> AsyncIterator[Proxy]:
    async with Proxy(urlsplit(postgres_dsn).port or 5432) as proxy:
        yield proxy


@pytest.fixture
def proxied_dsn(postgres_dsn: str, proxy: Proxy) -> str:
    parts = urlsplit(postgres_dsn)
    return parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}").geturl()


async def test_the_clock_of_the_database_decides_and_not_that_of_this_machine(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, auth = pod_on(postgres_dsn)
    async with pod:
        user = await auth.auth_users.create()
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        monkeypatch.setattr("coatcheck.clock.time.time_ns", lambda: 4_000_000_000 * 10**9)
        assert await auth.token_manager.validate_token(success.token) is not None


async def test_a_long_transaction_does_not_hold_the_clock_back(postgres_dsn: str) -> None:
    """`now()` is the start of the transaction; `clock_timestamp()` is now."""
    async with PostgresStore(postgres_dsn) as store, store.transaction() as connection:
        started = (await connection.execute(text("SELECT now()"))).scalar_one()
        await connection.execute(text("SELECT pg_sleep(0.01)"))  # a database's minute, shortened
        now = (await connection.execute(store._dialect.now().select())).scalar_one()  # noqa: SLF001 (what the statements use)
        assert now > int(started.timestamp() * 1_000_000)


async def test_validation_does_not_look_through_an_old_snapshot_of_the_callers(postgres_dsn: str) -> None:
    """A request's transaction in REPEATABLE READ would still see a session that was revoked since."""
    pod, auth = pod_on(postgres_dsn)
    engine = create_async_engine(postgres_dsn.replace("://", "+asyncpg://"), isolation_level="REPEATABLE READ")
    async with pod, AsyncSession(engine) as request:
        user = await auth.auth_users.create()
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        count = text("SELECT count(*) FROM coatcheck_sessions")
        assert (await request.execute(count)).scalar_one() == 1
        await auth.token_manager.revoke_token(token_id=success.server_side_session_id)
        assert (await request.execute(count)).scalar_one() == 1
        assert await auth.token_manager.validate_token(success.token) is None
    await engine.dispose()


async def test_a_session_of_sqlalchemys_orm_is_a_transaction_too(postgres_dsn: str) -> None:
    pod, auth = pod_on(postgres_dsn)
    engine = create_async_engine(postgres_dsn.replace("://", "+asyncpg://"))
    async with pod:
        user = await auth.auth_users.create()
        async with AsyncSession(engine) as mine, mine.begin():
            success = await auth.token_manager.create_token(auth_user_id=user.id, method="email", transaction=mine)
        assert await auth.token_manager.validate_token(success.token) is not None
        async with AsyncSession(engine) as mine:
            await auth.token_manager.revoke_token(token_id=success.server_side_session_id, transaction=mine)
            await mine.rollback()
        assert await auth.token_manager.validate_token(success.token) is not None
    await engine.dispose()


async def test_a_connection_that_broke_costs_one_reconnect_and_no_error(proxied_dsn: str, proxy: Proxy) -> None:
    pod, auth = pod_on(proxied_dsn)
    async with pod:
        user = await auth.auth_users.create()
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        assert await auth.token_manager.validate_token(success.token) is not None
        await proxy.cut()
        await proxy.heal()
        assert await auth.token_manager.validate_token(success.token) is not None
        assert await auth.token_manager.revoke_token(token_id=success.server_side_session_id)


@pytest.mark.parametrize("how", ["refused", "swallowed"])
async def test_an_outage_is_unavailable_and_the_same_token_works_afterwards(
    proxied_dsn: str, proxy: Proxy, how: str
) -> None:
    async with impatient(proxied_dsn) as auth:
        user = await patiently(auth.auth_users.create)
        success = await patiently(lambda: auth.token_manager.create_token(auth_user_id=user.id, method="email"))
        assert await patiently(lambda: auth.token_manager.validate_token(success.token)) is not None
        if how == "refused":
            await proxy.cut()
        else:
            proxy.black_hole()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await auth.token_manager.validate_token(success.token)
        assert await auth.token_manager.validate_token("not a token") is None  # costs no read, so it is answered
        await proxy.heal()
        assert await patiently(lambda: auth.token_manager.validate_token(success.token)) is not None


async def test_no_call_waits_for_ever_for_a_server_that_does_not_answer(proxied_dsn: str, proxy: Proxy) -> None:
    pod, auth = pod_on(proxied_dsn)
    async with pod, impatient(proxied_dsn) as hasty:
        user = await patiently(hasty.auth_users.create)
        await patiently(lambda: hasty.token_manager.create_token(auth_user_id=user.id, method="email"))
        before = [one.token_id for one in await auth.token_manager.list_tokens()]
        proxy.black_hole()
        calls = (
            hasty.token_manager.create_token(auth_user_id=user.id, method="email"),
            hasty.token_manager.list_tokens(auth_user_id=user.id),
            hasty.token_manager.revoke_token(token_id=before[0]),
            hasty.token_manager.revoke_all_tokens(auth_user_id=user.id),
            hasty.auth_users.update(user.id, blocked=True),
            hasty.auth_users.create(),
        )
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(outcome, StoreUnavailable) for outcome in outcomes] == [True] * len(calls)
        await proxy.heal()
        assert [one.token_id for one in await auth.token_manager.list_tokens()] == before
        assert await auth.token_manager.revoke_token(token_id=before[0])


async def test_a_server_that_crashes_and_comes_back_keeps_every_session(postgres_server: PostgresServer) -> None:
    pod, auth = pod_on(postgres_server.dsn())
    async with pod:
        user = await auth.auth_users.create()
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        ended = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        assert await auth.token_manager.revoke_token(token_id=ended.server_side_session_id)
        postgres_server.stop(signal.SIGQUIT)
        with pytest.raises(StoreUnavailable):
            await auth.token_manager.validate_token(success.token)
        postgres_server.start()
        assert await auth.token_manager.validate_token(success.token) is not None
        assert await auth.token_manager.validate_token(ended.token) is None
        assert await auth.token_manager.revoke_token(token_id=success.server_side_session_id)


async def test_a_revocation_whose_commit_goes_unanswered_is_indeterminate(proxied_dsn: str, proxy: Proxy) -> None:
    pod, auth = pod_on(proxied_dsn)
    async with pod:
        user = await auth.auth_users.create()
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        store = pod.store
        assert isinstance(store, PostgresStore)
        with pytest.raises(RevocationIndeterminate, match="treat it as not done"):
            async with store._transactions.begin(ends_sessions=True) as connection:  # noqa: SLF001 (what every revocation runs in)
                await connection.execute(text("DELETE FROM coatcheck_sessions"))
                await proxy.cut()
        await proxy.heal()
        # Before COMMIT is sent nothing has happened, and that is what is said.
        await proxy.cut()
        with pytest.raises(StoreUnavailable) as caught:
            await auth.token_manager.revoke_token(token_id=success.server_side_session_id)
        assert not isinstance(caught.value, RevocationIndeterminate)
        await proxy.heal()
        assert await auth.token_manager.revoke_token(token_id=success.server_side_session_id)


async def test_a_cancelled_validation_does_not_disturb_the_others(postgres_dsn: str) -> None:
    pod, auth = pod_on(postgres_dsn)
    async with pod:
        users = [await auth.auth_users.create() for _ in range(8)]
        tokens = [await auth.token_manager.create_token(auth_user_id=user.id, method="email") for user in users]
        for round_ in range(20):
            calls = [asyncio.create_task(auth.token_manager.validate_token(one.token)) for one in tokens]
            for _ in range(round_ % 5):  # somewhere on the way: while queued, connecting, or in the middle of a read
                await asyncio.sleep(0)
            for call in calls[round_ % 2 :: 2]:
                call.cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            for user, answer in zip(users, answers, strict=True):
                assert isinstance(answer, asyncio.CancelledError) or answer.user_identifier == user.id  # type: ignore[union-attr]  # never None


async def test_concurrent_validations_share_a_batch_and_a_lone_one_has_its_own(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    fetch = PreparedConnection.fetch

    async def counted(connection: PreparedConnection, statement: str, *arguments: object) -> list[asyncpg.Record]:
        read.append(1 if statement == READ_ONE else len(cast("list[object]", arguments[0])))
        return await fetch(connection, statement, *arguments)

    pod, auth = pod_on(postgres_dsn)
    async with pod:
        user = await auth.auth_users.create()
        tokens = [await auth.token_manager.create_token(auth_user_id=user.id, method="email") for _ in range(40)]
        monkeypatch.setattr(PreparedConnection, "fetch", counted)
        answers = await asyncio.gather(*(auth.token_manager.validate_token(one.token) for one in tokens * 2))
        assert [answer and answer.auth_id for answer in answers] == [one.server_side_session_id for one in tokens * 2]
        assert len(read) <= 4
        read.clear()
        assert await auth.token_manager.validate_token(tokens[0].token) is not None
        assert read == [1]


async def test_a_batch_is_read_again_when_its_connection_breaks(proxied_dsn: str, proxy: Proxy) -> None:
    pod, auth = pod_on(proxied_dsn)
    async with pod:
        user = await auth.auth_users.create()
        tokens = [await auth.token_manager.create_token(auth_user_id=user.id, method="email") for _ in range(30)]
        await asyncio.gather(*(auth.token_manager.validate_token(one.token) for one in tokens))
        await proxy.cut()
        await proxy.heal()
        answers = await asyncio.gather(*(auth.token_manager.validate_token(one.token) for one in tokens))
        assert [answer and answer.auth_id for answer in answers] == [one.server_side_session_id for one in tokens]


async def test_validations_that_are_given_up_cost_no_connection(postgres_dsn: str) -> None:
    pod, auth = pod_on(postgres_dsn)
    watching = await asyncpg.connect(postgres_dsn)
    processes = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'coatcheck' AND datname = current_database() "
        "ORDER BY pid"
    )
    async with pod:
        user = await auth.auth_users.create()
        token = (await auth.token_manager.create_token(auth_user_id=user.id, method="email")).token
        await asyncio.gather(*(auth.token_manager.validate_token(token) for _ in range(40)))
        before = await watching.fetch(processes)
        for steps in range(12):
            calls = [asyncio.create_task(auth.token_manager.validate_token(token)) for _ in range(40)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert await auth.token_manager.validate_token(token) is not None
        assert len(before) >= 2
        assert await watching.fetch(processes) == before
    await watching.close()


async def test_a_batch_of_touches_does_not_wait_for_a_row_that_somebody_holds(postgres_dsn: str) -> None:
    pod, auth = pod_on(postgres_dsn)
    async with pod:
        user = await auth.auth_users.create()
        held, free = [await auth.token_manager.create_token(auth_user_id=user.id, method="email") for _ in range(2)]
        before = {one.id: one.last_used_at for one in await _sessions(auth).list_sessions()}
        async with pod.store.transaction() as tx:
            await _sessions(auth).update_scopes(session_id=held.server_side_session_id, scopes={"a"}, transaction=tx)
            uses = [SessionUse(one.server_side_session_id, 4_000_000_000_000_000) for one in (held, free)]
            gone = SessionUse(unknown_id(), 0)
            assert await pod.store.touch_sessions([*uses, gone]) == {use.session_id for use in uses}
        after = {one.id: one.last_used_at for one in await _sessions(auth).list_sessions()}
        assert after[held.server_side_session_id] == before[held.server_side_session_id]
        assert after[free.server_side_session_id] > before[free.server_side_session_id]


@pytest.mark.parametrize("plan", ["", NESTED_LOOP], ids=["usual", "nested loop"])
async def test_a_deletion_with_a_limit_keeps_to_it_whatever_the_plan(postgres_dsn: str, plan: str) -> None:
    """A subquery that is run again for each row would delete all of them."""
    async with PostgresStore(postgres_dsn) as store:
        for _ in range(5):
            await sign_in(store, expires_at_us=1, expire_after_unused_for_us=None)
    async with PostgresStore(postgres_dsn + plan) as store:
        assert len((await store.delete_sessions(SessionFilter(user_id=ADA), limit=1)).ended) == 1
        assert [len((await store.prune_expired(limit)).ended) for limit in (1, 2)] == [1, 2]
        assert len(await stored_ids(store)) == 1


async def test_durable_writes_are_durable_whatever_the_servers_default(postgres_dsn: str) -> None:
    name = postgres_dsn.rpartition("/")[2]
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    async with PostgresStore(postgres_dsn) as store, store.transaction() as connection:
        assert (await connection.execute(text("SHOW synchronous_commit"))).scalar_one() == "on"
    await admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
    async with PostgresStore(postgres_dsn) as store, store.transaction() as connection:
        assert (await connection.execute(text("SHOW synchronous_commit"))).scalar_one() == "remote_apply"
    await admin.close()


async def test_an_error_of_the_application_in_its_own_transaction_reaches_the_application_unchanged(
    postgres_dsn: str,
) -> None:
    async with PostgresStore(postgres_dsn) as store:
        with pytest.raises(ProgrammingError):
            async with store.transaction() as connection:
                await connection.execute(text("SELECT no_such_column"))


async def test_the_hot_read_is_an_index_scan_by_primary_key(postgres_dsn: str) -> None:

    async with PostgresStore(postgres_dsn):
        connection = await asyncpg.connect(postgres_dsn)
        await connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
        wanted = f"'{unknown_id()}'"
        one = await connection.fetch("EXPLAIN " + READ_ONE.replace("$1", wanted))
        many = await connection.fetch("EXPLAIN " + READ_MANY.replace("$1", f"ARRAY[{wanted}]"))
        await connection.close()
    assert "coatcheck_sessions_pkey" in str(one)
    assert "coatcheck_sessions_pkey" in str(many)


async def test_neither_password_nor_token_reaches_a_log_or_an_error(
    proxied_dsn: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pod, auth = pod_on(proxied_dsn.replace("postgres@", "postgres:hush-hush@"))
    async with pod:
        user = await auth.auth_users.create()
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        await auth.token_manager.validate_token(success.token)
        await proxy.cut()
        with pytest.raises(StoreUnavailable) as caught:
            await auth.token_manager.validate_token(success.token)
        await proxy.heal()
    told = caplog.text + repr(caught.value) + repr(caught.value.__cause__) + repr(pod)
    for secret in ("hush-hush", str(success.token), PEPPER):
        assert secret not in told


async def test_replacing_a_session_in_ones_own_transaction_waits_for_sign_out_everywhere_and_does_not_deadlock(
    postgres_dsn: str,
) -> None:
    pod, auth = pod_on(postgres_dsn)
    watcher = await asyncpg.connect(postgres_dsn)
    async with pod:
        user = await auth.auth_users.create()
        old = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        async with pod.store.transaction() as tx:
            assert await auth.token_manager.revoke_token(token_id=old.server_side_session_id, transaction=tx)
            everywhere = asyncio.create_task(auth.token_manager.revoke_all_tokens(auth_user_id=user.id))
            while not await watcher.fetchval(  # noqa: ASYNC110 (PostgreSQL has to be asked who waits for a lock)
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() "
                "AND wait_event_type = 'Lock')"
            ):
                await asyncio.sleep(0)
            new = await auth.token_manager.create_token(auth_user_id=user.id, method="email", transaction=tx)
        assert await everywhere == (new.server_side_session_id,)
        assert await auth.token_manager.validate_token(new.token) is None
    await watcher.close()


async def test_a_transaction_with_a_swallowed_error_does_not_pass_for_committed(postgres_dsn: str) -> None:
    """PostgreSQL answers the COMMIT of an aborted transaction with a silent ROLLBACK."""
    pod, auth = pod_on(postgres_dsn)
    async with pod:
        user = await auth.auth_users.create()
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        with pytest.raises(DBAPIError, match="aborted"):
            async with pod.store.transaction() as tx:
                assert await auth.token_manager.revoke_token(token_id=success.server_side_session_id, transaction=tx)
                with suppress(ProgrammingError):
                    await tx.execute(text("SELECT no_such_column"))
        assert await auth.token_manager.validate_token(success.token) is not None


async def test_a_sign_in_whose_hook_swallowed_an_error_does_not_pass_for_done(postgres_dsn: str) -> None:

    async def swallow(_user: UserId, _session: SessionId, connection: AsyncConnection) -> None:
        with suppress(ProgrammingError):
            await connection.execute(text("SELECT no_such_column"))

    pod = Pod(PostgresStore(postgres_dsn), environ={}, config_dir="none", prune_interval=None)
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER, on_session_created=swallow)
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    async with pod:
        user = await auth.auth_users.create()
        with pytest.raises(DBAPIError, match="aborted"):
            await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        assert len(await auth.token_manager.list_tokens()) == 0


@pytest.mark.parametrize("of_the_engine", [True, False])
async def test_a_connection_in_autocommit_is_no_transaction(postgres_dsn: str, *, of_the_engine: bool) -> None:
    """Its lock on the user's row would end with the statement, and a sign-in could outlive signing out everywhere."""
    pod, auth = pod_on(postgres_dsn)
    url = postgres_dsn.replace("://", "+asyncpg://")
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT") if of_the_engine else create_async_engine(url)
    async with pod, engine.connect() as mine:
        if not of_the_engine:
            await mine.execution_options(isolation_level="AUTOCOMMIT")
        user = await auth.auth_users.create()
        with pytest.raises(InvalidArgumentError, match="AUTOCOMMIT"):
            await auth.token_manager.create_token(auth_user_id=user.id, method="email", transaction=mine)
        assert len(await auth.token_manager.list_tokens()) == 0
    await engine.dispose()


async def test_a_pod_closes_in_time_when_the_network_is_gone(proxied_dsn: str, proxy: Proxy) -> None:
    async with impatient(proxied_dsn) as auth:
        await patiently(auth.auth_users.create)
        proxy.black_hole()
    with pytest.raises(NotOpenError):
        await auth.token_manager.list_tokens()


async def test_a_connection_that_is_made_while_its_holder_closes_does_not_outlive_that(postgres_dsn: str) -> None:
    made = await asyncpg.connect(postgres_dsn)
    is_connecting, may_connect = asyncio.Event(), asyncio.Event()

    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        is_connecting.set()
        await may_connect.wait()
        return made

    connection = PreparedConnection(connect, ("SELECT 1",))
    fetching = asyncio.create_task(connection.fetch("SELECT 1"))
    await is_connecting.wait()
    await connection.close(timeout_seconds=5)
    may_connect.set()
    with pytest.raises(StoreUnavailable, match="closed"):
        await fetching
    assert made.is_closed()


async def test_an_outage_inside_ones_own_transaction_is_unavailable(proxied_dsn: str, proxy: Proxy) -> None:
    pod, auth = pod_on(proxied_dsn)
    async with pod:
        user = await auth.auth_users.create()
        with pytest.raises(StoreUnavailable):
            async with pod.store.transaction() as tx:
                await tx.execute(text("SELECT 1"))
                await proxy.cut()
                await auth.token_manager.create_token(auth_user_id=user.id, method="email", transaction=tx)
        await proxy.heal()
        with pytest.raises(StoreUnavailable):
            async with pod.store.transaction() as tx:
                await tx.execute(text("SELECT 1"))
                await proxy.cut()
                await tx.execute(text("SELECT 'the application speaking'"))


async def test_an_error_of_the_callers_statement_reaches_the_caller_unchanged(postgres_dsn: str) -> None:
    pod, auth = pod_on(postgres_dsn)
    async with pod:
        user = await auth.auth_users.create()
        with pytest.raises(DBAPIError):
            async with pod.store.transaction() as tx:
                await tx.execute(text("ALTER TABLE coatcheck_users RENAME COLUMN scopes TO gone"))
                await auth.token_manager.create_token(auth_user_id=user.id, method="email", transaction=tx)


@pytest.mark.parametrize("in_savepoints", [False, True], ids=["plain", "savepoints"])
@pytest.mark.parametrize("has_written", [False, True], ids=["has only read", "has written"])
async def test_an_ending_of_the_transaction_in_which_a_sign_in_began_refuses_it_whatever_others_have_committed_since(
    postgres_dsn: str, *, has_written: bool, in_savepoints: bool
) -> None:
    """The transaction's id, once it has one, is below what others have committed, and looks as if it were over."""
    async with PostgresStore(postgres_dsn) as store:
        await register(store)
        async with store.transaction() as transaction:
            async with step(transaction, in_savepoint=in_savepoints):
                if has_written:
                    await store.set_user_scopes(ADA, frozenset(), transaction=transaction)
                await register(store, BOB)
                began_at = await store.read_position(transaction=transaction)
            async with step(transaction, in_savepoint=in_savepoints):
                await store.end_user_sessions(ADA, transaction=transaction)
            assert await insert_begun_at(began_at, store, transaction) is InsertRefusal.USER_REVOKED
        assert await insert_begun_at(began_at, store) is InsertRefusal.USER_REVOKED


async def test_a_transaction_that_has_written_does_not_make_an_older_ending_refuse_the_sign_in_that_begins_in_it(
    postgres_dsn: str,
) -> None:
    """Not even one that is younger than the transaction, or than another that goes on."""
    async with PostgresStore(postgres_dsn) as store:
        await register(store)
        await register(store, BOB)
        async with store.transaction() as another, store.transaction() as transaction:
            await store.set_user_scopes(BOB, frozenset(), transaction=another)
            await store.insert_user(UserId("new"), scopes=frozenset(), blocked=False, transaction=transaction)
            await store.end_user_sessions(ADA)
            began_at = await store.read_position(transaction=transaction)
            assert isinstance(await insert_begun_at(began_at, store, transaction), Insertion)
        assert isinstance(await insert_begun_at(began_at, store), Insertion)


def step(transaction: AsyncConnection, *, in_savepoint: bool) -> AbstractAsyncContextManager[object]:
    return transaction.begin_nested() if in_savepoint else nullcontext()


async def insert_begun_at(
    began_at: Position, store: PostgresStore, transaction: AsyncConnection | None = None
) -> Insertion | InsertRefusal:
    user = await store.read_user(ADA, transaction=transaction)
    assert user is not None
    return await store.insert_session(
        new_session(),
        expected_revocations=user.epochs.revocations,
        expected_rescopes=None,
        began_at=began_at,
        transaction=transaction,
    )
