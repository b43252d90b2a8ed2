"""The end of a session for a page, when several things happen at once, and the page that follows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.test_client_in_browser import PAGE, SIGNED_OUT, TOKEN, opened, reasons, started
from tests.servers.faults import Fault

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page, Route

    from tests.servers.faults import FaultyServer

pytestmark = pytest.mark.chromium

NEWER_SESSION = "0198c0de-0000-7000-8000-000000000002"


async def answering_a_sign_out_late(page: Page) -> asyncio.Event:
    """Answer the page's sign-out, but not before the event is set."""
    may_answer = asyncio.Event()

    async def answer(route: Route) -> None:
        await may_answer.wait()
        await route.fulfill(json={"ended": 1})

    await page.route("**/session/sign-out", answer)
    return may_answer


class TestSigningOut:
    async def test_a_refusal_during_a_sign_out_is_reported_as_the_sign_out(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        """The server has ended the session and its answer is under way: a refusal meanwhile is no news."""
        page = await opened(context, server)
        await started(page, mode, login_url="/sign-in", sign_in=True)
        is_refused = asyncio.Event()

        async def answer(route: Route) -> None:
            server.status = dict(SIGNED_OUT)
            await is_refused.wait()
            await route.fulfill(json={"ended": 1})

        await page.route("**/session/sign-out", answer)
        await page.route(
            "**/api/notes",
            lambda route: route.fulfill(
                status=401, content_type="application/problem+json", body='{"code": "invalid_token"}'
            ),
        )
        await page.evaluate("""() => {
            session.signOut();
            session.fetch("/api/notes");
        }""")
        await page.wait_for_url("**/sign-in*")
        is_refused.set()
        await expect(page).to_have_url(f"{server.url}/sign-in?reason=signed-out")

    async def test_a_slow_sign_out_keeps_a_sign_in_that_came_meanwhile(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        page = await started(await opened(context, server), "header", sign_in=True)
        is_signed_in = await answering_a_sign_out_late(page)
        await page.evaluate("""async () => {
            window.signedOut = session.signOut();
            await session.signedIn({ token: "c2Fz-newer", auth_user_id: "ada", scope_names: [] });
        }""")
        is_signed_in.set()
        assert await page.evaluate("signedOut") is True
        assert await page.evaluate("[session.state.signedIn, Object.values(localStorage)]") == [True, ["c2Fz-newer"]]

    async def test_a_slow_sign_out_keeps_a_sign_in_of_another_tab_that_came_meanwhile(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        page, other = [await started(await opened(context, server), mode, sign_in=True) for _ in range(2)]
        is_signed_in = await answering_a_sign_out_late(page)
        await page.evaluate("() => { window.signedOut = session.signOut(); }")
        server.status = {**server.status, "session_id": NEWER_SESSION}
        token = "c2Fz-newer" if mode == "header" else ""
        await other.evaluate("(token) => session.signedIn({ token, auth_user_id: 'ada', scope_names: [] })", token)
        await page.wait_for_function("(id) => session.state.sessionId === id", arg=NEWER_SESSION)
        is_signed_in.set()
        assert await page.evaluate("signedOut") is True
        for tab in (page, other):
            assert await tab.evaluate("session.check()") is True
            assert await reasons(tab) == []
        assert await page.evaluate("Object.values(localStorage)") == [token or NEWER_SESSION]
        server.status = {**SIGNED_OUT, "reason": "expired"}
        assert await page.evaluate("session.check()") is False
        assert await reasons(page) == ["expired"], "it is not the session that was signed out of"

    async def test_a_slow_sign_out_keeps_a_token_of_which_this_tab_has_not_heard(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        page = await started(await opened(context, server), "header", sign_in=True)
        signed_out = await page.evaluate("""() => {
            const signedOut = session.signOut();
            localStorage.setItem(Object.keys(localStorage)[0], "c2Fz-newer");
            return signedOut;
        }""")
        assert signed_out is True
        assert await page.evaluate("[session.state.signedIn, Object.values(localStorage)]") == [True, ["c2Fz-newer"]]

    async def test_a_slow_sign_out_that_deletes_a_newer_cookie_is_noticed(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        """A browser has one cookie by that name; the server cannot say which one its answer is to delete."""
        page, other = [await started(await opened(context, server), "cookie") for _ in range(2)]
        is_signed_in = await answering_a_sign_out_late(page)
        await page.evaluate("() => { window.signedOut = session.signOut(); }")
        server.status = {**server.status, "session_id": NEWER_SESSION}
        await other.evaluate("session.signedIn({ token: '', auth_user_id: 'ada', scope_names: [] })")
        await page.wait_for_function("(id) => session.state.sessionId === id", arg=NEWER_SESSION)
        server.status = dict(SIGNED_OUT)
        is_signed_in.set()
        for tab in (page, other):
            await tab.wait_for_function("!session.state.signedIn")

    async def test_signing_out_everywhere_asks_the_server_and_ends_the_session_here(
        self, page: Page, server: FaultyServer
    ) -> None:
        assert await page.evaluate("session.signOutEverywhere()") is True
        assert (server.requests[-1].method, server.requests[-1].path) == ("POST", "/session/sign-out-all")
        assert await reasons(page) == ["signed-out"]


class TestOtherTabs:
    @pytest.mark.parametrize("news", ["storage", "message"])
    async def test_a_late_message_about_an_earlier_session_leaves_a_new_sign_in_alone(
        self, context: BrowserContext, server: FaultyServer, news: str
    ) -> None:
        """In cookie mode only the server can say which session was meant."""
        page = await opened(context, server)
        await page.evaluate("""() => {
            const wait = window.setTimeout;
            window.setTimeout = (then, pause, ...rest) => {
                if (pause === 500) window.late = () => then(...rest);
                return pause === 500 ? 0 : wait(then, pause, ...rest);
            };
        }""")
        await started(page, "cookie", sign_in=True)
        await server.fail(Fault.UNAVAILABLE_503)
        await page.evaluate(
            """async (news) => {
                const [[key, before]] = Object.entries(localStorage);
                localStorage.removeItem(key); // another tab has signed out
                dispatchEvent(new StorageEvent("storage", { key, oldValue: before, newValue: null }));
                await session.signedIn({ token: "", auth_user_id: "ada", scope_names: [] });
                if (news === "storage") return late();
                const heard = new Promise((resolve) => new BroadcastChannel(key).addEventListener("message", resolve));
                new BroadcastChannel(key).postMessage({ out: before, why: "elsewhere" });
                await heard;
            }""",
            news,
        )
        assert await page.evaluate("session.state.signedIn") is True
        assert await reasons(page) == []
        await server.heal()
        assert await page.evaluate("session.check().catch(() => session.check())") is True

    async def test_a_late_message_about_this_session_ends_it(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        """The message comes from a tab without a channel, or from one that was closed before it gave the reason."""
        page = await started(await opened(context, server), "cookie", sign_in=True)
        other = await opened(context, server)
        await other.evaluate("localStorage.removeItem(Object.keys(localStorage)[0])")
        await page.wait_for_function("!session.state.signedIn")
        assert await reasons(page) == ["elsewhere"]


class TestWhatIsRefused:
    async def test_a_refusal_of_the_pages_own_credential_does_not_open_the_login_page(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        server.status = dict(SIGNED_OUT)
        page = await started(await opened(context, server, "/public"), "header", login_url="/sign-in")
        await server.fail(Fault.OURS_401)
        status = await page.evaluate(
            "session.fetch('/api', { headers: { Authorization: 'Bearer another' } }).then((answer) => answer.status)"
        )
        assert status == 401
        await server.heal()
        assert await page.evaluate("session.fetch('/api').then((answer) => answer.ok)") is True
        assert page.url == f"{server.url}/public"

    async def test_a_stranger_who_is_refused_is_led_to_the_login_page_and_back(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        server.status = dict(SIGNED_OUT)
        page = await started(await opened(context, server), mode, login_url="/sign-in")
        await server.fail(Fault.OURS_401)
        await page.evaluate("void session.fetch('/api/notes')")
        await expect(page).to_have_url(f"{server.url}/sign-in?next=%2Fpage")

    async def test_a_stranger_who_is_refused_stays_where_another_tab_has_signed_in_meanwhile(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        server.status, status = dict(SIGNED_OUT), server.status
        page = await started(await opened(context, server), "header", login_url="/sign-in")
        key = await page.evaluate("`coatcheck:${location.origin}/session`")
        await page.route(
            "**/api/notes",
            lambda route: route.fulfill(
                status=401, content_type="application/problem+json", body='{"code": "authentication_required"}'
            ),
        )
        server.status = status
        signed_in = await page.evaluate(
            """async (key) => {
                const asked = session.fetch("/api/notes");
                localStorage.setItem(key, "c2Fz-newer");
                await asked;
                return await session.check();
            }""",
            key,
        )
        assert signed_in is True
        assert page.url == f"{server.url}/page"

    async def test_the_caller_gets_the_answer_of_a_request_after_closing(
        self, page: Page, server: FaultyServer
    ) -> None:
        """A part of the page is taken down while its request is under way."""
        await server.fail(Fault.OURS_401)
        status = await page.evaluate("""() => {
            const asked = session.fetch("/api/notes");
            session.close();
            return asked.then((answer) => answer.status);
        }""")
        assert status == 401

    async def test_a_closed_client_can_still_sign_out(self, page: Page) -> None:
        await page.evaluate("session.close()")
        assert await page.evaluate("session.signOut()") is True
        assert await page.evaluate("[session.state.signedIn, localStorage.length]") == [False, 0]


class TestComingBack:
    async def test_a_new_sign_in_stays_although_the_server_cannot_be_asked(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        server.status, status = dict(SIGNED_OUT), server.status
        page = await started(await opened(context, server), mode)
        server.status = status
        await server.fail(Fault.UNAVAILABLE_503)
        token = TOKEN if mode == "header" else ""
        await page.evaluate("(token) => session.signedIn({ token, auth_user_id: 'ada', scope_names: [] })", token)
        await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        assert await page.evaluate("session.state.signedIn") is True
        assert await reasons(page) == []
        await page.evaluate(
            "session.check().catch(() => {})"
        )  # joins the request of `pageshow`, if it is still under way
        await server.heal()
        assert await page.evaluate("session.check()") is True

    async def test_the_server_is_asked_when_another_tab_has_emptied_the_storage(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        """`localStorage.clear()` takes the token away, and in cookie mode nothing that matters."""
        page = await started(await opened(context, server), mode, sign_in=True)
        other = await opened(context, server)
        asked = len(server.requests)
        if mode == "header":
            await other.evaluate("localStorage.clear()")
            await page.wait_for_function("!session.state.signedIn")
            assert await reasons(page) == ["elsewhere"]
        else:
            async with page.expect_response("**/session/status"):
                await other.evaluate("localStorage.clear()")
            await page.wait_for_function("localStorage.length === 1")  # the mark is there again
            assert await reasons(page) == []
            assert "/session/status" in [request.path for request in server.requests[asked:]]


@pytest.mark.parametrize("path", ["//evil.example/x", "/page?a=[b]|c", "/page?" + "a" * 512])
async def test_a_page_that_safe_next_would_refuse_is_not_given_as_next(
    context: BrowserContext, server: FaultyServer, mode: str, path: str
) -> None:
    """A sign-in page that does not look would be sent to another site by the first of these."""
    server.files["//evil.example/x"] = ("text/html", PAGE)
    page = await started(await opened(context, server, path), mode, login_url="/sign-in", sign_in=True)
    server.status = dict(SIGNED_OUT)
    await page.evaluate("void session.check()")
    await expect(page).to_have_url(f"{server.url}/sign-in?reason=revoked")
