"""The stream on which the server says that the session has ended: one tab opens it for all tabs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_client_in_browser import SIGNED_OUT, TOKEN, LiveServer, opened, reasons, started
from tests.servers.faults import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import BrowserContext, Page, Route

    from tests.servers.faults import FaultyServer

pytestmark = pytest.mark.chromium

ENDED = b"event: session_ended\ndata: {}\n\n"

# The parts of the stream that the page has read.
KEEP_PARTS = """() => {
    const read = ReadableStreamDefaultReader.prototype.read;
    window.parts = [];
    ReadableStreamDefaultReader.prototype.read = async function () {
        const part = await read.call(this);
        parts.push(part.value);
        return part;
    };
}"""

WITHOUT_PAUSES = "Math.random = () => -0.499"  # the jitter is what a pause is multiplied with, and half of it


@pytest.fixture
async def live(server: FaultyServer) -> AsyncIterator[LiveServer]:
    async with LiveServer() as live:
        server.status["events"] = f"http://127.0.0.1:{live.port}/events"
        yield live


async def say(stream: asyncio.StreamWriter, text: bytes) -> None:
    stream.write(text)
    await stream.drain()


async def newest_stream(live: LiveServer) -> asyncio.StreamWriter:
    return await asyncio.wait_for(live.streams.get(), 10)


async def is_heard(page: Page, server: FaultyServer, stream: asyncio.StreamWriter) -> None:
    """Assert that an event of the server on this stream reaches the page."""
    server.status = dict(SIGNED_OUT)
    await say(stream, ENDED)
    await page.wait_for_function("!session.state.signedIn")


async def test_a_page_that_signs_in_again_hears_of_the_end_of_the_new_session(
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
    """Only the events of the page are tested: a browser that freezes a page also closes the stream."""
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
    await page.evaluate(KEEP_PARTS)  # so that the second half is sure to arrive by itself
    await started(page, mode, sign_in=True)
    stream = await newest_stream(live)
    server.status = dict(SIGNED_OUT)
    await say(stream, ENDED[:12])
    await page.wait_for_function("parts.includes('event: sessi')")
    await say(stream, ENDED[12:])
    await page.wait_for_function("!session.state.signedIn")


async def test_an_answer_from_before_the_event_does_not_answer_the_events_request(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    page = await opened(context, server)
    await page.evaluate(KEEP_PARTS)
    await started(page, mode, sign_in=True)
    stream = await newest_stream(live)
    is_asked, is_heard_of = asyncio.Event(), asyncio.Event()
    before, server.status = server.status, dict(SIGNED_OUT)

    async def answer(route: Route) -> None:
        if is_asked.is_set():
            await route.continue_()
            return
        is_asked.set()
        await is_heard_of.wait()
        await route.fulfill(json=before)

    await page.route("**/session/status", answer)
    await page.evaluate("void session.check()")
    await asyncio.wait_for(is_asked.wait(), 10)
    await say(stream, ENDED)
    await page.wait_for_function("parts.some((part) => part?.includes('session_ended'))")
    is_heard_of.set()
    await page.wait_for_function("!session.state.signedIn")


async def test_the_request_for_the_stream_carries_the_session(
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
    """A comment on a stream resets the pause; a portal's page must not, or it would be requested every second."""
    server.status["events"] = "/session/events"
    page = await opened(context, server)
    await page.evaluate("""() => {
        window.pauses = [];
        const wait = window.setTimeout;
        window.setTimeout = (then, pause) => {
            if (pause !== 60_000) pauses.push(pause); // that is how long silence is borne
            return wait(then, pause === 60_000 ? pause : 0);
        };
        Math.random = () => 0.5; // no jitter
    }""")
    await page.route("**/session/events", lambda route: route.fulfill(content_type="text/html", body=":\n"))
    await started(page, mode, sign_in=True)
    await page.wait_for_function("pauses.length >= 4")
    await page.evaluate("session.close()")
    pauses = await page.evaluate("pauses.slice(0, 4)")
    assert pauses == [1000, 2000, 4000, 8000]


