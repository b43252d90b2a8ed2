"""The base of every part of the suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness


OUTCOMES = pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled back"])
"""How a transaction ends that a test holds."""


# How far the clock is past the deadline, and whether the session has ended then.
BOUNDARY = pytest.mark.parametrize(
    ("past_us", "is_expired"),
    [(-1, False), (0, True), (1, True)],
    ids=["1 µs before the deadline", "at the deadline", "1 µs after the deadline"],
)


@pytest.mark.anyio
class Promises:
    """Tests that take a `harness` fixture, which the class that inherits them provides."""

    @pytest.fixture(scope="session")
    @staticmethod
    def anyio_backend() -> str:
        """Stores are written for asyncio."""
        return "asyncio"

    @pytest.fixture
    def store(self, harness: StoreHarness) -> Store:
        """The store under test, opened and empty."""
        return harness.store

    @pytest.fixture
    async def other(self, harness: StoreHarness) -> Store:
        """A second store on the same data, as another process has it."""
        return await harness.second_store()

    @pytest.fixture
    def held(self, harness: StoreHarness) -> Store:
        """The store under test, whose transactions the test holds open; skips where it has none."""
        if not harness.has_transactions:
            pytest.skip("the store has no transactions that span several calls")
        return harness.store
