"""PgBouncer in transaction mode before PostgreSQL: what it does not keep, what it interrupts, and what is said of it.

The store's other promises are held through it by `tests/stores/test_conformance.py`, and those of standbys by
`test_standbys.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck import ConfigurationError, Pod, ServerSideSessionsConfig, StoreUnavailable
from coatcheck.events import AnnouncementsMissed, RevokedAuthenticationUser
from coatcheck.identifiers import UserId
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.guarantee import GuaranteeLevel
from coatcheck.stores.records import SessionFilter, SessionUse
from coatcheck.stores.sql.postgresql.connection_shares import LEAST_CONNECTIONS
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.testing.conformance.announcing import Listening
from coatcheck.testing.samples import ADA, insert, new_session, read_present, register, sign_in, unknown_id
from tests.servers import postgres
from tests.servers.pgbouncer import IGNORED_PARAMETERS, PgBouncer
from tests.servers.postgres import PostgresServer
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from coatcheck import AuthServices
    from coatcheck.events import Message

pytestmark = [pytest.mark.postgres, pytest.mark.pgbouncer]

_WAITS_FOR_A_LOCK = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
_HAS_NAMES = "SELECT count(*) > 0 FROM pg_prepared_statements WHERE name LIKE 'coatcheck%'"
ONE_SERVER = {"default_pool_size": "1"}
NO_PATIENCE = {"server_login_retry": "0.1"}


@pytest.fixture
def own(request: pytest.FixtureRequest, postgres_admin_dsn: str) -> Iterator[PgBouncer]:
    """One of the test's own, with the settings that the test is marked with."""
    with PgBouncer(postgres_admin_dsn, settings=getattr(request, "param", {})) as started:
        yield started


