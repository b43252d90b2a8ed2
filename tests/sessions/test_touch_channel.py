"""Touches and rehashes are collected, written in order, may be lost, and never delay a request."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest

from coatcheck import OpenElsewhereError, StoreUnavailable
from coatcheck.identifiers import SessionId
from coatcheck.sessions.touch_channel import TouchChannel
from coatcheck.stores.records import KeyHash, Rehash, SessionUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coatcheck.stores.store import Store
    from tests.worlds import World


class RecordingStore:
    """Records the writes that it is asked for."""

    def __init__(self) -> None:
        self.touches: list[list[tuple[str, int]]] = []
        self.rehashes: list[list[str]] = []
        self.is_down = False
        self.written = asyncio.Event()
        self.may_write = asyncio.Event()
        self.may_write.set()

    async def touch_sessions(self, uses: Sequence[SessionUse]) -> frozenset[SessionId]:
        if self.is_down:
            raise StoreUnavailable("down, for the test")
        await self.may_write.wait()
        self.touches.append([(use.session_id, use.used_at_us) for use in uses])
        self.written.set()
        return frozenset(use.session_id for use in uses)

    async def rehash_sessions(self, rehashes: Sequence[Rehash]) -> None:
        self.rehashes.append([rehash.session_id for rehash in rehashes])


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


def channel_to(store: RecordingStore, *, capacity: int = 100) -> TouchChannel:
    return TouchChannel(cast("Store", store), capacity=capacity)


def use(name: str, at: int = 0) -> SessionUse:
    return SessionUse(SessionId(name), at)


async def test_uses_of_one_session_become_one_write_of_the_latest(store: RecordingStore) -> None:
    channel = channel_to(store)
    for at in range(5):
        channel.note_use(use("a", at), delay_us=1_000_000)
    await channel.flush()
    assert store.touches == [[("a", 4)]]


async def test_writes_are_ordered_by_id(store: RecordingStore) -> None:
    channel = channel_to(store)
    for name in "cab":
        channel.note_use(use(name), delay_us=1_000_000)
        channel.note_rehash(Rehash(SessionId(name), KeyHash(b"", b"", None), KeyHash(b"", b"", None)))
    await channel.flush()
    assert store.touches == [[("a", 0), ("b", 0), ("c", 0)]]
    assert store.rehashes == [["a", "b", "c"]]


async def test_large_batches_are_split(store: RecordingStore) -> None:
    channel = channel_to(store, capacity=5000)
    for number in range(2500):
        channel.note_use(use(f"{number:04}"), delay_us=1_000_000)
    await channel.flush()
    assert [len(batch) for batch in store.touches] == [1000, 1000, 500]


async def test_a_use_is_written_by_itself(store: RecordingStore) -> None:
    channel = channel_to(store)
    channel.note_use(use("slow"), delay_us=3_600_000_000)
    channel.note_use(use("quick"), delay_us=1_000)  # the earlier of the two counts for both
    await store.written.wait()
    assert store.touches == [[("quick", 0), ("slow", 0)]]
    await channel.close()


async def test_a_use_that_comes_during_a_write_goes_with_the_next_write(store: RecordingStore) -> None:
    channel = channel_to(store)
    store.may_write.clear()
    channel.note_use(use("a"), delay_us=0)
    flush = asyncio.create_task(channel.flush())
    await asyncio.sleep(0)
    channel.note_use(use("b"), delay_us=3_600_000_000)
    store.may_write.set()
    await flush
    assert store.touches == [[("a", 0)], [("b", 0)]]
    await channel.close()


async def test_a_full_channel_drops_uses_and_logs_it_when_it_writes(
    store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    channel = channel_to(store, capacity=2)
    with caplog.at_level(logging.WARNING, logger="coatcheck"):
        for name in "aabcd":
            channel.note_use(use(name), delay_us=1_000_000)
        assert channel.dropped == 2
        assert caplog.messages == []
        await channel.flush()
        await channel.close()
    assert caplog.messages == ["dropped 2 touches or rehashes (2 so far): the channel is full"]
    assert store.touches == [[("a", 0), ("b", 0)]]


async def test_an_outage_drops_the_waiting_writes_and_raises_no_error(
    store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    channel = channel_to(store)
    store.is_down = True
    channel.note_use(use("a"), delay_us=1_000_000)
    with caplog.at_level(logging.WARNING, logger="coatcheck"):
        await channel.flush()
    assert channel.dropped == 1
    store.is_down = False
    channel.note_use(use("a", 5), delay_us=1_000_000)
    await channel.close()
    assert store.touches == [[("a", 5)]]


async def test_closing_writes_the_waiting_uses(store: RecordingStore) -> None:
    channel = channel_to(store)
    channel.note_use(use("a"), delay_us=3_600_000_000)
    await channel.close()
    assert store.touches == [[("a", 0)]]


async def test_an_application_can_count_what_was_dropped(world: World) -> None:
    success = await world.sign_in(await world.user())
    await world.harness.advance(timedelta(hours=2))
    assert await world.is_valid(success)  # a touch is waiting
    async with world.harness.outage():
        await world.sessions.flush()
    assert world.sessions.dropped_writes == 1


def test_a_loop_that_ends_with_writes_waiting_does_not_keep_the_next_one_from_writing() -> None:
    """Its timer never goes off."""
    store = RecordingStore()
    channel = channel_to(store)

    async def note(name: str, delay_us: int) -> None:
        channel.note_use(use(name), delay_us=delay_us)

    async def note_and_wait() -> None:
        await note("b", 1000)
        async with asyncio.timeout(20):
            await store.written.wait()

    asyncio.run(note("a", 0))
    asyncio.run(note_and_wait())
    assert store.touches == [[("a", 0), ("b", 0)]]


async def test_writes_that_are_refused_where_the_store_is_not_open_wait_on(
    store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = channel_to(store)

    async def refuse(_: Sequence[SessionUse]) -> frozenset[SessionId]:
        raise OpenElsewhereError("elsewhere, for the test")

    channel.note_use(use("a"), delay_us=60_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(store, "touch_sessions", refuse)
        with pytest.raises(OpenElsewhereError):
            await channel.flush()
    await channel.flush()
    assert (store.touches, channel.dropped) == ([[("a", 0)]], 0)
