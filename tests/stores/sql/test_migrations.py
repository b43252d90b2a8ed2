"""The tables are made when a store opens or by the application's own Alembic, and are equal either way."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import alembic.command
import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck import ConfigurationError, Pod, ServerSideSessionsConfig
from coatcheck.identifiers import UserId
from coatcheck.stores.sql.migrate import VERSION_TABLE, include_name, include_object, migrations_path, upgrade
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.stores.sql.schema import metadata, sqlite_metadata
from coatcheck.stores.sql.sqlite.store import SqliteStore
from tests.stores.sql.databases import store_at
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection


def differences(connection: Connection) -> list[object]:
    """The changes by which Alembic would make the database equal to the schema in the code."""
    of_sqlite = connection.dialect.name == "sqlite"
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": VERSION_TABLE,
            "compare_type": True,
            "include_object": lambda _thing, name, kind, *_rest: kind != "table" or name.startswith("coatcheck_"),
        },
    )
    expected = MetaData()
    for table in (*metadata.tables.values(), *(sqlite_metadata.tables.values() if of_sqlite else ())):
        table.to_metadata(expected)
    found: list[object] = compare_metadata(context, expected)
    return [one for one in found if "coatcheck_alembic_version" not in str(one)]


async def test_the_revisions_make_the_tables_of_the_schema(url: str) -> None:
    async with store_at(url):
        pass
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_opening_again_changes_nothing(url: str) -> None:
    async with store_at(url) as store:
        await store.insert_user(UserId("ann"), scopes=frozenset(), blocked=False)
    async with store_at(url) as store:
        assert await store.read_user(UserId("ann")) is not None


async def test_a_store_brings_the_tables_of_an_earlier_revision_to_the_newest(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of an earlier release has the first revision alone."""
    earlier = tmp_path / "versions"
    earlier.mkdir()
    shutil.copy(migrations_path() / "0001_sessions.py", earlier)
    with monkeypatch.context() as patch:
        patch.setattr("coatcheck.stores.sql.migrate.migrations_path", lambda: earlier)
        engine = create_async_engine(url)
        await upgrade(engine)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) != []
    async with store_at(url):
        pass
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_tables_without_a_version_are_refused_as_those_of_another_alembic(url: str) -> None:
    async with store_at(url):
        pass
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text(f"DELETE FROM {VERSION_TABLE}"))  # noqa: S608 (a constant)
    await engine.dispose()
    with pytest.raises(ConfigurationError, match="they belong to another Alembic"):
        await store_at(url).open()


async def test_stores_that_open_together_make_the_tables_once(url: str) -> None:
    stores = [store_at(url) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        assert len(await store.list_users()) == 0
        await store.close()


async def test_without_tables_and_without_migrating_the_store_does_not_open(url: str) -> None:
    with pytest.raises(ConfigurationError, match="`alembic upgrade heads`"):
        async with store_at(url, migrates=False):
            pass


ENV = """
    from alembic import context
    from sqlalchemy import create_engine, MetaData, pool

    engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=MetaData())
        with context.begin_transaction():
            context.run_migrations()
"""

OWN_REVISION = """
    import sqlalchemy as sa
    from alembic import op

    revision = "app_0001"
    down_revision = None
    branch_labels = ("app",)
    depends_on = "coatcheck_0001"

    def upgrade():
        op.create_table("app_accounts", sa.Column("id", sa.Integer, primary_key=True))
"""


async def test_an_applications_own_alembic_makes_the_tables_beside_its_own(tmp_path: Path) -> None:
    """As `docs/how-to/own-alembic.md` shows."""
    scripts = tmp_path / "migrations"
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").write_text(textwrap.dedent(ENV), encoding="utf-8")
    (scripts / "versions" / "app_0001.py").write_text(textwrap.dedent(OWN_REVISION), encoding="utf-8")
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", f"{scripts / 'versions'}:{migrations_path()}")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{tmp_path}/app.db")
    await asyncio.to_thread(alembic.command.upgrade, config, "heads")

    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    with engine.connect() as connection:
        assert differences(connection) == []
        assert connection.execute(text("SELECT count(*) FROM app_accounts")).scalar_one() == 0
    engine.dispose()

    pod = Pod(SqliteStore(tmp_path / "app.db", migrates=False), environ={}, config_dir=tmp_path / "config")
    auth = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )
    async with pod:
        user = await auth.auth_users.create()
        success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
        assert await auth.token_manager.validate_token(success.token) is not None

    with pytest.raises(ConfigurationError, match="migrates=False"):
        async with SqliteStore(tmp_path / "app.db"):
            pass


def indexed_columns(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        indexes = connection.execute("SELECT name FROM pragma_index_list('coatcheck_sessions')").fetchall()
        return {
            column
            for (index,) in indexes
            for (column,) in connection.execute("SELECT name FROM pragma_index_info(?)", (index,))
        }


async def test_user_and_deadline_are_indexed_and_last_use_is_not(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "a.db"):
        pass
    assert indexed_columns(tmp_path / "a.db") == {"id", "user_id", "expires_at"}


@pytest.mark.postgres
async def test_touches_are_hot_updates(postgres_dsn: str) -> None:
    """An index on last use would make each touch write to every index."""
    async with PostgresStore(postgres_dsn):
        connection = await asyncpg.connect(postgres_dsn)
        indexed = await connection.fetch(
            "SELECT DISTINCT attname FROM pg_index JOIN pg_attribute ON attrelid = indexrelid "
            "WHERE indrelid = 'coatcheck_sessions'::regclass"
        )
        assert {row["attname"] for row in indexed} == {"id", "user_id", "expires_at"}
        options = await connection.fetchval("SELECT reloptions FROM pg_class WHERE relname = 'coatcheck_sessions'")
        assert options == ["fillfactor=85"]
        await connection.close()


async def test_alembic_logs_nothing_below_a_warning_for_us_and_all_of_it_for_the_application(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with store_at(url):
        pass
    of_alembic = [one.getMessage() for one in caplog.records if one.name.startswith("alembic")]
    assert of_alembic == []
    (ours,) = [one.getMessage() for one in caplog.records if one.name == "coatcheck.stores.sql.migrate"]
    assert ours.startswith("the tables of Coatcheck are upgraded to coatcheck_0")
    caplog.clear()
    async with store_at(url):  # with nothing to upgrade
        pass
    assert [one for one in caplog.records if one.name.startswith(("alembic", "coatcheck.stores.sql.migrate"))] == []
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(MigrationContext.configure)
    await engine.dispose()
    assert [one.name for one in caplog.records if one.name.startswith("alembic")] != []


def test_importing_a_store_logs_no_line_of_alembic() -> None:
    program = "import logging; logging.basicConfig(level=logging.INFO); import coatcheck.stores.sql.sqlite.store"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("kind", "name", "is_left_out"),
    [
        ("table", "coatcheck_sessions", True),
        ("table", "coatcheck_alembic_version", True),
        ("table", "accounts", False),
        ("column", "coatcheck_id", False),
        ("schema", None, False),
    ],
)
def test_the_filters_leave_out_our_tables_and_nothing_else(kind: str, name: str | None, *, is_left_out: bool) -> None:
    assert include_name(name, kind, {}) is not is_left_out
    assert include_object(None, name, kind, reflected=True, compare_to=None) is not is_left_out
