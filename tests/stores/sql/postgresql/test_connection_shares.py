"""A process has no more connections than it was given, does everything with the least, and says how many there are."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from coatcheck import ConfigurationError, Pod, ServerSideSessionsConfig
from coatcheck.events import AnnouncementsMissed
from coatcheck.stores.records import SessionFilter, SessionUse
from coatcheck.stores.sql.postgresql.connection_shares import (
    DEFAULT_CONNECTIONS,
    LEAST_CONNECTIONS,
    ConnectionShares,
)
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.testing.samples import insert, new_session, read_present, register
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coatcheck.events import Message
    from tests.servers.pgbouncer import PgBouncer


class TestShares:
    @pytest.mark.parametrize("connections", range(LEAST_CONNECTIONS, 41))
    def test_add_up_to_what_was_given_and_leave_out_nothing_that_is_needed(self, connections: int) -> None:
        shares = ConnectionShares.of(connections)
        assert shares.total == connections
        assert min(shares.session_reads, shares.touches, shares.announcements) >= 1
        assert shares.transactions >= 2

    def test_do_not_shrink_when_more_is_given(self) -> None:
        """Nobody gets slower validations for one connection more."""
        all_of_them = [ConnectionShares.of(connections) for connections in range(LEAST_CONNECTIONS, 41)]
        for name in ("session_reads", "user_reads", "sign_ins", "revocations", "touches"):
            assert [getattr(one, name) for one in all_of_them] == sorted(getattr(one, name) for one in all_of_them)

    @pytest.mark.parametrize("connections", [LEAST_CONNECTIONS - 1, 1, 0, -20, True, 20.0])
    def test_of_too_few_connections_are_refused(self, connections: int) -> None:
        with pytest.raises(ConfigurationError, match="connections must be a whole number of 5 or more"):
            ConnectionShares.of(connections)

    @pytest.mark.parametrize("given", ["4", "0", "-1", "many", "5&connections=6", "9999999", "٢٠"])
    def test_of_a_number_in_the_url_that_is_none_or_too_small_are_refused(self, given: str) -> None:
        with pytest.raises(ConfigurationError, match=r"(?<!\w)(connections|cannot be read)"):
            PostgresStore(f"postgresql://db/name?connections={given}")

    def test_of_the_argument_win_over_those_of_the_url(self) -> None:
        with pytest.raises(ConfigurationError, match="not 3"):
            PostgresStore("postgresql://db/name?connections=20", connections=3)
        PostgresStore("postgresql://db/name?connections=3", connections=20)


@pytest.fixture
async def admin(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def role(postgres_dsn: str, admin: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[str]:
    """A role without special rights, which the server's limits bind, and which owns the database."""
    database = postgres_dsn.rpartition("/")[2]
    name = f"role_of_{database}"
    await admin.execute(f"CREATE ROLE {name} LOGIN")
    await admin.execute(f"ALTER DATABASE {database} OWNER TO {name}")
    await admin.execute(f"ALTER SCHEMA public OWNER TO {name}")
    yield name
    await admin.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
    await admin.execute(f"DROP OWNED BY {name}")
    await admin.execute(f"DROP ROLE {name}")


def url_of(role: str, dsn: str, options: str = "") -> str:
    return f"postgresql://{role}@{dsn.partition('@')[2]}{options}"


@asynccontextmanager
async def listening_pod(store: PostgresStore) -> AsyncIterator[Pod]:
    """A pod that hears announcements, so that each connection is there that there will be."""
    heard: asyncio.Queue[Message] = asyncio.Queue()
    pod = Pod(store, environ={}, config_dir="no-such-folder", prune_interval=None)
    pod.initialize_auth_services(token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)])
    async with pod:
        pod.events.subscribe(heard.put)
        assert await heard.get() == AnnouncementsMissed()
        yield pod