async def test_the_tabs_of_a_browser_share_one_stream_and_another_takes_over(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    """Over HTTP/1.1 a browser has six connections to a site, for all of its tabs."""
    first = await started(await opened(context, server), mode, sign_in=True)
    await newest_stream(live)
    tabs = [await started(await opened(context, server), mode) for _ in range(2)]
    for tab in tabs:
        await tab.wait_for_function("navigator.locks.query().then(({ pending }) => pending.length === 2)")
    assert live.streams.empty()
    await first.close()
    stream = await newest_stream(live)
    server.status = {**SIGNED_OUT, "reason": "expired"}
    await say(stream, ENDED)
    for tab in tabs:
        await tab.wait_for_function("!session.state.signedIn")
        assert await reasons(tab) == ["expired"], "each learns why, also from another tab"


async def test_a_dead_stream_is_opened_again(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    page = await opened(context, server)
    await page.evaluate("""() => {
        const wait = window.setTimeout;
        window.setTimeout = (then, pause) => {
            if (pause === 60_000) window.silence = then;
            return pause === 60_000 ? 0 : wait(then, pause);
        };
    }""")
    await page.evaluate(WITHOUT_PAUSES)
    await started(page, mode, sign_in=True)
    await newest_stream(live)
    await page.evaluate("silence()")
    await newest_stream(live)
    assert await page.evaluate("session.state.signedIn") is True


async def test_a_broken_stream_does_not_ask_for_the_status(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    """A status request is a use of the session: a proxy that cuts streams would keep an idle session alive."""
    page = await opened(context, server)
    await page.evaluate(WITHOUT_PAUSES)
    await started(page, mode, sign_in=True)
    asked = len(server.requests)
    for _ in range(4):
        (await newest_stream(live)).transport.abort()
    assert [request.path for request in server.requests[asked:]] == []


async def test_a_closed_client_opens_no_stream(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    page = await opened(context, server)
    await page.evaluate(WITHOUT_PAUSES)
    await started(page, mode, sign_in=True)
    await newest_stream(live)
    await page.evaluate("session.close()")
    await page.wait_for_function(
        "navigator.locks.query().then(({ held, pending }) => held.length + pending.length === 0)"
    )
    assert live.streams.empty()


async def test_a_page_can_turn_listening_off(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    page = await opened(context, server)
    await page.evaluate(
        """async ({ mode, token }) => {
            window.session = createSessionClient({ mode, listen: false });
            await session.ready;
            if (mode === "header") await session.signedIn({ token, auth_user_id: "ada", scope_names: [] });
        }""",
        {"mode": mode, "token": TOKEN},
    )
    assert await page.evaluate("session.state.signedIn") is True
    assert await page.evaluate("navigator.locks.query().then(({ held }) => held.length)") == 0
    assert live.streams.empty()


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.TIMEOUT], ids=lambda one: one.value)
async def test_each_fault_of_the_stream(context: BrowserContext, server: FaultyServer, mode: str, fault: Fault) -> None:
    server.status["events"] = "events"
    assert server.elsewhere is not None
    await server.elsewhere.fail(Fault.OURS_401)
    page = await opened(context, server)
    await page.evaluate(WITHOUT_PAUSES)
    await started(page, mode, sign_in=True)
    await server.fail(fault)
    if fault.ends_session:
        await page.wait_for_function("!session.state.signedIn")
        return
    for _ in range(3):  # the answer to the first is heard by the time of the last
        async with page.expect_request("**/session/events"):
            pass
    assert await page.evaluate("session.state.signedIn") is True


async def test_a_sign_out_in_one_tab_is_not_reported_as_the_servers_in_another(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    """The listening tab may hear of the end before the tab that signs out has its answer."""
    listens = await started(await opened(context, server), mode, sign_in=True)
    stream = await newest_stream(live)
    page = await started(await opened(context, server), mode)
    is_heard_of = asyncio.Event()

    async def answer(route: Route) -> None:
        server.status = dict(SIGNED_OUT)
        await say(stream, ENDED)
        await listens.wait_for_function("!session.state.signedIn")
        is_heard_of.set()
        await route.fulfill(json={"ended": 1})

    await page.route("**/session/sign-out", answer)
    await page.evaluate("session.signOut()")
    assert is_heard_of.is_set()
    assert (await reasons(listens), await reasons(page)) == (["elsewhere"], ["signed-out"])


async def test_a_form_that_ends_the_session_decides_where_the_page_goes(
    context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
) -> None:
    page = await started(await opened(context, server), mode, login_url="/sign-in", sign_in=True)
    stream = await newest_stream(live)
    is_heard_of = asyncio.Event()
    page.on("console", lambda _: is_heard_of.set())
    await page.evaluate("void session.onAuthChange(() => console.log('heard'))")
    server.files["/done"] = ("text/html", b"<!doctype html><h1>Done</h1>")

    async def answer(route: Route) -> None:
        server.status = dict(SIGNED_OUT)
        await say(stream, ENDED)
        await asyncio.wait_for(is_heard_of.wait(), 10)  # nothing can be evaluated in a page that is being left
        await route.continue_()

    await page.route("**/done", answer)
    await page.evaluate("""() => {
        document.body.innerHTML = "<form method=post action=/done><button>Sign out</button></form>";
        document.querySelector("button").click();
    }""")
    await page.wait_for_url("**/done")
