"""Peppers are registered once, and what is registered never changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import StoreUnavailable
from coatcheck.stores.records import PepperRecord, SessionFilter
from coatcheck.testing.conformance.promises import Promises

if TYPE_CHECKING:
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

_ONE = PepperRecord("0a1b2c3d", bytes(range(32)))
_OTHER = PepperRecord("ffffffff", bytes(range(224, 256)))


class PepperPromises(Promises):
    """The store keeps which peppers its sessions are hashed with."""

    async def test_a_new_store_knows_no_pepper(self, store: Store) -> None:
        assert list(await store.read_peppers()) == []

    async def test_registered_peppers_are_read_in_order_of_id_in_every_process(
        self, store: Store, other: Store
    ) -> None:
        await store.register_peppers([_OTHER, _ONE])
        for reader in (store, other):
            assert list(await reader.read_peppers()) == [_ONE, _OTHER]

    async def test_registering_a_pepper_again_changes_nothing(self, store: Store, other: Store) -> None:
        await store.register_peppers([_ONE])
        await other.register_peppers([PepperRecord(_ONE.id, bytes(32)), _OTHER])
        assert list(await store.read_peppers()) == [_ONE, _OTHER]

    async def test_registering_no_pepper_changes_nothing(self, store: Store) -> None:
        await store.register_peppers([_ONE])
        await store.register_peppers([])
        assert list(await store.read_peppers()) == [_ONE]

    async def test_peppers_that_many_register_at_once_are_registered_once(self, store: Store, other: Store) -> None:
        await asyncio.gather(*(one.register_peppers([_ONE, _OTHER]) for one in (store, other) * 4))
        assert list(await store.read_peppers()) == [_ONE, _OTHER]

    async def test_a_pepper_stays_registered_when_no_session_is_left(self, store: Store) -> None:
        await store.register_peppers([_ONE])
        await store.delete_sessions(SessionFilter())
        assert list(await store.read_peppers()) == [_ONE]

    async def test_without_the_store_no_pepper_is_called_unknown(self, harness: StoreHarness, store: Store) -> None:
        await store.register_peppers([_ONE])
        async with harness.outage():
            with pytest.raises(StoreUnavailable):
                await store.read_peppers()
            with pytest.raises(StoreUnavailable):
                await store.register_peppers([_OTHER])
        assert list(await store.read_peppers()) == [_ONE]
