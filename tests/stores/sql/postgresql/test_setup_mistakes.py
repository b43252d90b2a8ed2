"""A start that cannot succeed is no outage: its error names what to do, the server and the database, and no secret."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import asyncpg
import pytest
import trustme

from coatcheck import ConfigurationError, StoreUnavailable
from coatcheck.stores.sql.migrate import VERSION_TABLE
from coatcheck.stores.sql.postgresql.store import PostgresStore
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

SECRET = "hunter2-the-password"


@pytest.fixture(scope="module")
def server(
    postgres_admin_dsn: str,  # noqa: ARG001 (marks the tests)
    postgres_version: str | None,
) -> Iterator[PostgresServer]:
    with_password = PostgresServer(version=postgres_version)
    yield with_password
    with_password.remove()


@pytest.fixture
async def admin(server: PostgresServer) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to a database `notes` that is new, with a role `app` that has a password and no rights."""
    server.allow("host all all 127.0.0.1/32 trust")
    connection = await asyncpg.connect(server.dsn())
    await connection.execute("DROP DATABASE IF EXISTS notes WITH (FORCE)")
    await connection.execute("DROP ROLE IF EXISTS app")
    await connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{SECRET}'")
    await connection.execute("CREATE DATABASE notes")
    await connection.close()
    connection = await asyncpg.connect(server.dsn("notes"))
    yield connection
    await connection.close()


def url(server: PostgresServer, *, role: str = "app", database: str = "notes", options: str = "") -> str:
    return f"postgresql://{role}:{SECRET}@127.0.0.1:{server.port}/{database}{options}"


async def mistake_at_the_start(store: PostgresStore) -> str:
    """The last line of the error with which it does not open."""
    with pytest.raises(ConfigurationError) as refused:
        async with store:
            pass
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("role", "database", "options", "names"),
    [
        ("nobody", "notes", "", ["user name", "pg_hba.conf", "SQLSTATE 28000"]),
        ("app", "missing", "", ["no such database", "CREATE DATABASE", "127.0.0.1/missing", "SQLSTATE 3D000"]),
        ("app", "notes", "", ["GRANT CREATE", "migrates=False", "127.0.0.1/notes", "SQLSTATE 42501"]),
        ("postgres", "notes", "?misspelled=1", ["no parameter of that name", "misspelled", "SQLSTATE 42704"]),
        ("postgres", "notes", "?work_mem=lots", ["value of a parameter", "SQLSTATE 22023"]),
        ("postgres", "notes", "?max_connections=9", ["does not let a client change", "SQLSTATE 55P02"]),
        ("postgres", "notes", "?search_path=nowhere", ["no schema", "CREATE SCHEMA", "SQLSTATE 3F000"]),
        ("postgres", "notes", "?sslmode=require", ["speaks no TLS", "ssl = on"]),
    ],
)
@pytest.mark.usefixtures("admin")
async def test_a_connection_that_the_server_refuses(
    server: PostgresServer, role: str, database: str, options: str, names: list[str]
) -> None:
    store = PostgresStore(url(server, role=role, database=database, options=options))
    message = await mistake_at_the_start(store)
    for name in names:
        assert name in message


