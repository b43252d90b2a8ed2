"""The ways in which a start on PostgreSQL can fail."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import asyncpg
import trustme

from coatcheck import GuaranteeLevel, StoreUnavailable
from coatcheck.stores.sql.migrate import VERSION_TABLE
from coatcheck.stores.sql.postgresql.store import PostgresStore
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.starts.ways import SECRET, WRONG, Certified, Ways

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from coatcheck.stores.store import Store
    from tests.starts.ways import Places

POSTGRES = Ways()

_QUICK_SECONDS = 2.0


@asynccontextmanager
async def _database(server: PostgresServer, *statements: str) -> AsyncIterator[str]:
    """The URL of a new database `notes`, for a role `app` with a password and with nothing else, after `statements`."""
    admin = await asyncpg.connect(server.dsn())
    try:
        await admin.execute("DROP DATABASE IF EXISTS notes WITH (FORCE)")
        await admin.execute("DROP ROLE IF EXISTS app")
        await admin.execute(f"CREATE ROLE app LOGIN PASSWORD '{SECRET}'")
        await admin.execute("CREATE DATABASE notes OWNER app")
        for statement in statements:
            await admin.execute(statement)
        yield f"postgresql://app:{SECRET}@127.0.0.1:{server.port}/notes"
    finally:
        await admin.close()


@contextmanager
def _speaking_tls(
    server: PostgresServer, files: Certified, *rules: str, clients: trustme.CA | None = None
) -> Iterator[str]:
    """The URL of a server that speaks TLS for `localhost`, whose pg_hba.conf has these rules."""
    authorities = None if clients is None else clients.cert_pem.bytes()
    server.speak_tls(files.cert.read_bytes(), files.key.read_bytes(), authorities_of_clients=authorities)
    if rules:
        server.allow(*rules)
    try:
        yield f"postgresql://postgres:{SECRET}@localhost:{server.port}/postgres"
    finally:
        server.allow("host all all 127.0.0.1/32 scram-sha-256")
        server.stop_tls()


# --- outages: waiting may help ---


@POSTGRES.fail("cannot be opened", "127.0.0.1/notes", "ConnectionRefusedError", error=StoreUnavailable)
async def nothing_listens_there(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    yield f"postgresql://app:{SECRET}@127.0.0.1:{free_port()}/notes"


@POSTGRES.fail("cannot be opened", "no-such-host.invalid/notes", "gaierror", error=StoreUnavailable)
async def the_host_is_not_known(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    yield f"postgresql://app:{SECRET}@no-such-host.invalid/notes"


@POSTGRES.fail("cannot be opened", "127.0.0.1/postgres", "TimeoutError", error=StoreUnavailable)
async def the_server_is_silent(places: Places) -> AsyncIterator[Store]:
    server = places.shared.postgres
    server.pause()
    try:
        yield PostgresStore(server.dsn(), timeout_seconds=_QUICK_SECONDS)
    finally:
        server.resume()


@POSTGRES.fail("cannot be opened", "127.0.0.1/notes", "SQLSTATE 53300", error=StoreUnavailable)
async def the_role_has_no_connection_left(places: Places) -> AsyncIterator[str]:
    async with _database(places.shared.postgres, "ALTER ROLE app CONNECTION LIMIT 0") as url:
        yield url


@POSTGRES.fail("cannot be opened", "127.0.0.1/postgres", "TargetServerAttributeNotMatched", error=StoreUnavailable)
async def the_server_is_a_standby(places: Places) -> AsyncIterator[str]:
    standby = PostgresServer(primary=places.shared.postgres)
    try:
        yield standby.dsn()
    finally:
        standby.remove()


@POSTGRES.fail("cannot be opened", "127.0.0.1,127.0.0.1/missing", "ConnectionRefusedError", error=StoreUnavailable)
async def one_host_is_down_and_the_other_knows_no_such_database(places: Places) -> AsyncIterator[str]:
    """The other may be a standby that has not heard of it yet."""
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{places.shared.postgres.port}"
    yield f"postgresql://postgres:{SECRET}@{hosts}/missing"


# --- role, database, rights ---


@POSTGRES.fail("user name and password of the store URL", "127.0.0.1/notes", "SQLSTATE 28P01")
async def the_password_is_wrong(places: Places) -> AsyncIterator[str]:
    async with _database(places.shared.postgres) as url:
        yield url.replace(SECRET, WRONG)


@POSTGRES.fail("user name and password of the store URL", "SQLSTATE 28P01")
async def the_password_is_missing(places: Places) -> AsyncIterator[str]:
    async with _database(places.shared.postgres) as url:
        yield url.replace(f":{SECRET}", "")


@POSTGRES.fail("user name", "pg_hba.conf", "SQLSTATE 28000")
async def no_rule_lets_the_address_in(places: Places) -> AsyncIterator[str]:
    server = places.shared.postgres
    async with _database(server) as url:
        server.allow("host postgres postgres 127.0.0.1/32 scram-sha-256")
        try:
            yield url
        finally:
            server.allow("host all all 127.0.0.1/32 scram-sha-256")


@POSTGRES.fail("no such database", "CREATE DATABASE", "127.0.0.1/missing", "SQLSTATE 3D000")
async def the_database_is_missing(places: Places) -> AsyncIterator[str]:
    async with _database(places.shared.postgres) as url:
        yield url.replace("/notes", "/missing")


@POSTGRES.fail("GRANT CREATE", "migrates=False", "SQLSTATE 42501")
async def the_role_may_not_create_tables(places: Places) -> AsyncIterator[str]:
    async with _database(places.shared.postgres, "ALTER DATABASE notes OWNER TO postgres") as url:
        yield url


@POSTGRES.fail("no schema", "CREATE SCHEMA", "SQLSTATE 3F000")
async def the_schema_is_missing(places: Places) -> AsyncIterator[str]:
    async with _database(places.shared.postgres) as url:
        yield f"{url}?search_path=nowhere"


@POSTGRES.fail("`alembic upgrade heads`", "migrates=True")
async def the_tables_are_missing(places: Places) -> AsyncIterator[Store]:
    async with _database(places.shared.postgres) as url:
        yield PostgresStore(url, migrates=False)


@POSTGRES.fail("GRANT SELECT, INSERT, UPDATE, DELETE", "coatcheck_users (DELETE)")
async def the_role_may_not_write_a_table(places: Places) -> AsyncIterator[Store]:
    async with _database(places.shared.postgres) as url:
        async with PostgresStore(url):
            pass
        owner = await asyncpg.connect(url)
        await owner.execute("REVOKE DELETE ON coatcheck_users FROM app")
        await owner.close()
        yield PostgresStore(url, migrates=False)


@POSTGRES.fail("newer Coatcheck", "coatcheck_0099", "127.0.0.1/notes")
async def the_tables_are_those_of_a_newer_version(places: Places) -> AsyncIterator[str]:
    async with _database(places.shared.postgres) as url:
        async with PostgresStore(url):
            pass
        owner = await asyncpg.connect(url)
        await owner.execute(f"UPDATE {VERSION_TABLE} SET version_num = 'coatcheck_0099'")  # noqa: S608 (a constant)
        await owner.close()
        yield url


@POSTGRES.fail("promises", "STRICT", require=GuaranteeLevel.STRICT)
async def the_server_promises_less_than_is_required(places: Places) -> AsyncIterator[str]:
    async with _database(places.shared.postgres) as url:
        yield url  # this server runs with fsync off


# --- options ---


@POSTGRES.fail("no parameter of that name", "misspelled", "SQLSTATE 42704")
async def the_url_has_an_option_that_the_server_does_not_know(places: Places) -> AsyncIterator[str]:
    yield f"{places.shared.postgres.dsn()}?misspelled=1"


@POSTGRES.fail("value of a parameter", "store URL", "SQLSTATE 22023")
async def the_url_has_an_option_with_a_wrong_value(places: Places) -> AsyncIterator[str]:
    yield f"{places.shared.postgres.dsn()}?work_mem=lots"


@POSTGRES.fail("does not let a client change", "store URL", "SQLSTATE 55P02")
async def the_url_has_an_option_that_is_the_servers(places: Places) -> AsyncIterator[str]:
    yield f"{places.shared.postgres.dsn()}?max_connections=9"


@POSTGRES.fail("channel_binding", "sslmode=verify-full")
async def the_url_has_an_option_that_the_driver_does_not_have(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    yield f"postgresql://app:{SECRET}@127.0.0.1/notes?sslmode=require&channel_binding=require"


# --- TLS ---


@POSTGRES.fail("speaks no TLS", "sslmode", "ssl = on")
async def the_server_has_no_tls(places: Places) -> AsyncIterator[str]:
    yield f"{places.shared.postgres.dsn()}?sslmode=require"


@POSTGRES.fail("pg_hba.conf", "sslmode=require", "SQLSTATE 28000")
async def the_server_wants_tls(places: Places) -> AsyncIterator[str]:
    rule = "hostssl all all 127.0.0.1/32 scram-sha-256"
    with _speaking_tls(places.shared.postgres, places.certified(), rule) as url:
        yield f"{url}?sslmode=disable"


@POSTGRES.fail("certificate is not trusted", "sslrootcert in the store URL must name")
async def the_authority_is_another(places: Places) -> AsyncIterator[str]:
    with _speaking_tls(places.shared.postgres, places.certified()) as url:
        yield f"{url}?sslmode=verify-full&sslrootcert={places.another_ca()}"


@POSTGRES.fail("certificate is not trusted", "127.0.0.1", "write the host in the store URL")
async def the_certificate_is_for_another_name(places: Places) -> AsyncIterator[str]:
    files = places.certified()
    with _speaking_tls(places.shared.postgres, files) as url:
        yield f"{url.replace('localhost', '127.0.0.1')}?sslmode=verify-full&sslrootcert={files.ca}"


@POSTGRES.fail("certificate is not trusted", "expired", "renew it on the server")
async def the_certificate_has_expired(places: Places) -> AsyncIterator[str]:
    files = places.certified(is_expired=True)
    with _speaking_tls(places.shared.postgres, files) as url:
        yield f"{url}?sslmode=verify-full&sslrootcert={files.ca}"


@POSTGRES.fail("sslrootcert")
async def the_url_names_no_authority(places: Places) -> AsyncIterator[str]:
    with _speaking_tls(places.shared.postgres, places.certified()) as url:
        yield f"{url}?sslmode=verify-full"


@POSTGRES.fail("sslcert and sslkey", "SQLSTATE 28000")
async def the_clients_certificate_is_missing(places: Places) -> AsyncIterator[str]:
    files, rule = places.certified(), "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca"
    with _speaking_tls(places.shared.postgres, files, rule, clients=places.authority) as url:
        yield f"{url}?sslmode=require"


@POSTGRES.fail("refuses the client certificate", "sslcert in the store URL")
async def the_clients_certificate_is_refused(places: Places) -> AsyncIterator[str]:
    files = places.certified(clients_of=trustme.CA())
    rule = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca"
    with _speaking_tls(places.shared.postgres, files, rule, clients=places.authority) as url:
        yield f"{url}?sslmode=require&sslcert={files.client_cert}&sslkey={files.client_key}"
