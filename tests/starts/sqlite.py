"""The ways in which a start on SQLite, or before any store, can fail."""

from __future__ import annotations

import os
import pwd
import sqlite3
import tempfile
from typing import TYPE_CHECKING

from coatcheck.stores.sql.migrate import VERSION_TABLE
from coatcheck.stores.sql.sqlite.store import SqliteStore
from tests.starts.ways import SECRET, Ways

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coatcheck.stores.store import Store
    from tests.starts.ways import Places

SQLITE = Ways()


@SQLITE.fail("there is no folder", "/missing")
async def the_folder_is_missing(places: Places) -> AsyncIterator[str]:
    yield f"sqlite:///{places.folder}/missing/notes.db"


@SQLITE.fail("it is a folder")
async def a_folder_is_in_the_place_of_the_file(places: Places) -> AsyncIterator[str]:
    yield f"sqlite:///{places.folder}"


@SQLITE.fail("is no SQLite database")
async def the_file_is_of_another_kind(places: Places) -> AsyncIterator[str]:
    path = places.folder / "notes.txt"
    path.write_text("These are my notes, and they are longer than the head of a database.\n" * 20)
    yield f"sqlite:///{path}"


@SQLITE.fail("may not write in the folder")
async def the_folder_is_another_accounts(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    account = os.geteuid()
    with tempfile.TemporaryDirectory(prefix="coatcheck-") as folder:
        os.chmod(folder, 0o555)  # noqa: PTH101, S103 (nobody else is to write there)
        try:
            if account == 0:  # who may write everywhere
                os.seteuid(pwd.getpwnam("nobody").pw_uid)
            yield f"sqlite:///{folder}/notes.db"
        finally:
            os.seteuid(account)


@SQLITE.fail("`alembic upgrade heads`", "migrates=True")
async def the_tables_are_missing(places: Places) -> AsyncIterator[Store]:
    yield SqliteStore(places.folder / "notes.db", migrates=False)


@SQLITE.fail("newer Coatcheck", "coatcheck_0099", "notes.db")
async def the_tables_are_those_of_a_newer_version(places: Places) -> AsyncIterator[Store]:
    async with SqliteStore(places.folder / "notes.db"):
        pass
    with sqlite3.connect(places.folder / "notes.db") as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = 'coatcheck_0099'")  # noqa: S608 (a constant)
    connection.close()
    yield SqliteStore(places.folder / "notes.db")


@SQLITE.fail("store URL", "postgresql://", "redis://")
async def the_url_is_of_no_store(places: Places) -> AsyncIterator[str]:  # noqa: ARG001
    yield f"mysql://app:{SECRET}@127.0.0.1/notes"