async def test_a_wrong_password_names_the_password_and_no_part_of_it(
    server: PostgresServer, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    await admin.execute("ALTER ROLE app PASSWORD 'another'")
    server.allow("host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256")
    message = await mistake_at_the_start(PostgresStore(url(server)))
    assert "check user name and password" in message
    assert "SQLSTATE 28P01" in message


@pytest.mark.usefixtures("admin")
async def test_an_address_that_no_rule_lets_in(server: PostgresServer) -> None:
    server.allow("host postgres postgres 127.0.0.1/32 trust")
    assert "pg_hba.conf" in await mistake_at_the_start(PostgresStore(url(server)))


class TestSeveralHosts:
    """A standby that lags does not know a new role, password or database yet."""

    @pytest.mark.parametrize(
        ("role", "database", "sqlstate"), [("postgres", "missing", "3D000"), ("nobody", "notes", "28000")]
    )
    @pytest.mark.usefixtures("admin")
    async def test_the_refusal_of_one_is_an_outage_while_another_is_silent(
        self, server: PostgresServer, role: str, database: str, sqlstate: str
    ) -> None:
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{server.port}"
        with pytest.raises(StoreUnavailable, match=rf"does not serve: ConnectionRefused.* behind: .*{sqlstate}"):
            async with PostgresStore(f"postgresql://{role}:{SECRET}@{hosts}/{database}"):
                pass

    async def test_the_wrong_password_of_one_is_an_outage_while_another_is_silent(
        self, server: PostgresServer, admin: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        await admin.execute("ALTER ROLE app PASSWORD 'another'")
        server.allow("host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256")
        hosts = f"127.0.0.1:{server.port},127.0.0.1:{free_port()}"
        with pytest.raises(StoreUnavailable, match=r"behind: .*28P01"):
            async with PostgresStore(f"postgresql://app:{SECRET}@{hosts}/notes"):
                pass

    @pytest.mark.usefixtures("admin")
    async def test_the_refusals_of_all_are_a_mistake(self, server: PostgresServer) -> None:
        hosts = f"127.0.0.1:{server.port},127.0.0.1:{server.port}"
        store = PostgresStore(f"postgresql://app:{SECRET}@{hosts}/missing")
        assert "no such database" in await mistake_at_the_start(store)

    @pytest.mark.usefixtures("admin")
    async def test_what_has_nothing_to_do_with_a_lag_is_a_mistake_although_another_is_silent(
        self, server: PostgresServer
    ) -> None:
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{server.port}"
        store = PostgresStore(f"postgresql://postgres:{SECRET}@{hosts}/notes?sslmode=require")
        assert "speaks no TLS" in await mistake_at_the_start(store)


class TestTables:
    async def test_that_another_migration_was_to_make_are_missing(
        self, server: PostgresServer, admin: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        del admin
        message = await mistake_at_the_start(PostgresStore(url(server, role="postgres"), migrates=False))
        assert "`alembic upgrade heads`" in message
        assert "migrates=True" in message

    async def test_of_which_a_column_is_missing(
        self, server: PostgresServer, admin: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        async with PostgresStore(url(server, role="postgres")):
            pass
        await admin.execute("ALTER TABLE coatcheck_sessions DROP COLUMN ip_address")
        message = await mistake_at_the_start(PostgresStore(url(server, role="postgres"), migrates=False))
        assert "`alembic upgrade heads`" in message

    @pytest.mark.parametrize("missing", ["SELECT", "INSERT", "UPDATE", "DELETE"])
    async def test_on_which_a_right_is_missing(
        self, server: PostgresServer, admin: asyncpg.Connection[asyncpg.Record], missing: str
    ) -> None:
        async with PostgresStore(url(server, role="postgres")):
            pass
        await admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app")
        async with PostgresStore(url(server), migrates=False):
            pass
        await admin.execute(f"REVOKE {missing} ON coatcheck_users FROM app")
        message = await mistake_at_the_start(PostgresStore(url(server), migrates=False))
        assert "GRANT SELECT, INSERT, UPDATE, DELETE" in message
        if missing != "SELECT":
            assert message.endswith(f"coatcheck_users ({missing})")

    async def test_of_a_newer_version_are_left_alone(
        self, server: PostgresServer, admin: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        async with PostgresStore(url(server, role="postgres")):
            pass
        await admin.execute(f"UPDATE {VERSION_TABLE} SET version_num = 'coatcheck_0099'")  # noqa: S608 (a constant)
        message = await mistake_at_the_start(PostgresStore(url(server, role="postgres")))
        assert "newer Coatcheck (revision coatcheck_0099" in message

    async def test_that_go_missing_while_it_is_open_are_named_with_the_outage(
        self, server: PostgresServer, admin: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        async with PostgresStore(url(server, role="postgres")) as store:
            await admin.execute("DROP TABLE coatcheck_sessions CASCADE")
            with pytest.raises(StoreUnavailable, match=r"SQLSTATE 42P01\).*`alembic upgrade heads`"):
                await store.count_by_pepper()


class TestTls:
    @pytest.fixture
    def authority(self, server: PostgresServer, tmp_path: Path) -> Iterator[Path]:
        """The certificate of the authority that has signed the server's, which is for `localhost`."""
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        server.speak_tls(b"".join(one.bytes() for one in issued.cert_chain_pems), issued.private_key_pem.bytes())
        path = tmp_path / "authority.pem"
        path.write_bytes(authority.cert_pem.bytes())
        yield path
        server.stop_tls()

    @pytest.mark.usefixtures("admin")
    async def test_a_server_with_a_trusted_certificate_is_used(self, server: PostgresServer, authority: Path) -> None:
        host = url(server, role="postgres").replace("127.0.0.1", "localhost")
        async with PostgresStore(f"{host}?sslmode=verify-full&sslrootcert={authority}"):
            pass

    @pytest.mark.usefixtures("admin")
    async def test_a_certificate_of_another_host_is_named(self, server: PostgresServer, authority: Path) -> None:
        store = PostgresStore(url(server, role="postgres", options=f"?sslmode=verify-full&sslrootcert={authority}"))
        message = await mistake_at_the_start(store)
        assert "not trusted" in message
        assert "write the host in the store URL as the certificate has it" in message

    @pytest.mark.usefixtures("admin", "authority")
    async def test_a_certificate_of_an_unknown_authority_is_named(self, server: PostgresServer, tmp_path: Path) -> None:
        other = tmp_path / "other.pem"
        other.write_bytes(trustme.CA().cert_pem.bytes())
        store = PostgresStore(url(server, role="postgres", options=f"?sslmode=verify-ca&sslrootcert={other}"))
        assert "not trusted" in await mistake_at_the_start(store)


class TestOutages:
    """An outage, against which waiting helps, stays one and names its cause."""

    async def test_a_server_that_is_not_there(self) -> None:
        with pytest.raises(StoreUnavailable, match=r"\(ConnectionRefusedError, .*\)$"):
            async with PostgresStore(f"postgresql://app:{SECRET}@127.0.0.1:{free_port()}/notes"):
                pass

    async def test_a_host_that_is_not_known(self) -> None:
        with pytest.raises(StoreUnavailable, match=r"\(gaierror, .*\)$"):
            async with PostgresStore(f"postgresql://app:{SECRET}@no-such-host.invalid/notes"):
                pass

    async def test_a_server_with_no_connection_left(
        self, server: PostgresServer, admin: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        await admin.execute("ALTER ROLE app CONNECTION LIMIT 0")
        with pytest.raises(StoreUnavailable, match=r"\(TooManyConnectionsError, SQLSTATE 53300\)$"):
            async with PostgresStore(url(server)):
                pass
