"""Stores for these tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coatcheck.stores.redis.store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def impatient_store(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RedisStore]:
    """Makes stores that wait only a moment for a replica, for tests in which none answers."""

    def make(url: str) -> RedisStore:
        with monkeypatch.context() as patch:
            patch.setattr("coatcheck.stores.redis.transport.calls._WAIT_MS", 200)
            return RedisStore(url)

    return make
