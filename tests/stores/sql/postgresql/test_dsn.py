"""URIs of PostgreSQL stores: which are valid, and the errors for those that are not."""

from __future__ import annotations

import traceback
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from coatcheck import ConfigurationError
from coatcheck.stores.sql.postgresql.dsn import parse_dsn
from coatcheck.stores.sql.postgresql.dsn_options import server_settings
from coatcheck.stores.sql.postgresql.store import PostgresStore

PASSWORD = "hunter2-geheim"


@pytest.mark.parametrize(
    ("uri", "addresses", "database"),
    [
        ("postgresql://db", [("db", None)], ""),
        ("postgres://db/name", [("db", None)], "name"),
        ("postgresql://db:/name", [("db", None)], "name"),
        ("postgresql://ann@db:5433/name", [("db", 5433)], "name"),
        ("postgresql://ann:a,b:c@one:5433/name", [("one", 5433)], "name"),
        ("postgresql://ann:p%2Cw@one:5433,two/name", [("one", 5433), ("two", 5432)], "name"),
        ("postgresql://[::1]:5433,[fe80::1]/name?sslmode=require", [("::1", 5433), ("fe80::1", 5432)], "name"),
        ("postgresql://one,[::1]:5433/name", [("one", 5432), ("::1", 5433)], "name"),
        ("postgresql://[::1]/name", [("::1", None)], "name"),
        ("postgresql://%2Fvar%2Frun,two/name", [("/var/run", 5432), ("two", 5432)], "name"),
        ("postgresql:///name", [], "name"),
        ("postgresql://ann:secret@/name?host=/var/run", [], "name"),
        ("postgresql://?host=one,two&port=5433,5434&dbname=name", [], ""),
        ("postgresql:///name?host=[::1]:5433&user=ann%40corp&password=a%40b", [], "name"),
        ("postgresql://db/name?enable_sort=off&options=-c%20work_mem%3D8MB", [("db", None)], "name"),
    ],
)
def test_a_uri_names_one_server_or_several(uri: str, addresses: list[tuple[str, int | None]], database: str) -> None:
    target = parse_dsn(uri)
    assert (list(target.hosts), target.database) == (addresses, database)


@pytest.mark.parametrize(
    ("options", "addresses", "left"),
    [
        ("listen=one", [("one", 5432)], ""),
        ("port=6432&listen=one&connect_timeout=2", [("one", 5432)], "?port=6432"),
        ("sslmode=require&listen=one:1,two", [("one", 1), ("two", 5432)], "?sslmode=require"),
        ("listen=[::1]:1&pooler=transaction&sslmode=require", [("::1", 1)], "?sslmode=require"),
    ],
)
def test_listen_names_other_hosts_for_everything_else_in_the_uri(
    options: str, addresses: list[tuple[str, int | None]], left: str
) -> None:
    target = parse_dsn(f"postgresql://ann:a%2Cb@pooler:6432/name?{options}")
    assert target.listen is not None
    assert list(target.listen.hosts) == addresses
    assert target.without_hosts == target.listen.without_hosts == f"postgresql://ann:a%2Cb@/name{left}"
    assert target.listen.connect_timeout_seconds == target.connect_timeout_seconds
    assert (target.is_pooled, server_settings(target.option_names)) == ("pooler" in options, [])


def test_listen_may_be_a_uri_with_a_user_and_a_password_of_its_own() -> None:
    other = quote(f"postgresql://bob:{quote(PASSWORD + '@', safe='')}@db/name", safe="")
    target = parse_dsn(f"postgresql://ann@pooler/name?listen={other}&search_path=a")
    assert target.listen is not None
    assert target.listen.without_hosts == f"postgresql://bob:{PASSWORD}%40@/name"
    assert server_settings(target.option_names) == ["search_path"]
    assert PASSWORD not in repr(target)


