"""A page whose question is not answered asks again: nothing that it shows depends on one request that failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.client.test_live_stream import WITHOUT_PAUSES, live, newest_stream, say
from tests.browser.test_client_in_browser import NOT_SIGNED_IN, SIGNED_OUT, TOKEN, opened, reasons, started
from tests.servers.faults import Fault

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

    from tests.browser.test_client_in_browser import LiveServer
    from tests.servers.faults import FaultyServer

__all__ = ["live"]

pytestmark = pytest.mark.chromium

REFUSE = "throw new DOMException('', 'SecurityError');"
NO_PAUSE_ENDS = "Math.random = () => 1e6"


def questions(server: FaultyServer) -> int:
    return [request.path for request in server.requests].count("/session/status")


async def remembered(page: Page, mode: str) -> Page:
    """Have the browser remember a sign-in of an earlier page, as a token or as the mark of one."""
    await page.evaluate(
        "(value) => localStorage.setItem(`coatcheck:${location.origin}/session`, value)",
        TOKEN if mode == "header" else "0198c0de-0000-7000-8000-000000000001",
    )
    return page


async def unanswered(page: Page, server: FaultyServer, mode: str) -> Page:
    """Make a client whose first question meets an outage, which is over afterwards."""
    await server.fail(Fault.UNAVAILABLE_503)
    await started(page, mode)
    await server.heal()
    return page


class TestFirstQuestion:
    @pytest.mark.parametrize("fault", [Fault.UNAVAILABLE_503, Fault.REFUSED, Fault.HTML_200, Fault.FOREIGN_401])
    async def test_a_page_whose_first_question_failed_listens_once_the_server_answers(
        self, context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str, fault: Fault
    ) -> None:
        await context.add_init_script(WITHOUT_PAUSES)
        page = await remembered(await opened(context, server), mode)
        await server.fail(fault)
        await started(page, mode)
        assert await page.evaluate("session.state.signedIn") is True
        await server.heal()
        stream = await newest_stream(live)
        server.status = dict(SIGNED_OUT)
        await say(stream, b"event: session_ended\ndata: {}\n\n")
        await page.wait_for_function("!session.state.signedIn")

    async def test_a_question_that_hangs_is_asked_again(
        self, context: BrowserContext, server: FaultyServer, live: LiveServer, mode: str
    ) -> None:
        await context.add_init_script(
            WITHOUT_PAUSES + "; { const timeout = AbortSignal.timeout; AbortSignal.timeout = () => timeout(50); }"
        )
        page = await remembered(await opened(context, server), mode)
        await server.fail(Fault.TIMEOUT)
        await started(page, mode)
        await server.heal()
        await newest_stream(live)

    async def test_the_first_request_that_succeeds_has_the_page_ask_at_once(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        await context.add_init_script(NO_PAUSE_ENDS)
        page = await unanswered(await remembered(await opened(context, server), mode), server, mode)
        async with page.expect_response("**/session/status"):
            await page.evaluate("session.fetch('/api/notes')")
        await page.wait_for_function("session.state.userId === 'ada'")

    async def test_a_hidden_page_asks_when_it_comes_to_the_front(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        await context.add_init_script(WITHOUT_PAUSES)
        page = await remembered(await opened(context, server), mode)
        await page.evaluate("Object.defineProperty(document, 'visibilityState', { value: 'hidden', writable: true })")
        await unanswered(page, server, mode)
        asked = questions(server)
        # The pause of a thousandth has ended by then: timers run in the order of their times.
        await page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
        assert questions(server) == asked
        async with page.expect_response("**/session/status"):
            await page.evaluate("document.visibilityState = 'visible'; window.dispatchEvent(new Event('focus'))")
        await page.wait_for_function("session.state.userId === 'ada'")

    async def test_a_page_that_was_answered_does_not_ask_again(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        """It would be a use of the session, which would then never be idle."""
        await context.add_init_script(WITHOUT_PAUSES)
        page = await unanswered(await remembered(await opened(context, server), mode), server, mode)
        await page.wait_for_function("session.state.userId === 'ada'")
        asked = questions(server)
        await page.evaluate("session.fetch('/api/notes')")
        await page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
        assert questions(server) == asked

    async def test_a_closed_client_does_not_ask_again(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        await context.add_init_script(WITHOUT_PAUSES)
        page = await remembered(await opened(context, server), mode)
        await server.fail(Fault.UNAVAILABLE_503)
        await started(page, mode)
        await page.evaluate("session.close()")
        await page.evaluate("session.check().catch(() => {})")  # by hand, and refused
        asked = questions(server)
        await page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
        assert questions(server) == asked


class TestReasons:
    async def test_no_reason_is_not_called_a_revocation(self, context: BrowserContext, server: FaultyServer) -> None:
        """The browser shows no cookie: it may have dropped it at its deadline."""
        page = await started(await opened(context, server), "cookie", sign_in=True)
        server.status = dict(NOT_SIGNED_IN)
        assert await page.evaluate("session.check()") is False
        assert await reasons(page) == ["unknown"]

    async def test_a_token_that_nobody_knows_is_called_revoked(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        page = await started(await opened(context, server), mode, sign_in=True)
        server.status = dict(SIGNED_OUT)
        assert await page.evaluate("session.check()") is False
        assert await reasons(page) == ["revoked"]


class TestBlockedCookies:
    @pytest.fixture
    async def page(self, context: BrowserContext, server: FaultyServer) -> Page:
        """Of a browser that throws where a page touches its storage or its channel, as Firefox does."""
        for name in ("localStorage", "sessionStorage"):
            await context.add_init_script(f"Object.defineProperty(window, '{name}', {{ get() {{ {REFUSE} }} }})")
        await context.add_init_script(f"window.BroadcastChannel = function () {{ {REFUSE} }}")
        server.status = dict(NOT_SIGNED_IN)
        return await started(await opened(context, server), "cookie", login_url="/sign-in")

    async def test_the_client_can_be_made(self, page: Page) -> None:
        assert await page.evaluate("session.state.signedIn") is False

    async def test_a_sign_in_whose_cookie_is_not_kept_is_an_error_and_no_silent_form(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        server.status = dict(NOT_SIGNED_IN)
        page = await started(await opened(context, server, "/sign-in"), "cookie", login_url="/sign-in")
        error = await page.evaluate("""() => session
            .signedIn({ token: "", auth_user_id: "ada", scope_names: [] })
            .then(() => null, (error) => [error.name, error.message])""")
        assert error == [
            "CookieNotKeptError",
            "the browser did not keep the session cookie: it blocks the cookies of this site",
        ]
        assert await page.evaluate("[session.state.signedIn, session.state.reason]") == [False, "no-cookie"]

    async def test_a_page_with_a_sign_in_of_its_own_leads_to_the_sign_in_page_with_the_reason(self, page: Page) -> None:
        await page.evaluate(
            "void session.signedIn({ token: '', auth_user_id: 'ada', scope_names: [] }).catch(() => {})"
        )
        await page.wait_for_url("**/sign-in?next=%2Fpage&reason=no-cookie")

    async def test_a_sign_in_that_cannot_be_confirmed_is_no_error(
        self, context: BrowserContext, server: FaultyServer
    ) -> None:
        page = await started(await opened(context, server), "cookie")
        await server.fail(Fault.UNAVAILABLE_503)
        await page.evaluate("session.signedIn({ token: '', auth_user_id: 'ada', scope_names: [] })")
        assert await page.evaluate("session.state.signedIn") is True


class TestOtherTabs:
    async def test_a_tab_on_the_sign_in_page_comes_back_when_another_signs_in(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        signed_in, server.status = server.status, dict(NOT_SIGNED_IN)
        waiting = await started(
            await opened(context, server, "/sign-in?next=%2Fpage%3Ffilter%3Da"), mode, login_url="/sign-in"
        )
        other = await started(await opened(context, server, "/public"), mode)
        server.status = signed_in
        token = TOKEN if mode == "header" else ""
        await other.evaluate("(token) => session.signedIn({ token, auth_user_id: 'ada', scope_names: [] })", token)
        await expect(waiting).to_have_url(f"{server.url}/page?filter=a")

    async def test_a_sign_in_page_without_a_way_back_stays_and_tells_its_listeners(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        signed_in, server.status = server.status, dict(NOT_SIGNED_IN)
        waiting = await started(await opened(context, server, "/sign-in?next=//evil"), mode, login_url="/sign-in")
        other = await started(await opened(context, server, "/public"), mode)
        server.status = signed_in
        token = TOKEN if mode == "header" else ""
        await other.evaluate("(token) => session.signedIn({ token, auth_user_id: 'ada', scope_names: [] })", token)
        await waiting.wait_for_function("changes.some((state) => state.signedIn)")
        assert waiting.url == f"{server.url}/sign-in?next=//evil"

    async def test_a_sign_in_page_opened_by_somebody_who_is_signed_in_stays(
        self, context: BrowserContext, server: FaultyServer, mode: str
    ) -> None:
        """The application may ask for the password once more there."""
        page = await remembered(await opened(context, server, "/sign-in?next=%2Fpage"), mode)
        await started(page, mode, login_url="/sign-in")
        assert await page.evaluate("session.check()") is True
        assert page.url == f"{server.url}/sign-in?next=%2Fpage"


async def test_the_page_and_its_style_are_left_alone_where_nothing_was_hidden(
    context: BrowserContext, server: FaultyServer, mode: str
) -> None:
    page = await opened(context, server)
    await page.evaluate("document.documentElement.style.visibility = 'hidden'")  # the application's own
    await started(page, mode, sign_in=True)
    await asyncio.gather(*(page.evaluate("session.check()") for _ in range(2)))
    assert await page.evaluate("document.documentElement.style.visibility") == "hidden"
