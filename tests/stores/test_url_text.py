"""The URL of an application's database is taken as the application has it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest
from pydantic import AnyUrl, PostgresDsn, RedisDsn
from sqlalchemy import URL, make_url

from coatcheck import ConfigurationError, Pod, ServerSideSessionsConfig
from coatcheck.stores.url_text import store_url_text
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from coatcheck.stores.url_text import StoreUrl

PASSWORD = "hunter2 p@ss/word"
QUOTED = "hunter2%20p%40ss%2Fword"
PLAIN = f"postgresql://ann:{QUOTED}@db.example:5433/app"


def a_pod(store: StoreUrl) -> Pod:
    return Pod(store, environ={}, config_dir="no-such-folder", prune_interval=None)


@pytest.mark.parametrize("driver", ["asyncpg", "pg8000", "psycopg", "psycopg2", "psycopg2cffi", "psycopg_async"])
@pytest.mark.parametrize("database", ["postgresql", "postgres"])
def test_the_driver_of_a_postgresql_url_makes_no_difference(database: str, driver: str) -> None:
    given = PLAIN.replace("postgresql", f"{database}+{driver}")
    assert str(store_url_text(given)) == PLAIN.replace("postgresql", database)
    assert repr(a_pod(given)) == repr(a_pod(PLAIN))


@pytest.mark.parametrize("driver", ["aiosqlite", "pysqlite"])
def test_the_driver_of_an_sqlite_url_makes_no_difference(driver: str) -> None:
    assert store_url_text(f"sqlite+{driver}:////absolute/app.db") == "sqlite:////absolute/app.db"
    assert repr(a_pod(f"sqlite+{driver}:///app.db").store) == repr(a_pod("sqlite:///app.db").store)


@pytest.mark.parametrize(
    "url",
    [
        URL.create("postgresql+psycopg", "ann", PASSWORD, "db.example", 5433, "app"),
        make_url(PLAIN),
        PostgresDsn(PLAIN),
        PostgresDsn(PLAIN.replace("postgresql", "postgresql+asyncpg")),
        AnyUrl(PLAIN),
    ],
    ids=lambda url: f"{type(url).__name__} {url.drivername if isinstance(url, URL) else url.scheme}",
)
def test_the_url_objects_of_sqlalchemy_and_pydantic_are_taken_with_their_password(url: StoreUrl) -> None:
    text = store_url_text(url)
    assert str(make_url(text).password) == PASSWORD
    assert repr(a_pod(url)) == repr(a_pod(PLAIN))


def test_a_redis_url_of_pydantic_s_is_taken() -> None:
    assert "RedisStore" in repr(a_pod(RedisDsn(f"redis://ann:{QUOTED}@db.example:6380/1")).store)


async def test_a_pod_opens_on_the_url_of_an_application_s_engine(postgres_dsn: str) -> None:
    for url in (
        make_url(postgres_dsn).set(drivername="postgresql+asyncpg"),
        PostgresDsn(postgres_dsn.replace("postgresql", "postgresql+psycopg")),
    ):
        pod = a_pod(url)
        auth = pod.initialize_auth_services(
            token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
        )
        async with pod:
            assert (await auth.auth_users.create()).scopes == frozenset()


@pytest.mark.parametrize(
    "url",
    [
        f"mysql+pymysql://ann:{QUOTED}@db.example/app",
        f"postgresql+nosuchdriver://ann:{QUOTED}@db.example/app",
        f"sqlite+pysqlcipher://:{QUOTED}@host/app.db",
        f"redis+asyncpg://ann:{QUOTED}@db.example",
    ],
)
@pytest.mark.parametrize("kind", [str, make_url, AnyUrl])
def test_another_database_or_driver_is_refused_without_a_word_of_the_password(url: str, kind: type) -> None:
    with pytest.raises(ConfigurationError, match="allowed are") as refused:
        a_pod(kind(url))
    report = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    shown = [f"{frame.name}: {frame.locals}" for frame in report.stack if "/coatcheck/" in frame.filename]
    assert shown != []
    assert [one for one in (*shown, str(refused.value)) if "hunter2" in one] == []
