"""The stream on which the server says that it should be asked again: opened when it has to be, and not by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_client_in_browser import SIGNED_OUT, TOKEN, LiveServer, opened, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import BrowserContext, Page, Route

    from tests.servers.faults import FaultyServer

pytestmark = pytest.mark.chromium


@pytest.fixture
async def live(server: FaultyServer) -> AsyncIterator[LiveServer]:
    async with LiveServer() as live:
        server.status["events"] = f"http://127.0.0.1:{live.port}/events"
        yield live


async def newest_stream(live: LiveServer) -> asyncio.StreamWriter:
    return await asyncio.wait_for(live.streams.get(), 10)


async def is_heard(page: Page, server: FaultyServer, stream: asyncio.StreamWriter) -> None:
    """Hold that what the server says on this stream reaches the page."""
    server.status = dict(SIGNED_OUT)
    stream.write(b"event: ended\ndata: {}\n\n")
    await stream.drain()
    await page.wait_for_function("!session.state.signedIn")


async def test_who_signs_in_over_a_session_hears_of_the_end_of_the_new_one(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    page = await started(await opened(context, server), mode, sign_in=True)
    await newest_stream(live)
    token = "c2Fz-another" if mode == "header" else ""
    await page.evaluate("(token) => session.signedIn({ token, auth_user_id: 'ada', scope_names: [] })", token)
    await is_heard(page, server, await newest_stream(live))


async def test_a_page_that_comes_back_from_memory_hears_of_the_end_of_its_session(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    """The events alone: a browser that freezes the page closes the stream as well, and says so with them."""
    page = await started(await opened(context, server), mode, sign_in=True)
    await newest_stream(live)
    await page.evaluate("""() => {
        dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
        dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    }""")
    await is_heard(page, server, await newest_stream(live))


async def test_an_event_that_arrives_in_pieces_is_heard(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    page = await opened(context, server)
    # What the page has read of the stream, so that the second half is sure to arrive by itself.
    await page.evaluate("""() => {
        const read = ReadableStreamDefaultReader.prototype.read;
        window.parts = [];
        ReadableStreamDefaultReader.prototype.read = async function () {
            const part = await read.call(this);
            parts.push(part.value);
            return part;
        };
    }""")
    await started(page, mode, sign_in=True)
    stream = await newest_stream(live)
    server.status = dict(SIGNED_OUT)
    stream.write(b"da")
    await stream.drain()
    await page.wait_for_function("parts.includes('da')")
    stream.write(b"ta: {}\n\n")
    await stream.drain()
    await page.wait_for_function("!session.state.signedIn")


async def test_the_stream_is_asked_for_with_the_session(
    context: BrowserContext, server: FaultyServer, mode: str
) -> None:
    server.status["events"] = "/session/events"
    page = await opened(context, server)
    asked: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def answer(route: Route) -> None:
        asked.put_nowait(route.request.headers)
        await route.fulfill(content_type="text/event-stream", body=": hello\n\n")

    await page.route("**/session/events", answer)
    await started(page, mode, sign_in=True)
    headers = await asyncio.wait_for(asked.get(), 10)
    if mode == "header":
        assert headers["authorization"] == f"Bearer {TOKEN}"
    else:
        assert headers["coatcheck-mode"] == "cookie"
        assert "authorization" not in headers


async def test_a_page_of_a_captive_portal_is_not_taken_for_the_stream(
    context: BrowserContext, server: FaultyServer, mode: str
) -> None:
    """Each part of a stream that is read starts the waiting anew; a portal's page would be asked for every second."""
    server.status["events"] = "/session/events"
    page = await opened(context, server)
    await page.evaluate("""() => {
        window.pauses = [];
        const wait = window.setTimeout;
        window.setTimeout = (then, pause) => { pauses.push(pause); return wait(then, 0); };
        Math.random = () => 0.5; // no jitter
    }""")
    await page.route("**/session/events", lambda route: route.fulfill(content_type="text/html", body="data: x"))
    await started(page, mode, sign_in=True)
    await page.wait_for_function("pauses.length >= 4")
    await page.evaluate("session.close()")
    pauses = await page.evaluate("pauses.slice(0, 4)")
    assert pauses == [1000, 2000, 4000, 8000]
