"""A table that is missing is told to be Coatcheck's only where it is.

On SQLite an error of the application's own statements is of the kind that an outage has; on PostgreSQL it is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from coatcheck.errors import StoreUnavailable
from coatcheck.stores.sql.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("table", "is_ours"), [("notes", False), ("coatcheck_nothing", True)])
async def test_only_a_missing_table_of_ours_is_told_to_need_our_migrations(
    tmp_path: Path, table: str, is_ours: bool
) -> None:
    async with SqliteStore(tmp_path / "notes.db") as store:
        with pytest.raises(StoreUnavailable, match="SQLITE_ERROR") as refused:
            async with store.transaction() as transaction:
                await transaction.execute(text(f"SELECT * FROM {table}"))  # noqa: S608 (a constant)
    assert ("run the migrations" in str(refused.value)) == is_ours
