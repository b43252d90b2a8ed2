"""Tables of a newer version are used where they say that they may be, and otherwise refused in words."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck import ConfigurationError
from coatcheck.identifiers import UserId
from coatcheck.stores.sql import schema_version
from coatcheck.stores.sql.migrate import VERSION_TABLE, migrations_path
from coatcheck.testing.samples import read, sign_in
from tests.stores.sql.databases import store_at

CODE = schema_version.CODE
EITHER_WAY = pytest.mark.parametrize("migrates", [True, False], ids=["migrates", "own Alembic"])


async def execute(url: str, *statements: str) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def version_in(url: str) -> tuple[int, int]:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        row = (await connection.execute(text("SELECT version, lowest_code FROM coatcheck_schema"))).one()
    await engine.dispose()
    return row.version, row.lowest_code


async def upgrade_to_the_next_version(url: str, *, lowest_code: int) -> None:
    """As a newer version would: a revision that this one does not know, a column and a table more."""
    async with store_at(url):
        pass
    await execute(
        url,
        f"UPDATE {VERSION_TABLE} SET version_num = 'coatcheck_0099'",  # noqa: S608 (a constant)
        f"UPDATE coatcheck_schema SET version = {CODE + 1}, lowest_code = {lowest_code}",  # noqa: S608 (numbers)
        "ALTER TABLE coatcheck_sessions ADD COLUMN of_the_future text",
        "CREATE TABLE coatcheck_of_the_future (id integer PRIMARY KEY)",
    )


def test_the_code_knows_the_version_of_the_newest_migration() -> None:
    scripts = ScriptDirectory(str(migrations_path().parent), version_locations=[str(migrations_path())])
    assert scripts.get_heads() == [f"coatcheck_{CODE:04}"]


def test_every_migration_from_the_fifth_on_says_which_code_may_use_its_tables() -> None:
    scripts = ScriptDirectory(str(migrations_path().parent), version_locations=[str(migrations_path())])
    modules = [one.module for one in scripts.walk_revisions() if one.revision > "coatcheck_0004"]
    assert modules
    for module in modules:
        assert module.revision == f"coatcheck_{module.VERSION:04}"
        assert module.COMPATIBLE_WITH <= module.VERSION
        text_of_it = Path(str(module.__file__)).read_text(encoding="utf-8")
        assert "version=VERSION, compatible_with=COMPATIBLE_WITH" in text_of_it


async def test_the_tables_say_their_version_and_the_lowest_code_that_may_use_them(url: str) -> None:
    async with store_at(url):
        assert await version_in(url) == (5, 4)


@EITHER_WAY
@pytest.mark.parametrize("lowest_code", [CODE - 1, CODE])
async def test_newer_tables_that_may_be_used_are_used_and_one_line_says_so(
    url: str, lowest_code: int, caplog: pytest.LogCaptureFixture, *, migrates: bool
) -> None:
    await upgrade_to_the_next_version(url, lowest_code=lowest_code)
    with caplog.at_level(logging.INFO, logger="coatcheck"):
        async with store_at(url, migrates=migrates) as store:
            session = await sign_in(store, UserId("ada"))
            assert await read(store, session.id) is not None
    said = [one for one in caplog.messages if "the tables have version" in one]
    assert said == [
        (
            f"the tables have version {CODE + 1}, and this Coatcheck knows version {CODE}; "
            f"they may be used from version {lowest_code} on"
        )
    ]
    assert await version_in(url) == (CODE + 1, lowest_code)


@EITHER_WAY
async def test_newer_tables_that_may_not_be_used_are_refused_with_both_versions(url: str, *, migrates: bool) -> None:
    await upgrade_to_the_next_version(url, lowest_code=CODE + 1)
    await execute(url, "ALTER TABLE coatcheck_sessions DROP COLUMN client_label")  # what it would stumble over
    needed = f"they have version {CODE + 1}, which needs code that knows version {CODE + 1} or newer"
    with pytest.raises(ConfigurationError, match=f"{needed}, and this one knows version {CODE}"):
        await store_at(url, migrates=migrates).open()
    assert await version_in(url) == (CODE + 1, CODE + 1)


async def test_a_revision_that_is_unknown_and_says_nothing_is_refused(url: str) -> None:
    async with store_at(url):
        pass
    await execute(url, f"UPDATE {VERSION_TABLE} SET version_num = 'coatcheck_0099'")  # noqa: S608 (a constant)
    with pytest.raises(ConfigurationError, match=r"revision coatcheck_0099.*does not say that this one may use them"):
        await store_at(url).open()


@EITHER_WAY
async def test_tables_that_do_not_say_their_version_are_refused_with_the_way_out(url: str, *, migrates: bool) -> None:
    async with store_at(url):
        pass
    await execute(url, "DELETE FROM coatcheck_schema")
    with pytest.raises(ConfigurationError, match="coatcheck_schema has no row") as refused:
        await store_at(url, migrates=migrates).open()
    await execute(url, str(refused.value).partition("made them: ")[2])
    async with store_at(url, migrates=migrates) as store:
        assert len(await store.list_users()) == 0


async def test_older_tables_without_migrating_are_refused(url: str) -> None:
    async with store_at(url):
        pass
    await execute(url, f"UPDATE coatcheck_schema SET version = {CODE - 1}")  # noqa: S608 (a number)
    with pytest.raises(ConfigurationError, match=f"have version {CODE - 1}, and this Coatcheck needs version {CODE}"):
        await store_at(url, migrates=False).open()
