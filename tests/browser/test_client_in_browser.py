"""The browser client in Chromium against a server that goes wrong: the fault table of docs/reference/clients.md."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from playwright.async_api import expect

from tests.servers import chromium
from tests.servers.faults import Fault, FaultyServer
from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from playwright.async_api import Browser, BrowserContext, Page, Route

pytestmark = pytest.mark.chromium

MODULE = Path(__file__).parents[2] / "src" / "coatcheck" / "web" / "browser" / "coatcheck.min.js"
PATIENCE_SECONDS = 20.0
TOKEN = "c2Fz-the-token-of-the-tests"
NOT_SIGNED_IN: dict[str, object] = {
    "signed_in": False,
    "user_id": None,
    "session_id": None,
    "scopes": [],
    "reason": None,
}
"""The answer to a browser that shows no token."""
SIGNED_OUT = {**NOT_SIGNED_IN, "reason": "revoked"}
"""The answer to a browser that shows a token of which nobody knows anything."""

PAGE = b"""<!doctype html><title>Page</title><h1>Page</h1><p>private</p>
<script type="module">
  import { createSessionClient, safeNext } from "/client.js";
  Object.assign(window, { createSessionClient, safeNext });
</script>"""

START = """async ({ mode, loginUrl, token }) => {
  window.session = createSessionClient({ mode, loginUrl });
  window.changes = [];
  session.onAuthChange((state) => changes.push(state));
  await session.ready;
  if (token !== null) await session.signedIn({ token, auth_user_id: "ada", scope_names: [] });
  changes.length = 0;
}"""

FETCH = """([url, seconds]) => session.fetch(url, { signal: AbortSignal.timeout(1000 * seconds) })
  .then((answer) => answer.text().then((text) => ({ status: answer.status, length: text.length })))
  .catch((error) => ({ error: error.name }))"""

OUTCOMES: dict[Fault, set[int | str]] = {
    Fault.TIMEOUT: {"TimeoutError"},
    Fault.REFUSED: {"TypeError"},
    Fault.RESET_MID_BODY: {"TypeError"},
    Fault.OURS_401: {401},
    Fault.FOREIGN_401: {401},
    Fault.FORBIDDEN_403: {403},
    Fault.PROXY_AUTH_407: {407, "TypeError"},  # browsers take it for their own proxy's and let no page see it
    Fault.TOO_MANY_429: {429},
    Fault.ERROR_500: {500},
    Fault.BAD_GATEWAY_502: {502},
    Fault.UNAVAILABLE_503: {503},
    Fault.HTML_200: {200},
    Fault.REDIRECT_AWAY: {401},
}
_ANSWERED = [fault for fault in Fault if fault is not Fault.TIMEOUT]


@pytest.fixture(params=["cookie", "header"])
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    """Serves the page and the client, and fails as the test says."""
    async with FaultyServer() as server, FaultyServer() as elsewhere:
        server.elsewhere = elsewhere
        await elsewhere.fail(Fault.OURS_401)
        for path in ("/page", "/sign-in", "/public"):
            server.files[path] = ("text/html", PAGE)
        server.files["/client.js"] = ("text/javascript", MODULE.read_bytes())
        yield server


@pytest.fixture
async def context(browser: Browser, server: FaultyServer) -> AsyncIterator[BrowserContext]:  # noqa: ARG001 (for the order of their ends)
    """Closed before the server, so that no page connects to it while it stops."""
    context = await browser.new_context()
    yield context
    await chromium.close(context)


async def opened(context: BrowserContext, server: FaultyServer, path: str = "/page") -> Page:
    page = await context.new_page()
    await page.goto(server.url + path)
    await page.wait_for_function("!!window.createSessionClient")
    return page


async def started(page: Page, mode: str, *, login_url: str | None = None, sign_in: bool = False) -> Page:
    """Make a client on the page. In cookie mode the server knows the session, in header mode the storage."""
    token = TOKEN if sign_in and mode == "header" else None
    await page.evaluate(START, {"mode": mode, "loginUrl": login_url, "token": token})
    return page


@pytest.fixture
async def page(context: BrowserContext, server: FaultyServer, mode: str) -> Page:
    """A page of a signed-in user that is not left when the session ends."""
    page = await started(await opened(context, server), mode, sign_in=True)
    assert await page.evaluate("session.state.signedIn") is True
    return page


async def fetched(page: Page, url: str = "/api/notes", *, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
    """The result of a request of the page, with a time limit."""
    outcome: dict[str, Any] = await page.evaluate(FETCH, [url, seconds])
    return outcome


async def reasons(page: Page) -> list[str]:
    found: list[str] = await page.evaluate("changes.filter((state) => !state.signedIn).map((state) => state.reason)")
    return found


class TestEachFault:
    @pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
    async def test_each_fault_of_a_request(self, page: Page, server: FaultyServer, fault: Fault) -> None:
        await server.fail(fault)
        answer = await fetched(page, seconds=0.5 if fault is Fault.TIMEOUT else PATIENCE_SECONDS)
        assert answer.get("status", answer.get("error")) in OUTCOMES[fault]
        assert answer.get("length", 1) > 0, "the answer is the caller's to read"
        assert await page.evaluate("session.state.signedIn") == (not fault.ends_session)
        assert await reasons(page) == (["revoked"] if fault.ends_session else [])
        await server.heal()
        assert await fetched(page) == {"status": 200, "length": len('{"ok": true}')}

    @pytest.mark.parametrize("fault", _ANSWERED, ids=lambda fault: fault.value)
    async def test_each_fault_of_asking_for_the_status(self, page: Page, server: FaultyServer, fault: Fault) -> None:
        await server.fail(fault)
        asked = await page.evaluate("session.check().catch((error) => error.name)")
        assert asked is False if fault.ends_session else asked in {"Error", "TypeError", "SyntaxError"}
        assert await page.evaluate("session.state.signedIn") == (not fault.ends_session)

    @pytest.mark.parametrize("fault", _ANSWERED, ids=lambda fault: fault.value)
    async def test_each_fault_of_signing_out(self, page: Page, server: FaultyServer, fault: Fault) -> None:
        """The client clears its storage in any case, and returns whether the server's call succeeded."""
        await server.fail(fault)
        assert await page.evaluate("session.signOut()") is False
        assert await reasons(page) == ["signed-out"]
        assert await page.evaluate("localStorage.length") == 0

    @pytest.mark.parametrize(
        ("media_type", "body"),
        [
            ("application/json", '{"code": "invalid_token"}'),
            ("application/problem+json", '{"code": "wrong_credentials"}'),
            ("application/problem+json", "null"),
            ("application/problem+json", "{"),
        ],
    )
    async def test_a_401_without_the_servers_problem_ends_no_session(
        self, page: Page, media_type: str, body: str
    ) -> None:
        await page.route("**/*", lambda route: route.fulfill(status=401, content_type=media_type, body=body))
        assert (await fetched(page))["status"] == 401
        assert await page.evaluate("session.state.signedIn") is True
        assert await reasons(page) == []

    async def test_listeners_are_told_once_of_two_sign_outs(self, page: Page) -> None:
        await page.evaluate("session.signOut().then(() => session.signOut())")
        assert await reasons(page) == ["signed-out"]


