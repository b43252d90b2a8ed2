"""A start that cannot succeed is no outage: its error names what to do and the file."""

from __future__ import annotations

import os
import pwd
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coatcheck import ConfigurationError
from coatcheck.stores.sql.migrate import VERSION_TABLE
from coatcheck.stores.sql.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator


async def mistake_at_the_start(store: SqliteStore) -> str:
    """The error with which it does not open."""
    with pytest.raises(ConfigurationError) as refused:
        async with store:
            pass
    message = str(refused.value)
    assert repr(store) in message
    assert "\n" not in message
    return message


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    message = await mistake_at_the_start(SqliteStore(tmp_path / "missing/notes.db"))
    assert f"there is no folder {str(tmp_path / 'missing')!r}" in message


async def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    assert "it is a folder" in await mistake_at_the_start(SqliteStore(tmp_path))


async def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes, and they are longer than the head of a database.\n" * 20)
    before = path.read_bytes()
    assert "is no SQLite database" in await mistake_at_the_start(SqliteStore(path))
    assert path.read_bytes() == before


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder in which this process, which may be root's, must not write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    account = os.geteuid()
    if account == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    yield folder
    os.seteuid(account)
    folder.rmdir()


async def test_a_folder_without_the_right_to_write_is_named(read_only_folder: Path) -> None:
    message = await mistake_at_the_start(SqliteStore(read_only_folder / "notes.db"))
    assert f"may not write in the folder {str(read_only_folder)!r}" in message


async def test_missing_tables_name_the_command_that_makes_them(tmp_path: Path) -> None:
    message = await mistake_at_the_start(SqliteStore(tmp_path / "notes.db", migrates=False))
    assert "`alembic upgrade heads`" in message
    assert "migrates=True" in message


async def test_a_missing_column_names_the_command_that_makes_it(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "notes.db"):
        pass
    with sqlite3.connect(tmp_path / "notes.db") as connection:
        connection.execute("ALTER TABLE coatcheck_sessions DROP COLUMN ip_address")
    connection.close()
    message = await mistake_at_the_start(SqliteStore(tmp_path / "notes.db", migrates=False))
    assert "`alembic upgrade heads`" in message


async def test_tables_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "notes.db"):
        pass
    with sqlite3.connect(tmp_path / "notes.db") as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = 'coatcheck_0099'")  # noqa: S608 (a constant)
    connection.close()
    with pytest.raises(ConfigurationError, match=r"newer Coatcheck \(revision coatcheck_0099"):
        async with SqliteStore(tmp_path / "notes.db"):
            pass
