"""The browser client against a real Coatcheck server, in cookie mode and in header mode."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trustme
from playwright.async_api import expect
from sqlalchemy import update

from coatcheck.stores.sql.schema import sessions
from tests.examples.notes_server import PEPPER, no_errors_in, pod_beside
from tests.servers import chromium
from tests.servers.app import AppServer
from tests.servers.faults import FaultyServer
from tests.servers.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from playwright.async_api import Browser, BrowserContext, Page

    from coatcheck import AuthServices, Pod

pytestmark = pytest.mark.chromium

LONG_AGO_US = 1_000_000


@pytest.fixture(params=["cookie", "header"])
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('spa') / 'spa.db'}"


@pytest.fixture(scope="module")
def server(store_url: str) -> Iterator[AppServer]:
    env = {**PEPPER, "COATCHECK_STORE": store_url}
    options = ("--factory", "--log-level", "warning")
    with no_errors_in(AppServer.uvicorn("tests.browser.spa:create_app", *options, env=env)) as running:
        yield running


@dataclass
class Operator:
    """An operator with access to the store, outside of the application."""

    pod: Pod
    auth: AuthServices

    async def end_all(self) -> None:
        """Delete every session."""
        for user in await self.auth.auth_users.list():
            await self.auth.token_manager.revoke_all_tokens(auth_user_id=user.id)

    async def let_pass(self, **columns: int) -> None:
        """Set the times of every session back, as if time had passed."""
        async with self.pod.store.transaction() as transaction:
            await transaction.execute(update(sessions).values(**columns))

    async def count(self) -> int:
        return len(await self.auth.token_manager.list_tokens())


@pytest.fixture(autouse=True)
async def operator(store_url: str) -> AsyncIterator[Operator]:
    pod, auth = pod_beside(store_url)
    async with pod:
        operator = Operator(pod, auth)
        await operator.end_all()
        yield operator


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context()
    yield context
    await chromium.close(context)


class Tab:
    """One page of the application."""

    def __init__(self, page: Page, url: str, mode: str) -> None:
        self.page = page
        self.url = url
        self.mode = mode

    async def open(self, page: str = "app") -> None:
        await self.page.goto(f"{self.url}/{self.mode}/{page}")

    async def sign_in(self) -> None:
        await self.page.get_by_role("button", name="Sign in").click()

    async def load(self) -> None:
        await self.page.get_by_role("button", name="Load").click()

    async def sign_out(self) -> None:
        await self.page.get_by_role("button", name="Sign out").click()

    async def shows_the_secret(self) -> None:
        await expect(self.page.locator("#secret")).to_contain_text("the secret of")

    async def shows_the_problem(self, text: str) -> None:
        await expect(self.page.locator("#problem")).to_have_text(text)

    async def is_on_the_sign_in_page(self, query: str = "") -> None:
        await expect(self.page).to_have_url(f"{self.url}/{self.mode}/sign-in{query}")


@pytest.fixture
async def tab(context: BrowserContext, server: AppServer, mode: str) -> Tab:
    """A tab that is signed in and shows the secret."""
    tab = Tab(await context.new_page(), server.url, mode)
    await tab.open("sign-in")
    await tab.sign_in()
    await tab.shows_the_secret()
    return tab


class TestTheEndOfASession:
    @pytest.mark.parametrize(
        ("columns", "reason"),
        [
            ({"expires_at": LONG_AGO_US}, "expired"),
            ({"expire_after_unused_for_us": 1_000_000, "last_used_at": LONG_AGO_US}, "inactive"),
        ],
    )
    async def test_the_next_click_after_a_deadline_leads_to_the_sign_in_page_and_from_there_back(
        self, tab: Tab, operator: Operator, mode: str, columns: dict[str, int], reason: str
    ) -> None:
        await operator.let_pass(**columns)
        await tab.load()
        await tab.is_on_the_sign_in_page(f"?next=%2F{mode}%2Fapp&reason={reason}")
        await tab.sign_in()
        await expect(tab.page).to_have_url(f"{tab.url}/{mode}/app")
        await tab.shows_the_secret()

    async def test_a_session_revoked_elsewhere_is_out_at_once_and_comes_back_after_signing_in(
        self, tab: Tab, operator: Operator, mode: str
    ) -> None:
        await tab.page.goto(f"{tab.url}/{mode}/app?filter=a%20b#part")
        await tab.shows_the_secret()
        await operator.end_all()
        await tab.is_on_the_sign_in_page(f"?next=%2F{mode}%2Fapp%3Ffilter%3Da%2520b%23part&reason=revoked")
        await tab.sign_in()
        await expect(tab.page).to_have_url(f"{tab.url}/{mode}/app?filter=a%20b#part")
        await tab.shows_the_secret()

    async def test_a_tab_that_comes_to_the_front_finds_out_that_the_session_ended(
        self, tab: Tab, operator: Operator, mode: str
    ) -> None:
        await operator.let_pass(expires_at=LONG_AGO_US)  # which nothing announces
        await tab.page.evaluate("window.dispatchEvent(new Event('online'))")
        await tab.is_on_the_sign_in_page(f"?next=%2F{mode}%2Fapp&reason=expired")

    async def test_a_page_opened_with_a_dead_session_shows_nothing_and_leads_to_the_sign_in_page(
        self, tab: Tab, operator: Operator, context: BrowserContext
    ) -> None:
        await operator.let_pass(expires_at=LONG_AGO_US)
        second = Tab(await context.new_page(), tab.url, tab.mode)
        await second.open()
        # In cookie mode opening the page has removed the cookie, without which the server does not give the reason.
        reason = "unknown" if tab.mode == "cookie" else "expired"
        await second.is_on_the_sign_in_page(f"?next=%2F{tab.mode}%2Fapp&reason={reason}")


class TestAbsoluteDeadline:
    """Reached in the browser's own time, so that the cookie's Max-Age counts too."""

    @pytest.fixture
    def server(self, store_url: str) -> Iterator[AppServer]:
        env = {**PEPPER, "COATCHECK_STORE": store_url, "SPA_SECONDS": "4"}
        options = ("--factory", "--log-level", "warning")
        with no_errors_in(AppServer.uvicorn("tests.browser.spa:create_app", *options, env=env)) as running:
            yield running

    async def test_a_page_that_is_open_at_the_deadline_is_told_that_the_session_has_expired(
        self, tab: Tab, mode: str
    ) -> None:
        await tab.is_on_the_sign_in_page(f"?next=%2F{mode}%2Fapp&reason=expired")


class TestSigningOut:
    async def test_signing_out_in_one_of_five_tabs_signs_all_of_them_out(
        self, tab: Tab, operator: Operator, context: BrowserContext, mode: str
    ) -> None:
        others = [Tab(await context.new_page(), tab.url, mode) for _ in range(4)]
        for other in others:
            await other.open()
            await other.shows_the_secret()
        await others[1].sign_out()
        await others[1].is_on_the_sign_in_page("?reason=signed-out")
        for other in (tab, others[0], *others[2:]):
            await other.is_on_the_sign_in_page(f"?next=%2F{mode}%2Fapp&reason=elsewhere")
        assert await operator.count() == 0

    async def test_the_back_button_shows_nothing_private_after_signing_out(self, tab: Tab, mode: str) -> None:
        await tab.page.goto(f"{tab.url}/{mode}/app?second")
        await tab.shows_the_secret()
        await tab.sign_out()
        await tab.is_on_the_sign_in_page("?reason=signed-out")
        await tab.page.go_back()
        await tab.is_on_the_sign_in_page(f"?next=%2F{mode}%2Fapp")
        await expect(tab.page.get_by_text("the secret of")).to_have_count(0)

    async def test_a_sign_in_ends_the_session_it_replaces(self, tab: Tab, operator: Operator) -> None:
        await tab.open("sign-in")
        await tab.sign_in()
        await tab.shows_the_secret()
        assert await operator.count() == 1


class TestAnOutage:
    async def test_a_server_that_is_down_signs_nobody_out(self, browser: Browser, server: AppServer, mode: str) -> None:
        context = await browser.new_context()
        async with Proxy(server.port) as proxy:
            tab = Tab(await context.new_page(), f"http://127.0.0.1:{proxy.port}", mode)
            await tab.open("sign-in")
            await tab.sign_in()
            await tab.shows_the_secret()
            await proxy.cut()
            await tab.load()
            await tab.shows_the_problem("TypeError")
            await tab.page.evaluate("window.dispatchEvent(new Event('online'))")  # the re-check cannot be answered
            await tab.page.evaluate("session.check().catch(() => {})")
            await tab.shows_the_secret()
            await proxy.heal()
            await tab.load()
            await tab.shows_the_problem("")
            assert await tab.page.evaluate("session.state.signedIn") is True
            await tab.page.reload()
            await tab.shows_the_secret()
        await chromium.close(context)


class TestTheToken:
    async def test_in_cookie_mode_no_script_and_no_answer_shows_the_token(
        self, context: BrowserContext, server: AppServer
    ) -> None:
        tab = Tab(await context.new_page(), server.url, "cookie")
        bodies: list[asyncio.Task[str]] = []
        tab.page.on("response", lambda answer: bodies.append(asyncio.ensure_future(answer.text())))
        await tab.open("sign-in")
        await tab.page.evaluate("""() => fetch("/api/sign-in?user=eve",
            { method: "POST", headers: { "Coatcheck-Mode": "cookie" } }).then((answer) => answer.text())""")
        (cookie,) = await context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("coatcheck", True, "Lax")
        assert all(cookie["value"] not in body for body in await asyncio.gather(*bodies))
        seen = await tab.page.evaluate("document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })")
        assert cookie["value"] not in seen

    async def test_over_https_the_cookie_has_every_attribute_and_works(
        self, browser: Browser, store_url: str, operator: Operator, tmp_path: Path
    ) -> None:
        """ASVS 3.3.1-3.3.4, with the browser's own checks of the `__Host-` prefix."""
        certificate = tmp_path / "certificate.pem"
        trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        env = {**PEPPER, "COATCHECK_STORE": store_url}
        options = ("--factory", "--log-level", "warning")
        context = await browser.new_context(ignore_https_errors=True)
        server = AppServer.uvicorn("tests.browser.spa:create_app", *options, env=env, certificate=certificate)
        with no_errors_in(server):
            tab = Tab(await context.new_page(), server.url, "cookie")
            await tab.open("sign-in")
            await tab.sign_in()
            await tab.shows_the_secret()
            (cookie,) = await context.cookies()
            assert (cookie["name"], cookie["secure"], cookie["httpOnly"]) == ("__Host-coatcheck", True, True)
            assert (cookie["path"], cookie["domain"], cookie["sameSite"]) == ("/", "127.0.0.1", "Lax")
            await tab.sign_out()
            await tab.is_on_the_sign_in_page("?reason=signed-out")
            assert await context.cookies() == []
        assert await operator.count() == 0
        await chromium.close(context)

    async def test_a_sign_out_during_an_outage_takes_the_token_away_and_can_be_repeated(
        self, context: BrowserContext, server: AppServer, operator: Operator
    ) -> None:
        tab = Tab(await context.new_page(), server.url, "cookie")
        await tab.open("sign-in")
        await tab.sign_in()
        await tab.shows_the_secret()
        await tab.open("sign-in")  # where nothing leads away from
        await context.request.post(f"{server.url}/outage/begins")
        try:
            for _ in range(2):
                assert await tab.page.evaluate("session.signOut()") is False
                assert [cookie.get("name") for cookie in await context.cookies()] == ["coatcheck-ending"]
                assert await tab.page.evaluate("session.check()") is False
        finally:
            await context.request.post(f"{server.url}/outage/ends")
        assert await operator.count() == 1
        assert await tab.page.evaluate("session.signOut()") is True
        assert await context.cookies() == []
        assert await operator.count() == 0

    async def test_a_sign_out_that_the_server_cannot_confirm_is_told_as_such(
        self, context: BrowserContext, server: AppServer, operator: Operator
    ) -> None:
        """The ticket of an earlier sign-out is under a pepper that the server has not."""
        tab = Tab(await context.new_page(), server.url, "cookie")
        await tab.open("sign-in")
        await tab.sign_in()
        await tab.shows_the_secret()
        await tab.open("sign-in")
        ticket = "A" * 107
        await context.add_cookies([{"name": "coatcheck-ending", "value": ticket, "url": server.url}])
        async with tab.page.expect_response(lambda answer: answer.url.endswith("/sign-out")) as answered:
            assert await tab.page.evaluate("session.signOut()") is False
        assert (await answered.value).status == 409
        assert await tab.page.evaluate("session.state.signedIn") is False
        assert await operator.count() == 0, "what can be ended is over"
        assert [(one.get("name"), one.get("value")) for one in await context.cookies()] == [
            ("coatcheck-ending", ticket)
        ]

    async def test_another_origin_of_the_same_site_cannot_send_a_form_with_the_cookie(
        self, context: BrowserContext, server: AppServer, operator: Operator
    ) -> None:
        """Ports do not keep cookies apart, and SameSite does not stop it: Sec-Fetch-Site does."""
        await self.post_a_form_from("http://127.0.0.1", context, server)
        assert await operator.count() == 1

    async def test_another_site_cannot_send_a_form_with_the_cookie(
        self, context: BrowserContext, server: AppServer, operator: Operator
    ) -> None:
        """SameSite=Lax: the form arrives without the cookie, as a stranger's."""
        await self.post_a_form_from("http://localhost", context, server)
        assert await operator.count() == 1

    async def post_a_form_from(self, origin: str, context: BrowserContext, server: AppServer) -> None:
        tab = Tab(await context.new_page(), server.url, "cookie")
        await tab.open("sign-in")
        await tab.sign_in()
        await tab.shows_the_secret()
        async with FaultyServer() as evil:
            targets = ("/api/write", "/session/sign-out", "/session/sign-out-all")
            forms = "".join(
                f'<form method=post action="{server.url}{path}"><button>Go</button></form>' for path in targets
            )
            evil.files["/"] = ("text/html", forms.encode())
            expected = {"/api/write": (401, 403), "/session/sign-out": (200, 403), "/session/sign-out-all": (401, 403)}
            for number, path in enumerate(targets):
                await tab.page.goto(f"{origin}:{evil.port}/")
                async with tab.page.expect_navigation() as navigation:
                    await tab.page.get_by_role("button").nth(number).click()
                answer = await navigation.value
                assert answer is not None
                without_cookie, with_cookie = expected[path]
                assert answer.status == (with_cookie if origin == "http://127.0.0.1" else without_cookie), path
        await tab.open()
        await tab.shows_the_secret()