@pytest.mark.postgres
@pytest.mark.parametrize("connections", [LEAST_CONNECTIONS, 8, DEFAULT_CONNECTIONS])
async def test_a_busy_process_uses_all_of_its_connections_and_never_asks_for_one_more(
    postgres_dsn: str, role: str, admin: asyncpg.Connection[asyncpg.Record], connections: int
) -> None:
    """The server refuses one more, and not all calls would succeed."""
    await admin.execute(f"ALTER ROLE {role} CONNECTION LIMIT {connections}")
    store = PostgresStore(url_of(role, postgres_dsn, f"?connections={connections}"), timeout_seconds=60)
    async with listening_pod(store):
        await register(store)
        shares = ConnectionShares.of(connections)
        all_there, may_go_on = asyncio.Barrier(shares.transactions + 1), asyncio.Event()

        async def hold_a_transaction() -> None:
            async with store.transaction():
                await all_there.wait()
                await may_go_on.wait()

        async def live() -> None:
            session = await insert(store, new_session())
            assert await read_present(store, session.id) == session
            assert await store.read_user(session.user_id) is not None
            assert await store.touch_sessions([SessionUse(session.id, 1)]) == {session.id}
            assert (await store.delete_sessions(SessionFilter(session_id=session.id))).ended
            assert await store.read_session(session.id) is None

        await asyncio.gather(*(live() for _ in range(40)))
        holders = [asyncio.create_task(hold_a_transaction()) for _ in range(shares.transactions)]
        await all_there.wait()
        lives = [asyncio.create_task(live()) for _ in range(40)]
        used = await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE usename = $1", role)
        may_go_on.set()
        await asyncio.gather(*holders, *lives)
    assert used == connections


@pytest.mark.postgres
async def test_the_log_says_how_many_connections_there_are(
    postgres_dsn: str, caplog: pytest.LogCaptureFixture, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    there = await admin.fetchval(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    )
    with caplog.at_level(logging.INFO, logger="coatcheck"):
        async with PostgresStore(f"{postgres_dsn}?connections=7"):
            pass
    (record,) = (one for one in caplog.records if "connections" in one.getMessage())
    assert record.levelno == logging.INFO
    assert record.getMessage().endswith(f" takes 7 connections at most, and the server has {there} for this role")


@pytest.mark.postgres
@pytest.mark.parametrize("limit", ["ROLE {role}", "DATABASE {database}"])
async def test_the_log_warns_of_a_limit_that_is_lower(
    postgres_dsn: str,
    role: str,
    admin: asyncpg.Connection[asyncpg.Record],
    caplog: pytest.LogCaptureFixture,
    limit: str,
) -> None:
    named = limit.format(role=role, database=postgres_dsn.rpartition("/")[2])
    await admin.execute(f"ALTER {named} CONNECTION LIMIT 6")
    with caplog.at_level(logging.INFO, logger="coatcheck"):
        async with PostgresStore(url_of(role, postgres_dsn)):
            pass
    (record,) = (one for one in caplog.records if "connections" in one.getMessage())
    assert record.levelno == logging.WARNING
    assert "takes 20 connections at most, and the server has 6 for this role: it may refuse some" in record.getMessage()


@pytest.mark.postgres
@pytest.mark.pgbouncer
@pytest.mark.parametrize(
    ("listens", "words"),
    [
        (False, "takes 19 connections of the pooler at most"),
        (True, "19 connections of the pooler, and 1 past it at most"),
    ],
)
async def test_the_log_says_which_connections_go_to_the_pooler(
    pgbouncer: PgBouncer, postgres_dsn: str, caplog: pytest.LogCaptureFixture, *, listens: bool, words: str
) -> None:
    options = "listen=" + postgres_dsn.partition("@")[2].partition("/")[0] if listens else ""
    with caplog.at_level(logging.INFO, logger="coatcheck"):
        async with PostgresStore(pgbouncer.through(postgres_dsn, options)):
            pass
    (record,) = (one for one in caplog.records if "connections" in one.getMessage())
    assert record.levelno == logging.INFO
    assert words in record.getMessage()
