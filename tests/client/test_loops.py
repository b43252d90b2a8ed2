"""One asynchronous manager in several event loops, one after the other."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextvars import copy_context
from typing import TYPE_CHECKING

import pytest
import sniffio

from coatcheck.client import AsyncClientSessionManager, FileStorage
from tests.client.programs import TOKEN, ada
from tests.servers.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    import httpx2


pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


# A connection that is kept alive belongs to a loop that has ended, and nothing can close it in order.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_manager_works_in_one_asyncio_run_after_the_other_and_keeps_no_ended_loop(
    origin: Origin, tmp_path: Path
) -> None:
    kept = [AsyncClientSessionManager(origin.url, storage=FileStorage(tmp_path / "session.json"))]
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def ask() -> int:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await kept[0].update_signed_in_user(ada())
        return (await kept[0].http.get("/notes")).status_code

    assert [asyncio.run(ask()) for _ in range(4)] == [200] * 4
    assert origin.authorizations == [f"Bearer {TOKEN}"] * 4
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None] * 3, "only the last loop is remembered"
    kept.clear()
    gc.collect()
    assert loops[-1]() is None


def test_a_manager_that_was_closed_in_one_loop_works_in_the_next(origin: Origin) -> None:
    sessions = AsyncClientSessionManager(origin.url)

    async def ask() -> int:
        async with sessions:
            return (await sessions.http.get("/notes")).status_code

    assert [asyncio.run(ask()) for _ in range(2)] == [200] * 2


def test_the_cookies_are_the_same_in_every_loop(origin: Origin) -> None:
    sessions = AsyncClientSessionManager(origin.url, mode="cookie")

    async def ask(path: str) -> None:
        async with sessions:
            await sessions.http.get(path)

    asyncio.run(ask("/set-cookie"))
    asyncio.run(ask("/notes"))
    assert origin.cookies == [None, "visit=1"]


def test_one_loop_has_one_client_and_code_outside_of_it_has_it_too(origin: Origin) -> None:
    sessions = AsyncClientSessionManager(origin.url)
    before = sessions.http

    async def look() -> list[httpx2.AsyncClient]:
        async with sessions:
            return [sessions.http, sessions.http]

    first, again = asyncio.run(look())
    assert first is again is before
    second, _ = asyncio.run(look())
    assert second is not first
    assert sessions.http is second


def test_a_loop_that_has_ended_and_is_still_named_is_none(origin: Origin) -> None:
    """As after a test of anyio's pytest plugin, in the context of which the next one runs."""
    sessions = AsyncClientSessionManager(origin.url)

    def look() -> httpx2.AsyncClient:
        sniffio.current_async_library_cvar.set("asyncio")
        return sessions.http

    assert copy_context().run(look) is sessions.http


def test_a_client_of_the_programs_own_is_used_in_every_loop(library: ModuleType) -> None:
    http = library.AsyncClient(transport=library.MockTransport(lambda _: library.Response(200)))
    sessions = AsyncClientSessionManager("https://notes.example", http=http)

    async def look() -> object:
        async with sessions:
            return sessions.http

    assert [asyncio.run(look()) for _ in range(2)] == [http] * 2
    assert not http.is_closed
