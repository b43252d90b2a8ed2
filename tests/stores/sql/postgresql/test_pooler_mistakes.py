"""A start through PgBouncer that cannot succeed names what to do; one that waiting may help names what was reached."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING
from urllib.parse import quote

import asyncpg
import pytest

from coatcheck import ConfigurationError, StoreUnavailable
from coatcheck.stores.sql.postgresql import connecting
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.testing.samples import read_present, sign_in
from tests.servers.pgbouncer import PgBouncer
from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.postgres, pytest.mark.pgbouncer]

SECRET = "hunter2-the-password"


@pytest.fixture
def own(request: pytest.FixtureRequest, postgres_admin_dsn: str) -> Iterator[PgBouncer]:
    """One of the test's own, with the settings that the test is marked with."""
    with PgBouncer(postgres_admin_dsn, settings=getattr(request, "param", {})) as started:
        yield started


async def mistake_at_the_start(dsn: str) -> str:
    """The words of the error with which a store does not open."""
    with pytest.raises(ConfigurationError) as refused:
        async with PostgresStore(dsn):
            pass
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    return str(refused.value)


@pytest.mark.parametrize("own", [{"auth_type": "md5"}, {"auth_type": "scram-sha-256"}], indirect=True)
@pytest.mark.parametrize("user", ["postgres", "nobody"])
async def test_a_wrong_user_or_password_is_named(own: PgBouncer, postgres_dsn: str, user: str) -> None:
    message = await mistake_at_the_start(own.through(postgres_dsn).replace("postgres@", f"{user}:{SECRET}@"))
    assert "user name or password" in message
    assert "auth_file" in message


async def test_a_missing_database_is_named(own: PgBouncer) -> None:
    message = await mistake_at_the_start(own.dsn("missing"))
    assert "no such database" in message
    assert "127.0.0.1/missing" in message


@pytest.mark.parametrize("own", [{"pool_mode": "statement"}], indirect=True)
async def test_a_pooler_in_statement_mode_is_refused(own: PgBouncer, postgres_dsn: str) -> None:
    assert "set its pool_mode to transaction" in await mistake_at_the_start(own.through(postgres_dsn))


@pytest.mark.parametrize("own", [{"pool_mode": "session"}], indirect=True)
async def test_a_pooler_in_session_mode_is_used_like_one_in_transaction_mode(own: PgBouncer, postgres_dsn: str) -> None:
    async with PostgresStore(own.through(postgres_dsn)) as store:
        session = await sign_in(store)
        assert await read_present(store, session.id) == session
        assert (await store.guarantee()).notes


@pytest.mark.parametrize("own", [{"max_client_conn": "1"}], indirect=True)
async def test_a_pooler_that_takes_no_more_clients_is_an_outage_that_names_its_limit(
    own: PgBouncer, postgres_dsn: str
) -> None:
    only = await asyncpg.connect(own.through(postgres_dsn), statement_cache_size=0)
    with pytest.raises(StoreUnavailable, match=r"SQLSTATE 08P01, max_client_conn\)$"):
        await PostgresStore(own.through(postgres_dsn)).open()
    await only.close()


@pytest.mark.parametrize("own", [{"default_pool_size": "1", "query_wait_timeout": "1"}], indirect=True)
async def test_a_pool_without_a_free_server_connection_is_an_outage_that_names_its_limit(
    own: PgBouncer, postgres_dsn: str
) -> None:
    only = await asyncpg.connect(own.through(postgres_dsn), statement_cache_size=0)
    async with only.transaction():
        await only.fetchval("SELECT 1")
        with pytest.raises(StoreUnavailable, match=r"query_wait_timeout\)$"):
            await PostgresStore(own.through(postgres_dsn), timeout_seconds=30).open()
    await only.close()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("postgresql://{server}/missing", "no such database"),
        ("postgresql://{server}/{database}?misspelled=1", "no parameter of that name"),
        ("postgresql://{server}/{database}?sslmode=require", "speaks no TLS"),
    ],
)
async def test_a_listen_that_can_never_be_reached_is_refused_and_says_that_it_is_listen(
    own: PgBouncer, postgres_dsn: str, target: str, words: str
) -> None:
    server, _, database = postgres_dsn.removeprefix("postgresql://").partition("/")
    listen = quote(target.format(server=server, database=database), safe="")
    message = await mistake_at_the_start(own.through(postgres_dsn, f"listen={listen}"))
    assert "listen in the store URL cannot be used" in message
    assert words in message


async def test_a_listen_that_does_not_answer_yet_is_logged_and_the_store_opens(
    own: PgBouncer, postgres_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="coatcheck"):
        async with PostgresStore(own.through(postgres_dsn, f"listen=127.0.0.1:{free_port()}")) as store:
            session = await sign_in(store)
            assert await read_present(store, session.id) == session
    (record,) = (one for one in caplog.records if "cannot listen to" in one.getMessage())
    assert "ConnectionRefusedError" in record.getMessage()


async def test_the_time_limit_for_connecting_includes_the_look_for_a_pooler(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "_WHICH_PROCESS", "SELECT 1, false FROM pg_sleep(60)")
    async with asyncio.timeout(30):
        with pytest.raises(StoreUnavailable, match="TimeoutError"):
            await PostgresStore(f"{postgres_dsn}?connect_timeout=1", timeout_seconds=60).open()