@pytest.fixture
async def admin(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


def past(dsn: str) -> str:
    """The option that listens past PgBouncer."""
    return "listen=" + dsn.partition("@")[2].partition("/")[0]


@asynccontextmanager
async def pod_on(dsn: str) -> AsyncIterator[tuple[Pod, AuthServices]]:
    pod = Pod(dsn, environ={}, config_dir="no-such-folder", prune_interval=None)
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    async with pod:
        yield pod, auth


@asynccontextmanager
async def held_server(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A client of the pooler that has a server connection to itself."""
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "own",
    [{}, {"ignore_startup_parameters": IGNORED_PARAMETERS}],
    ids=["refuses settings at the start", "ignores settings at the start"],
    indirect=True,
)
async def test_a_pooler_is_found_and_sessions_live_and_end_through_it(own: PgBouncer, postgres_dsn: str) -> None:
    async with pod_on(own.through(postgres_dsn)) as (_, auth), pod_on(own.through(postgres_dsn)) as (_, other):
        user = await auth.auth_users.create()
        tokens = [await auth.token_manager.create_token(auth_user_id=user.id, method="m") for _ in range(20)]
        found = await asyncio.gather(*(other.token_manager.validate_token(one.token) for one in tokens))
        assert all(found)
        await other.token_manager.revoke_token(token_id=tokens[0].server_side_session_id)
        assert await auth.token_manager.validate_token(tokens[0].token) is None
        await other.token_manager.revoke_all_tokens(auth_user_id=user.id)
        assert not any(await asyncio.gather(*(auth.token_manager.validate_token(one.token) for one in tokens)))


async def test_a_pooler_that_is_named_is_not_looked_for_and_a_server_may_be_there(postgres_dsn: str) -> None:
    async with PostgresStore(f"{postgres_dsn}?pooler=transaction&{past(postgres_dsn)}") as store:
        session = await sign_in(store)
        assert await read_present(store, session.id) == session


async def test_without_a_way_to_listen_the_pod_says_so_and_subscribers_hear_that_they_may_have_missed_something(
    pgbouncer: PgBouncer, postgres_dsn: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coatcheck.stores.sql.postgresql.listener.UNHEARD_SECONDS", 0.01)
    heard: asyncio.Queue[Message] = asyncio.Queue()
    with caplog.at_level(logging.WARNING, logger="coatcheck"):
        async with pod_on(pgbouncer.through(postgres_dsn)) as (pod, _):
            pod.events.subscribe(heard.put)
            assert [await heard.get() for _ in range(3)] == [AnnouncementsMissed()] * 3
            guarantee = await pod.store.guarantee()
    (note,) = guarantee.notes
    assert "no `listen`" in note
    assert "every 15 seconds" in note
    assert any(note in record.getMessage() for record in caplog.records)


async def test_past_the_pooler_another_process_is_heard_at_once(
    pgbouncer: PgBouncer, postgres_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: asyncio.Queue[Message] = asyncio.Queue()
    url = pgbouncer.through(postgres_dsn, past(postgres_dsn))
    async with pod_on(url) as (pod, _), pod_on(url) as (_, other):
        pod.events.subscribe(heard.put)
        assert await heard.get() == AnnouncementsMissed()  # it listens from now on
        user = await other.auth_users.create()
        await other.token_manager.create_token(auth_user_id=user.id, method="m")
        await other.token_manager.revoke_all_tokens(auth_user_id=user.id)
        assert await heard.get() == RevokedAuthenticationUser(user.id)
        guarantee = await pod.store.guarantee()
    assert guarantee.notes == ()
    assert guarantee.level is GuaranteeLevel.STRICT_UNTIL_POWER_LOSS  # the tests' server has no fsync
    assert any("Other clients of the pooler" in one for one in guarantee.conditions)
    assert not [one for one in caplog.records if "listen" in one.getMessage()]


@pytest.mark.parametrize("own", [{"pool_mode": "session"}], indirect=True)
async def test_a_pooler_in_session_mode_may_be_listened_to(own: PgBouncer, postgres_dsn: str) -> None:
    url = own.through(postgres_dsn, past(own.dsn()))
    async with PostgresStore(url) as store, PostgresStore(url) as other:
        session = await sign_in(store)
        async with Listening(other) as listening:
            await store.delete_sessions(SessionFilter(session_id=session.id))
            await store.end_user_sessions(ADA)
            assert await listening.before(Announcement(ADA)) == [Announcement(ADA, session.id)]


@pytest.mark.parametrize("where", ["the pooler", "another database"])
async def test_a_listen_that_would_hear_nothing_is_refused_at_the_start(
    pgbouncer: PgBouncer, postgres_dsn: str, where: str
) -> None:
    if where == "the pooler":
        option = past(pgbouncer.dsn())
    else:
        option = (
            "listen=postgresql%3A%2F%2F"
            + postgres_dsn.removeprefix("postgresql://").rpartition("/")[0].replace("@", "%40").replace(":", "%3A")
            + "%2Fpostgres"
        )
    store = PostgresStore(pgbouncer.through(postgres_dsn, option), timeout_seconds=2)
    with pytest.raises(ConfigurationError, match="is not heard there"):
        await store.open()


async def test_settings_in_the_url_are_refused_because_a_pooler_does_not_keep_them(
    pgbouncer: PgBouncer, postgres_dsn: str
) -> None:
    with pytest.raises(ConfigurationError, match="ALTER ROLE") as caught:
        await PostgresStore(pgbouncer.through(postgres_dsn, "search_path=hidden")).open()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("own", [ONE_SERVER], indirect=True)
async def test_no_server_connection_is_held_between_calls(own: PgBouncer, postgres_dsn: str) -> None:
    """With a single one, each connection of two stores has its turn, and then another client."""
    url = own.through(postgres_dsn, past(postgres_dsn))
    async with PostgresStore(url) as store, PostgresStore(url) as other:
        for one in (store, other):
            session = await sign_in(one)
            assert await one.touch_sessions([SessionUse(session.id, 1)]) == {session.id}
            assert await one.read_user(session.user_id) is not None
            assert (await one.delete_sessions(SessionFilter(session_id=session.id))).ended
            await one.end_user_sessions(ADA)
        async with held_server(own.through(postgres_dsn)) as connection:
            assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("own", [{**ONE_SERVER, "query_wait_timeout": "1"}, ONE_SERVER], indirect=True)
async def test_a_pool_without_a_free_server_connection_is_an_outage_and_no_refusal(
    own: PgBouncer, postgres_dsn: str
) -> None:
    async with PostgresStore(own.through(postgres_dsn), timeout_seconds=2) as store:
        session = await sign_in(store)
        async with held_server(own.through(postgres_dsn)):
            for call in (
                store.read_session(session.id),
                store.delete_sessions(SessionFilter(session_id=session.id)),
                insert(store, new_session()),
            ):
                with pytest.raises(StoreUnavailable):
                    await call
        async with asyncio.timeout(30):
            assert await store.read_session(session.id) is not None


async def test_a_pooler_that_is_restarted_is_an_outage_until_it_is_back(own: PgBouncer, postgres_dsn: str) -> None:
    async with PostgresStore(own.through(postgres_dsn)) as store:
        session = await sign_in(store)
        await store.end_user_sessions(UserId("nobody"))  # the engine has a connection
        own.stop()
        for call in (store.read_session(session.id), store.end_user_sessions(ADA), insert(store, new_session())):
            with pytest.raises(StoreUnavailable):
                await call
        own.start()
        assert await read_present(store, session.id) == session
        await insert(store, new_session())
        assert len((await store.end_user_sessions(ADA)).ended) == 2


async def test_a_restart_between_two_calls_costs_no_error(own: PgBouncer, postgres_dsn: str) -> None:
    async with PostgresStore(own.through(postgres_dsn)) as store:
        session = await sign_in(store)
        await store.touch_sessions([SessionUse(session.id, 1)])
        await store.end_user_sessions(UserId("nobody"))
        own.stop()
        own.start()
        assert await read_present(store, session.id) == session
        assert await store.touch_sessions([SessionUse(session.id, 1)]) == {session.id}
        assert (await store.end_user_sessions(ADA)).ended


@pytest.mark.parametrize("restarts", ["DEALLOCATE ALL", "ALTER TABLE coatcheck_sessions ALTER method TYPE text"])
@pytest.mark.parametrize("own", [ONE_SERVER], indirect=True)
async def test_statements_that_a_server_connection_has_lost_or_that_are_out_of_date_are_prepared_again(
    own: PgBouncer, postgres_dsn: str, restarts: str
) -> None:
    async with PostgresStore(own.through(postgres_dsn), timeout_seconds=30) as store:
        session = await sign_in(store)
        async with held_server(own.through(postgres_dsn)) as connection:
            await connection.execute(restarts)
        assert await read_present(store, session.id) == session
        assert await store.read_session(unknown_id()) is None
        both = await asyncio.gather(store.read_session(session.id), store.read_session(unknown_id()))
        assert [one is None for one in both] == [False, True]
        async with held_server(own.through(postgres_dsn)) as connection:
            names = await connection.fetch("SELECT name FROM pg_prepared_statements WHERE name LIKE 'coatcheck%'")
    assert names


@pytest.mark.parametrize(
    "own", [{"server_reset_query_always": "1", "server_reset_query": "DISCARD ALL"}], indirect=True
)
async def test_a_pooler_that_clears_its_server_connections_each_time_is_served_without_names(
    own: PgBouncer, postgres_dsn: str
) -> None:
    async with PostgresStore(own.through(postgres_dsn)) as store:
        session = await sign_in(store)
        for _ in range(50):
            assert await read_present(store, session.id) == session
        await store.delete_sessions(SessionFilter(session_id=session.id))
        assert await store.read_session(session.id) is None


@pytest.mark.parametrize("own", [ONE_SERVER], indirect=True)
async def test_names_that_were_given_up_are_tried_again(
    own: PgBouncer, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coatcheck.stores.sql.postgresql.pooled_statements._CALLS_WITHOUT_NAME", 3)
    async with PostgresStore(own.through(postgres_dsn), connections=LEAST_CONNECTIONS) as store:
        session = await sign_in(store)

        async def named_after_a_read(*, without: str) -> bool:
            async with held_server(own.through(postgres_dsn)) as connection:
                await connection.execute(without)
            assert await read_present(store, session.id) == session
            async with held_server(own.through(postgres_dsn)) as connection:
                return bool(await connection.fetchval(_HAS_NAMES))

        lost = [await named_after_a_read(without="DEALLOCATE ALL") for _ in range(11)]
        assert lost == [True] * 10 + [False]
        kept = [await named_after_a_read(without="SELECT 1") for _ in range(4)]
        assert kept == [False, False, True, True]


async def test_a_default_isolation_level_that_is_too_high_does_not_matter(
    own: PgBouncer, postgres_dsn: str, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    await admin.execute(
        f"ALTER DATABASE {postgres_dsn.rpartition('/')[2]} SET default_transaction_isolation = 'repeatable read'"
    )
    async with PostgresStore(own.through(postgres_dsn)) as store:
        session = await sign_in(store)
        async with store.transaction() as connection:
            shown = await connection.exec_driver_sql("SHOW transaction_isolation")
            assert shown.scalar_one() == "read committed"
            await store.set_session_scopes(session.id, frozenset(), transaction=connection)
            revoking = asyncio.create_task(store.delete_sessions(SessionFilter(session_id=session.id)))
            while not await admin.fetchval(_WAITS_FOR_A_LOCK):  # noqa: ASYNC110 (there is no event to wait for)
                await asyncio.sleep(0.01)
        assert [one.session_id for one in (await revoking).ended] == [session.id]
        assert await store.read_session(session.id) is None


@pytest.mark.parametrize("own", [ONE_SERVER], indirect=True)
async def test_transactions_of_the_application_go_through_the_pooler_too(own: PgBouncer, postgres_dsn: str) -> None:
    async with PostgresStore(own.through(postgres_dsn)) as store:
        url = own.through(postgres_dsn).replace("://", "+asyncpg://")
        engines = [create_async_engine(url, connect_args={"statement_cache_size": 0}) for _ in range(2)]
        for engine in engines:
            session = await sign_in(store)
            for _ in range(2):
                async with engine.begin() as mine:
                    await store.set_session_scopes(session.id, frozenset(), transaction=mine)
            async with engine.begin() as mine:
                assert (await store.delete_sessions(SessionFilter(session_id=session.id), transaction=mine)).ended
            assert await store.read_session(session.id) is None
        for engine in engines:
            await engine.dispose()


async def test_a_setting_of_another_client_does_not_weaken_a_transaction(
    own: PgBouncer, postgres_dsn: str, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    await admin.execute(f"ALTER DATABASE {postgres_dsn.rpartition('/')[2]} SET synchronous_commit = off")
    async with PostgresStore(own.through(postgres_dsn)) as store:
        async with store.transaction() as connection:
            shown = await connection.exec_driver_sql("SHOW synchronous_commit")
            assert shown.scalar_one() == "on"
        assert (await store.guarantee()).settings["synchronous_commit"] == "on"
        async with held_server(own.through(postgres_dsn)) as connection:
            assert await connection.fetchval("SHOW synchronous_commit") == "off"  # as others want it


@pytest.mark.extended  # it takes two servers
async def test_a_pooler_that_leads_to_a_standby_is_an_outage_and_no_old_answer() -> None:
    if reason := postgres.missing():
        pytest.skip(reason)
    primary = PostgresServer(settings={"wal_level": "replica"})
    standby = PostgresServer(primary=primary)
    own = PgBouncer(primary.dsn())
    try:
        async with PostgresStore(own.dsn()) as store:
            await register(store)
            session = await insert(store, new_session())
            position = await _fetch(primary, "SELECT pg_current_wal_lsn()::text")
            while not await _fetch(standby, f"SELECT pg_last_wal_replay_lsn() >= '{position}'"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            own.stand_before(standby.dsn())
            while not await _through(own, "SELECT pg_is_in_recovery()"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            for call in (
                store.read_session(session.id),
                store.read_session(unknown_id()),
                store.read_user(session.user_id),
                store.read_position(),
                store.touch_sessions([SessionUse(session.id, 1)]),
                store.delete_sessions(SessionFilter(session_id=session.id)),
            ):
                with pytest.raises(StoreUnavailable):
                    await call
            own.stand_before(primary.dsn())
            while await _through(own, "SELECT pg_is_in_recovery()"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert await read_present(store, session.id) == session
    finally:
        own.remove()
        standby.remove()
        primary.remove()


@pytest.mark.extended  # it takes a server of its own
async def test_a_validation_is_one_round_trip_and_the_pooler_makes_no_settings_for_it() -> None:
    if reason := postgres.missing():
        pytest.skip(reason)
    server = PostgresServer(settings={"log_statement": "all"})
    pooler = PgBouncer(server.dsn(), settings=ONE_SERVER)
    try:
        async with PostgresStore(pooler.dsn()) as store:
            session = await sign_in(store)
            await store.read_session(session.id)
            before = server.log()
            for _ in range(5):
                await store.read_session(session.id)
            statements = [line for line in server.log().removeprefix(before).splitlines() if "LOG:  " in line]
    finally:
        pooler.remove()
        server.remove()
    assert [line.partition("LOG:  ")[2].partition(":")[0].partition("_")[0] for line in statements] == [
        "execute coatcheck"
    ] * 5


@pytest.mark.extended  # it takes a server of its own
async def test_a_server_that_is_restarted_behind_the_pooler_is_an_outage_until_it_is_back(
    postgres_server: PostgresServer,
) -> None:
    pooler = PgBouncer(postgres_server.dsn(), settings=NO_PATIENCE)
    try:
        async with PostgresStore(pooler.dsn(), timeout_seconds=3) as store:
            session = await sign_in(store)
            postgres_server.kill()
            for call in (store.read_session(session.id), store.end_user_sessions(ADA)):
                with pytest.raises(StoreUnavailable):
                    await call
            postgres_server.start()
            async with asyncio.timeout(30):
                while True:
                    try:
                        assert await store.read_session(session.id) is not None
                        break
                    except StoreUnavailable:  # PgBouncer waits before it tries to log in again
                        continue
            assert (await store.end_user_sessions(ADA)).ended
    finally:
        pooler.remove()


PROCESS = """
import asyncio, collections, json, sys
from coatcheck import Pod, ServerSideSessionsConfig

async def main(url, pepper, live, ended):
    pod = Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None)
    config = ServerSideSessionsConfig(session_key_hash_pepper=pepper)
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    validate, counted = auth.token_manager.validate_token, collections.Counter()

    async def check(token, is_live):
        try:
            is_right = (await validate(token) is not None) is is_live
        except Exception as error:
            counted[f"failed: {error!r} {error.__cause__!r}"] += 1
        else:
            counted["right" if is_right else "wrong"] += 1

    async with pod:
        user = await auth.auth_users.create()
        for _ in range(40):
            mine = [await auth.token_manager.create_token(auth_user_id=user.id, method="m") for _ in range(3)]
            await asyncio.gather(*(check(one.token, True) for one in mine), *(check(one, True) for one in live))
            await auth.token_manager.revoke_token(token_id=mine[0].server_side_session_id)
            others = (check(one, False) for one in ended)
            await asyncio.gather(*(check(one.token, one is not mine[0]) for one in mine), *others)
            await auth.token_manager.revoke_all_tokens(auth_user_id=user.id)
            await asyncio.gather(*(check(one.token, False) for one in mine))
    print(json.dumps(counted))

asyncio.run(main(*sys.argv[1:3], *map(json.loads, sys.argv[3:])))
"""


@pytest.mark.extended  # three processes
@pytest.mark.parametrize("own", [{"default_pool_size": "5"}], indirect=True)
async def test_three_processes_and_other_clients_share_few_server_connections_without_a_wrong_answer(
    own: PgBouncer, postgres_dsn: str
) -> None:
    url = own.through(postgres_dsn)
    async with pod_on(url) as (_, auth):
        user = await auth.auth_users.create()
        made = [await auth.token_manager.create_token(auth_user_id=user.id, method="m") for _ in range(20)]
        for one in made[:10]:
            await auth.token_manager.revoke_token(token_id=one.server_side_session_id)
        tokens = [[str(one.token) for one in part] for part in (made[10:], made[:10])]
        command = [sys.executable, "-c", PROCESS, url, PEPPER, *map(json.dumps, tokens)]
        processes = [await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE) for _ in range(3)]
        others = [asyncio.create_task(_be_another_client(url)) for _ in range(4)]
        answers = [json.loads((await process.communicate())[0]) for process in processes]
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    assert answers == [{"right": 40 * (3 + 10 + 3 + 10 + 3)}] * 3


async def _be_another_client(url: str) -> None:
    """Short transactions, statements of asyncpg's own and a connection that is thrown away, again and again."""
    while True:
        connection = await asyncpg.connect(url, statement_cache_size=0)
        try:
            for number in range(20):
                assert await connection.fetchval("SELECT $1::int", number) == number
                async with connection.transaction():
                    await connection.execute("SELECT pg_sleep(0.001)")
        finally:
            connection.terminate()


async def _fetch(server: PostgresServer, question: str) -> object:
    connection = await asyncpg.connect(server.dsn())
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


async def _through(pooler: PgBouncer, question: str) -> object:
    connection = await asyncpg.connect(pooler.dsn(), statement_cache_size=0)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()
