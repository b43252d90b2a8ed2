"""A position of another kind of store is refused in words, before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import InvalidArgumentError
from coatcheck.stores.records import Insertion, Position
from coatcheck.testing import MemoryStore
from coatcheck.testing.samples import ADA, insert, new_session, register, stored_ids
from tests.kinds_of_store import WITH_TRANSACTIONS

if TYPE_CHECKING:
    from coatcheck.testing import StoreHarness

POSITIONS = {
    "a number": "1767225600000000",  # SQLite, memory
    "PostgreSQL": "1767225600.123456/100:102:101",
    "Redis": ",".join(["1767225600000000"] * 255 + ["?"]),
    "Redis, cut off": ",".join(["1"] * 255),
    "an older version's": "100:102:101",
    "too long a number": "9" * 19,
    "words": "somewhere; DROP TABLE",
    "nothing": "",
}
OF_THE_STORE = {
    "SqliteStore": "a number",
    "MemoryStore": "a number",
    "PostgresStore": "PostgreSQL",
    "RedisStore": "Redis",
}


async def test_a_position_of_another_kind_of_store_is_refused(harness: StoreHarness) -> None:
    await register(harness.store)
    own = OF_THE_STORE[type(harness.store).__name__]
    for name, text in POSITIONS.items():
        if name != own:
            with pytest.raises(InvalidArgumentError, match=r"^the attempt was begun with another kind of store"):
                await harness.store.insert_session(
                    new_session(), expected_revocations=0, expected_rescopes=None, began_at=Position(text)
                )
    assert await stored_ids(harness.store) == set()


async def test_in_memory_too() -> None:
    store = MemoryStore()
    await store.open()
    await register(store)
    for name, text in POSITIONS.items():
        if name != OF_THE_STORE["MemoryStore"]:
            with pytest.raises(InvalidArgumentError, match=r"^the attempt was begun with another kind of store"):
                await store.insert_session(
                    new_session(), expected_revocations=0, expected_rescopes=None, began_at=Position(text)
                )
    assert await stored_ids(store) == set()


@WITH_TRANSACTIONS
async def test_the_transaction_in_which_one_was_refused_goes_on(harness: StoreHarness) -> None:
    await register(harness.store)
    async with harness.store.transaction() as transaction:
        with pytest.raises(InvalidArgumentError):
            await harness.store.insert_session(
                new_session(),
                expected_revocations=0,
                expected_rescopes=None,
                began_at=Position("words"),
                transaction=transaction,
            )
        session = await insert(harness.store, new_session(), transaction=transaction)
    assert await stored_ids(harness.store) == {session.id}


async def test_what_a_store_gives_it_takes(harness: StoreHarness) -> None:
    await register(harness.store)
    for _ in range(2):
        began_at = await harness.store.read_position()
        outcome = await harness.store.insert_session(
            new_session(),
            expected_revocations=(await harness.store.read_user(ADA)).epochs.revocations,  # type: ignore[union-attr]  # registered
            expected_rescopes=None,
            began_at=began_at,
        )
        assert isinstance(outcome, Insertion)
        await harness.store.end_user_sessions(ADA)
