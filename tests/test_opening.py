"""A thing is open in one process and one event loop, and each refusal says in one sentence what to do."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from coatcheck import ConfigurationError, NotOpenError, OpenElsewhereError, Pod
from coatcheck.opening import Opening, running_loop
from coatcheck.stores.sql.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


async def test_it_is_open_from_begin_to_stop_and_may_begin_again_after_the_end() -> None:
    opening = Opening()
    names = set()
    for _ in range(2):
        with pytest.raises(NotOpenError, match="is not open; use it inside `async with pod`"):
            opening.check()
        opening.begin()
        names.add(opening.name)
        opening.check()
        assert opening.stop()
        assert not opening.stop()
        with pytest.raises(OpenElsewhereError, match="is being closed; open it again when that is done"):
            opening.begin()
        with pytest.raises(NotOpenError, match="is not open"):
            opening.check()
        opening.end()
    assert len(names) == 2


async def test_a_second_beginning_is_refused_and_the_first_stays() -> None:
    opening = Opening()
    opening.begin()
    with pytest.raises(OpenElsewhereError, match="is open already"):
        opening.begin()
    opening.check()


def test_of_many_threads_that_begin_at_once_one_does() -> None:
    opening, start, began = Opening(), threading.Barrier(8), []

    async def begin() -> None:
        start.wait()
        try:
            opening.begin()
        except OpenElsewhereError:
            return
        began.append(running_loop())

    threads = [threading.Thread(target=asyncio.run, args=(begin(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(began) == 1


def test_a_loop_that_has_ended_without_closing_it_is_named() -> None:
    opening = Opening()

    async def begin() -> None:
        opening.begin()

    asyncio.run(begin())
    for step in (opening.check, opening.check_not_elsewhere, opening.begin, opening.stop):
        with pytest.raises(
            OpenElsewhereError, match="in an event loop that has ended; close the pod before its loop ends"
        ):
            step()


async def test_a_subscriber_may_come_before_the_pod_is_open_and_after_it_is_closed() -> None:
    opening = Opening()
    opening.check_not_elsewhere()
    opening.begin()
    opening.check_not_elsewhere()
    opening.stop()
    opening.check_not_elsewhere()
    opening.end()
    opening.check_not_elsewhere()


def test_running_loop_says_none_where_no_loop_runs() -> None:
    """In asyncio's `__all__`, and without a page in its manual."""

    async def find() -> bool:
        return running_loop() is asyncio.get_running_loop()

    assert running_loop() is None
    assert asyncio.run(find())
    assert running_loop() is None


async def test_two_pods_cannot_be_open_on_one_store_object(tmp_path: Path) -> None:
    """The first to close would close the store for the other."""
    store = SqliteStore(tmp_path / "a.db")
    first, second = (Pod(store, environ={}, config_dir=tmp_path) for _ in range(2))
    async with first:
        with pytest.raises(OpenElsewhereError, match="in use by another open pod; give each pod a store of its own"):
            await second.__aenter__()
        assert await store.list_users() == []
    async with second:
        assert await store.list_users() == []


async def test_a_start_that_fails_leaves_the_pod_to_be_started_again(tmp_path: Path) -> None:
    folder = tmp_path / "comes later"
    pod = Pod(f"sqlite:///{folder}/a.db", environ={}, config_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="there is no folder"):
        await pod.__aenter__()
    folder.mkdir()
    async with pod:
        assert await pod.store.list_users() == []