class TestTheToken:
    async def test_in_header_mode_the_token_goes_to_the_sessions_origin_only(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        page = await started(await opened(context, server), "header", sign_in=True)
        assert server.elsewhere is not None
        await fetched(page)
        assert server.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
        await fetched(page, f"{server.elsewhere.url}/api/notes")
        await server.fail(Fault.REDIRECT_AWAY)
        await fetched(page)
        sent = server.elsewhere.requests
        assert [request.path for request in sent if request.method == "GET"] == ["/api/notes", "/api/notes"]
        assert not any(TOKEN in str(request) for request in sent)
        assert await page.evaluate("session.state.signedIn") is True

    async def test_in_header_mode_the_pages_own_header_is_left_alone(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        page = await started(await opened(context, server), "header", sign_in=True)
        await server.fail(Fault.OURS_401)
        await page.evaluate(
            "session.fetch('/api', { headers: { Authorization: 'Bearer another' } }).then((r) => r.status)"
        )
        assert server.requests[-1].headers["authorization"] == "Bearer another"
        assert await page.evaluate("session.state.signedIn") is True

    async def test_in_cookie_mode_a_token_in_the_body_is_an_error_and_is_not_stored(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        """A client in cookie mode that receives a token in the body reports a configuration error."""
        server.status = dict(SIGNED_OUT)
        page = await started(await opened(context, server), "cookie")
        error = await page.evaluate(
            """(token) => session.signedIn({ token, auth_user_id: "ada", scope_names: [] })
              .catch((error) => `${error.name}: ${error.message}`)""",
            TOKEN,
        )
        assert error.startswith("TypeError: the server sent a token although this client uses cookie mode")
        assert TOKEN not in error
        assert await page.evaluate("[session.state.signedIn, localStorage.length]") == [False, 0]

    async def test_a_refusal_of_an_earlier_token_is_ignored(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        page = await started(await opened(context, server), "header", sign_in=True)
        await server.fail(Fault.OURS_401)
        await page.evaluate("""async () => {
            const asked = session.fetch("/api/notes");
            localStorage.setItem(Object.keys(localStorage)[0], "c2Fz-newer"); // another tab has signed in meanwhile
            await asked;
        }""")
        assert await page.evaluate("session.state.signedIn") is True

    async def test_fifty_refusals_at_once_are_one_sign_out(self, page: Page, server: FaultyServer) -> None:
        await server.fail(Fault.OURS_401)
        await page.evaluate("Promise.all(Array.from({ length: 50 }, () => session.fetch('/api/notes')))")
        assert await reasons(page) == ["revoked"]


class TestTabs:
    @pytest.mark.parametrize(
        ("mode", "without"),
        [
            ("cookie", []),
            ("header", []),
            ("cookie", ["BroadcastChannel"]),
            ("header", ["BroadcastChannel"]),
            ("cookie", ["BroadcastChannel", "localStorage"]),  # in header mode, each page would sign in by itself
        ],
    )
    async def test_five_tabs_hear_of_a_sign_out_in_one_tab(
        self, context: BrowserContext, server: FaultyServer, mode: str, without: list[str]
    ) -> None:
        """Without a channel the tabs use the storage; without both, they ask when they come to the front."""
        for name in without:
            await context.add_init_script(
                f"Object.defineProperty(window, '{name}', {{ get() {{ throw new Error(); }} }})"
            )
        if "BroadcastChannel" in without:
            await context.add_init_script("Object.defineProperty(window, 'BroadcastChannel', { value: undefined })")
        tabs = [await started(await opened(context, server), mode, sign_in=True) for _ in range(5)]
        for tab in tabs:
            await tab.wait_for_function("session.state.signedIn")
        server.status = dict(SIGNED_OUT)
        assert await tabs[2].evaluate("session.signOut()") is True
        for tab in tabs:
            if "localStorage" in without:
                await tab.evaluate("window.dispatchEvent(new Event('online'))")
            await tab.wait_for_function("!session.state.signedIn")
        told = [(await reasons(tab))[-1:] for tab in tabs]
        others = ["revoked"] if "localStorage" in without else ["elsewhere"]
        assert told == [others, others, ["signed-out"], others, others]

    async def test_a_sign_in_is_seen_by_the_other_tabs(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        signed_in = server.status
        server.status = dict(SIGNED_OUT)
        here, there = [await started(await opened(context, server), mode) for _ in range(2)]
        assert await there.evaluate("session.state.signedIn") is False
        server.status = signed_in
        token = TOKEN if mode == "header" else ""
        await here.evaluate("(token) => session.signedIn({ token, auth_user_id: 'ada', scope_names: [] })", token)
        await there.wait_for_function("session.state.signedIn && session.state.userId === 'ada'")

    async def test_a_tab_that_finds_nobody_signed_in_any_more_tells_the_others(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        """A form has signed out without a script, so the next page is the first to know."""
        private = await started(await opened(context, server), mode, sign_in=True)
        server.status = dict(SIGNED_OUT)
        await started(await opened(context, server, "/public"), mode)
        await private.wait_for_function("!session.state.signedIn")


class TestLeaving:
    async def test_the_login_page_is_told_where_to_go_back_to_and_why(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        page = await opened(context, server, "/page?a=1&b=%2F#part")
        await started(page, mode, login_url="/sign-in?lang=en", sign_in=True)
        server.status = {**SIGNED_OUT, "reason": "inactive"}
        await page.evaluate("void session.check()")  # the answer may not outlive the page
        await expect(page).to_have_url(
            f"{server.url}/sign-in?lang=en&next=%2Fpage%3Fa%3D1%26b%3D%252F%23part&reason=inactive"
        )

    async def test_the_login_page_itself_is_not_left(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        page = await opened(context, server, "/sign-in?next=/page")
        await started(page, mode, login_url="/sign-in", sign_in=True)
        server.status = dict(SIGNED_OUT)
        await page.evaluate("session.check()")
        assert await page.evaluate("session.state.signedIn") is False
        assert page.url == f"{server.url}/sign-in?next=/page"

    async def test_a_public_page_is_not_left_by_a_stranger(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        server.status = dict(SIGNED_OUT)
        page = await started(await opened(context, server, "/public"), mode, login_url="/sign-in")
        assert await page.evaluate("session.check()") is False
        assert page.url == f"{server.url}/public"


REMEMBER = """() => {
  const shown = [];
  const look = (event) => {
    shown.push([event.type, event.persisted, getComputedStyle(document.body).visibility]);
    sessionStorage.shown = JSON.stringify(shown);
  };
  addEventListener("pagehide", look);
  addEventListener("pageshow", look);
}"""


class TestTheBackForwardCache:
    """With the browser's real cache: the same page comes back, with its scripts."""

    @pytest.fixture(scope="class")
    async def browser(self) -> AsyncIterator[Browser]:
        async with chromium.running(back_forward_cache=True) as browser:
            yield browser

    async def left(self, context: BrowserContext, server: FaultyServer, mode: str) -> Page:
        """A private page that was left for another by a link."""
        page = await opened(context, server)
        await started(page, mode, login_url="/sign-in", sign_in=True)
        await page.evaluate(REMEMBER)
        async with page.expect_navigation():
            await page.evaluate("location.href = '/public'")
        await page.wait_for_function("!!window.createSessionClient")
        return page

    async def was_hidden(self, page: Page) -> bool:
        """Whether the page went into the cache and came back from it unseen."""
        seen = await page.evaluate("JSON.parse(sessionStorage.shown)")
        assert seen[:2] == [["pagehide", True, "hidden"], ["pageshow", True, "hidden"]]
        return all(visibility == "hidden" for _, _, visibility in seen)

    async def test_after_a_sign_out_nothing_private_is_shown_for_a_moment_and_no_other_tab_is_blamed(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        """Nobody has told the page: it was frozen, and it may have been a form without a script."""
        page = await self.left(context, server, mode)
        server.status = dict(NOT_SIGNED_IN)
        await page.evaluate("localStorage.clear()")  # what a sign-out leaves
        await page.evaluate("history.back()")
        await expect(page).to_have_url(f"{server.url}/sign-in?next=%2Fpage&reason=unknown")
        assert await self.was_hidden(page)

    async def test_after_signing_out_in_this_tab_an_earlier_page_of_it_says_so(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        # Chromium throws a page away that has a channel, if something is said on it meanwhile.
        await context.add_init_script("Object.defineProperty(window, 'BroadcastChannel', { value: undefined })")
        page = await self.left(context, server, mode)
        await page.evaluate(START, {"mode": mode, "loginUrl": None, "token": None})
        assert await page.evaluate("session.signOut()") is True
        server.status = dict(NOT_SIGNED_IN)
        await page.evaluate("history.back()")
        await expect(page).to_have_url(f"{server.url}/sign-in?next=%2Fpage&reason=signed-out")
        assert await self.was_hidden(page)

    async def test_after_the_session_was_revoked_nothing_private_is_shown_for_a_moment(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        page = await self.left(context, server, mode)
        server.status = dict(SIGNED_OUT)
        await page.evaluate("history.back()")
        await expect(page).to_have_url(f"{server.url}/sign-in?next=%2Fpage&reason=revoked")
        assert await self.was_hidden(page)

    async def test_a_page_is_hidden_before_it_enters_the_cache_and_shown_when_the_session_is_live(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        page = await self.left(context, server, mode)
        asked = len(server.requests)
        await page.evaluate("history.back()")
        await page.wait_for_function("window.session && getComputedStyle(document.body).visibility === 'visible'")
        assert await self.was_hidden(page)
        assert "/session/status" in [request.path for request in server.requests[asked:]]

    async def test_a_page_from_the_cache_stays_hidden_until_the_server_answers(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        page = await self.left(context, server, mode)
        await server.fail(Fault.UNAVAILABLE_503)
        async with page.expect_response("**/session/status"):
            await page.evaluate("history.back()")
        await page.wait_for_function("window.session && session.check().catch(() => true)")  # refused as well
        assert await page.evaluate("getComputedStyle(document.body).visibility") == "hidden"
        await server.heal()
        await page.wait_for_function("getComputedStyle(document.body).visibility === 'visible'")
        assert await page.evaluate("session.state.signedIn") is True


class TestAskingAgain:
    async def test_the_client_asks_when_the_network_is_back_and_not_before(
        self, page: Page, server: FaultyServer
    ) -> None:
        asked = len(server.requests)
        await page.evaluate("window.dispatchEvent(new Event('focus'))")  # a moment ago it has asked
        await page.evaluate("""() => {
            window.dispatchEvent(new Event("online"));
            return session.check(); // shares the question that is under way
        }""")
        assert [request.path for request in server.requests[asked:]] == ["/session/status"]

    async def test_the_client_asks_when_the_tab_comes_to_the_front_after_a_while(
        self, page: Page, server: FaultyServer
    ) -> None:
        await page.evaluate("""() => {
            const now = performance.now.bind(performance);
            performance.now = () => now() + 6000;
        }""")
        server.status = dict(SIGNED_OUT)
        await page.evaluate("window.dispatchEvent(new Event('focus'))")
        await page.wait_for_function("!session.state.signedIn")

    async def test_a_closed_client_neither_listens_nor_asks(self, page: Page, server: FaultyServer) -> None:
        await page.evaluate("session.close()")
        asked = len(server.requests)
        server.status = dict(SIGNED_OUT)
        await page.evaluate("window.dispatchEvent(new Event('online'))")
        await page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
        assert await page.evaluate("getComputedStyle(document.body).visibility") == "visible"
        assert len(server.requests) == asked

    async def test_an_answer_from_before_a_sign_in_is_ignored(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        page = await started(await opened(context, server), "header", sign_in=True)
        later_is_answered = asyncio.Event()

        async def answer(route: Route) -> None:
            is_later = route.request.headers["authorization"].endswith("-later")
            if not is_later:
                await later_is_answered.wait()
            await route.fulfill(json=server.status if is_later else SIGNED_OUT)
            later_is_answered.set()

        await page.route("**/session/status", answer)
        signed_in = await page.evaluate("""async () => {
            const asked = session.check();
            await session.signedIn({ token: "c2Fz-later", auth_user_id: "ada", scope_names: [] });
            return [await asked, session.state.signedIn];
        }""")
        assert signed_in == [True, True]
        assert await reasons(page) == []


class TestTwoTabsAtOnce:
    """One tab finds out that a session has ended just when another has signed in again."""

    async def test_in_header_mode_an_answer_about_an_earlier_token_is_ignored(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        page = await started(await opened(context, server), "header", sign_in=True)
        server.status = dict(SIGNED_OUT)
        said = await page.evaluate("""async () => {
            const asked = session.check();
            localStorage.setItem(Object.keys(localStorage)[0], "c2Fz-newer");
            return [await asked, localStorage.getItem(Object.keys(localStorage)[0])];
        }""")
        assert said == [True, "c2Fz-newer"]

    async def test_in_cookie_mode_the_mark_of_the_new_session_stays_in_the_storage(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        page = await started(await opened(context, server), "cookie")
        newer = "0198c0de-0000-7000-8000-000000000002"
        await page.evaluate("(id) => localStorage.setItem(Object.keys(localStorage)[0], id)", newer)
        server.status = dict(SIGNED_OUT)
        assert await page.evaluate("session.check()") is False
        assert await page.evaluate("localStorage.getItem(Object.keys(localStorage)[0])") == newer


class LiveServer:
    """Server-sent events, one connection after another; the test sends events on the newest."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        assert server is not None
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(
            20
        ):  # steps of the loop: what was just accepted is on its way to `_accept`, and to its end there
            await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # a page that opens its stream again and again
            writer.transport.abort()
            return
        self._writers.append(writer)
        self._tasks.append(asyncio.create_task(self._answer(reader, writer)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nAccess-Control-Allow-Origin: *\r\n"
        writer.write((head + "Connection: close\r\n\r\n").encode())
        await self.streams.put(writer)


class TestLiveSignOut:
    async def test_an_event_of_the_server_signs_out(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        async with LiveServer() as live:
            server.status["events"] = f"http://127.0.0.1:{live.port}/events"
            page = await started(await opened(context, server), mode, sign_in=True)
            stream = await live.streams.get()
            asked = len(server.requests)
            stream.write(b"event: session_live\ndata: {}\n\n:\n\n")
            await stream.drain()
            for _ in range(5):
                await fetched(page)  # time enough to have heard it
            assert "/session/status" not in [request.path for request in server.requests[asked:]]
            asked = len(server.requests)
            server.status = dict(SIGNED_OUT)
            stream.write(b"event: session_ended\ndata: {}\n\n")
            await stream.drain()
            await page.wait_for_function("!session.state.signedIn")
            assert [request.path for request in server.requests[asked:]] == ["/session/status"]

    async def test_a_stream_that_ends_is_opened_again(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        async with LiveServer() as live:
            server.status["events"] = f"http://127.0.0.1:{live.port}/events"
            page = await started(await opened(context, server), mode, sign_in=True)
            (await live.streams.get()).transport.abort()
            await asyncio.wait_for(live.streams.get(), 30)
            assert await page.evaluate("session.state.signedIn") is True


SAFE = ["/", "/notes", "/notes?a=1&b=%2F", "/a/b%20c/~d?e=%2F&f=+", "/@a:b#//c", "/%09/evil.example"]
UNSAFE = [
    None, "", "notes", "https://evil.example", "https:evil.example", "http:/evil.example", "//evil.example",
    "///evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil.example",
    "\t//evil.example", " //evil.example", "/notes\n", "/ /evil.example", "javascript:alert(1)", "data:text/html,x",
    "/n\u00f6tes", "/\u2044/evil.example", "/\u2215evil.example", "\u2000//evil.example", "/<script>", "/" + "a" * 512,
    "?next=/", "#x", "@evil.example", "/\u0000/evil.example", "http://127.0.0.1@evil.example/", "blob:x",
    "//evil.example/%2f..",
]  # fmt: skip


async def test_the_client_opens_only_paths_of_this_site(context: BrowserContext, server: FaultyServer) -> None:
    page = await opened(context, server)
    for path in SAFE:
        assert await page.evaluate("(path) => safeNext(path, '/home')", path) == path
        assert await page.evaluate("(path) => new URL(path, location).origin", path) == server.url
    for wanted in UNSAFE:
        assert await page.evaluate("(wanted) => safeNext(wanted, '/home')", wanted) == "/home", wanted
    assert await page.evaluate("safeNext(null)") == "/"


def test_server_and_browser_let_the_same_paths_through() -> None:
    from coatcheck.web import safe_next  # noqa: PLC0415 (the other one of the two)

    assert [safe_next(path, "/home") for path in SAFE] == SAFE
    assert {safe_next(wanted, "/home") for wanted in UNSAFE} == {"/home"}


def test_the_documentation_of_faults_is_the_table_that_is_run() -> None:
    said: dict[str, Any] = {}
    for line in (Path(__file__).parents[2] / "docs" / "reference" / "clients.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 6:
            said[cells[1]] = cells[2] == "**ended**"
    assert {fault.value: fault.ends_session for fault in Fault}.items() <= said.items()