@pytest.mark.parametrize(
    ("uri", "what_is_wrong"),
    [
        ("postgresql://db?pooler=session", "must be transaction"),
        ("postgresql://db?pgbouncer=false", "must be true"),
        ("postgresql://db?pooler=transaction&pooler=session", "must be transaction"),
        ("postgresql://db?listen=one:x", "listen in the store URL"),
        ("postgresql://db?listen=one,", "listen in the store URL"),
        ("postgresql://db?listen=postgresql%3A%2F%2Fone%3Fsslmode%3Dx", "listen in the store URL.*sslmode"),
        ("postgresql://db?listen=postgresql%3A%2F%2Fone%3Flisten%3Dtwo", "without pooler, listen and connections"),
        ("postgresql://db?listen=one&listen=two", "once"),
        ("postgresql://db?listen=redis%3A%2F%2Fdb", "listen in the store URL"),
        ("", "cannot be read"),
        ("db", "cannot be read"),
        ("redis://db", "cannot be read"),
        ("postgresql+asyncpg://db", "cannot be read"),
        ("postgresql://db/one/two", "cannot be read"),
        ("postgresql://db/name#part", "%23"),
        ("postgresql://ann:a@b@db", "%40"),
        ("postgresql://ann:a/b@db", "%2F"),
        ("postgresql://ann:a?b@db", "%3F"),
        ("postgresql://ann:1?b=@db", "%3F"),
        ("postgresql://ann:a#b@db", "%23"),
        ("postgresql://ann:a[b]@db", "%5B"),
        ("postgresql://ann:a\N{FULLWIDTH NUMBER SIGN}b@db", "cannot be read"),
        ("postgresql://db?name", "cannot be read"),
        ("postgresql://:5433", "invalid host"),
        ("postgresql://one,", "invalid host"),
        ("postgresql://one,,two", "invalid host"),
        ("postgresql://::1", "invalid host"),
        ("postgresql://[::1", "invalid host"),
        ("postgresql://[db]5433", "invalid host"),
        ("postgresql://d b", "invalid host"),
        ("postgresql://?host=one,", "invalid host"),
        ("postgresql://db:0", "a port"),
        ("postgresql://db:65536", "a port"),
        ("postgresql://db:six", "a port"),
        ("postgresql://db:-1", "a port"),
        ("postgresql://db:٣", "a port"),
        (f"postgresql://db:{'9' * 5000}", "a port"),
        ("postgresql://?host=db:six", "a port"),
        ("postgresql://?port=six", "a port"),
        ("postgresql://?port=1,", "a port"),
    ],
)
def test_the_error_for_an_invalid_uri_names_the_wrong_part(uri: str, what_is_wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=what_is_wrong):
        PostgresStore(uri)


def _said_of(uri: str) -> str:
    """The text that a log would show of a URI, valid or not."""
    try:
        return repr(PostgresStore(uri)) + repr(parse_dsn(uri))
    except ConfigurationError as error:
        return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("before", ["", "12/", "12?", "12?x=", "12#", "1,2", "12:", "12@", "12[", "x,"])
@pytest.mark.parametrize(
    "tail",
    [
        *("@db/name", "/x@h/db", "#x@h/db", ",x@h/db", "?x@h/db", "@x@h/db", "[x]@h/db", "\N{FULLWIDTH NUMBER SIGN}@h"),
        *("/@db", "@db:port", "@db?x", "@db?port=x", "@one,:5", "@[db", "@[::1]x"),
    ],
)
def test_neither_an_error_nor_a_repr_shows_a_password_however_it_was_written(before: str, tail: str) -> None:
    assert PASSWORD not in _said_of(f"postgresql://ann:{before}{PASSWORD}{tail}")


@pytest.mark.parametrize("tail", ["", *"/?#[]:,"])
def test_no_error_shows_the_password_of_a_uri_without_a_host(tail: str) -> None:
    assert PASSWORD not in _said_of(f"postgresql://ann:{PASSWORD}{tail}")


async def test_no_repr_shows_a_password_given_as_an_option() -> None:
    uri = f"postgresql://db/name?user=ann&password={PASSWORD}"
    assert _said_of(uri).startswith("PostgresStore(db/name)Dsn(")
    assert PASSWORD not in _said_of(uri)


@pytest.mark.postgres
async def test_a_server_is_found_by_its_address_and_by_its_socket(postgres_dsn: str) -> None:
    admin = await asyncpg.connect(postgres_dsn)
    socket = quote(await admin.fetchval("SHOW unix_socket_directories"), safe="")
    await admin.close()
    parts = urlsplit(postgres_dsn)
    for uri in (
        postgres_dsn,
        f"postgresql://{parts.username}:a%40b%2F@{parts.hostname}:{parts.port}{parts.path}",
        f"postgresql://{parts.username}@{socket}:{parts.port}{parts.path}",
        f"postgresql://{parts.username}@{parts.path}?host={socket}&port={parts.port}",
        f"postgresql://{socket}:{parts.port}/?user={parts.username}&dbname={parts.path[1:]}",
    ):
        async with PostgresStore(uri) as store:
            await store.guarantee()
