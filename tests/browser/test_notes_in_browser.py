"""The notes example in a real browser: a person ends the session of one device on another."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from playwright.async_api import expect
from sqlalchemy import update

from coatcheck import ServerSideSessionsTokenManager
from coatcheck.stores.sql.schema import sessions
from tests.browser.devices import LAPTOP, PHONE, USER_AGENTS, Device, devices
from tests.examples.notes_server import PASSWORD, no_errors_in, notes_server, pod_beside
from tests.servers import chromium
from tests.servers.faults import FaultyServer
from tests.servers.proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from coatcheck import AuthServices, Pod
    from tests.browser.devices import NewDevice
    from tests.servers.app import AppServer

pytestmark = pytest.mark.chromium

LONG_AGO_US = 1_000_000
SIGNED_OUT_HERE = "This device was signed out"
FORGED = b"""<!doctype html><title>Prize</title>
<form method="post" action="NOTES/notes"><input type="hidden" name="text" value="written by another site">
<button>Win</button></form>"""


async def two_devices(new_device: NewDevice, ada: str) -> tuple[Device, Device]:
    """The same person on a laptop and on a phone."""
    laptop, phone = await new_device(LAPTOP), await new_device(PHONE)
    await laptop.sign_up(ada)
    await laptop.is_on("/notes", "Notes")
    await phone.sign_in(ada)
    await phone.is_on("/notes", "Notes")
    return laptop, phone


class TestEndingADevice:
    async def test_a_device_ended_from_another_is_out_at_once_learns_why_and_comes_back_to_where_it_was(
        self, new_device: NewDevice, ada: str
    ) -> None:
        laptop, phone = await two_devices(new_device, ada)
        await phone.follow("My devices")
        await expect(phone.ticket(PHONE)).to_contain_text("this device")
        await expect(phone.ticket(LAPTOP)).not_to_contain_text("this device")

        await laptop.follow("My devices")
        await laptop.ticket(PHONE).get_by_role("button", name="Sign out").click()
        await laptop.shows("That device is signed out.")
        await expect(laptop.ticket(PHONE)).to_have_count(0)
        await expect(laptop.ticket(LAPTOP)).to_be_visible()

        await phone.is_on("/sign-in?next=%2Fdevices&reason=revoked", "Sign in")  # nobody has touched it
        await phone.shows(SIGNED_OUT_HERE)
        await phone.fill_in(ada, PASSWORD, "Sign in")
        await phone.is_on("/devices", "My devices")
        await expect(phone.ticket(PHONE)).to_contain_text("this device")

    async def test_signing_out_everywhere_else_leaves_this_device_in(self, new_device: NewDevice, ada: str) -> None:
        laptop, phone = await two_devices(new_device, ada)
        await laptop.follow("My devices")
        await laptop.page.get_by_role("button", name="Sign out everywhere else").click()
        await laptop.shows("All your other devices are signed out.")
        await phone.is_on("/sign-in?next=%2Fnotes&reason=revoked", "Sign in")
        await laptop.is_signed_in()

    async def test_signing_out_everywhere_ends_this_device_too(self, new_device: NewDevice, ada: str) -> None:
        laptop, phone = await two_devices(new_device, ada)
        await laptop.follow("My devices")
        await laptop.page.get_by_text("Sign out everywhere", exact=True).click()
        await laptop.page.get_by_role("button", name="Yes, on this device too").click()
        await laptop.shows("You are signed out on all your devices.")
        assert await laptop.cookie() is None
        await laptop.is_signed_out()
        await phone.is_on("/sign-in?next=%2Fnotes&reason=revoked", "Sign in")
        await phone.shows(SIGNED_OUT_HERE)

    async def test_signing_out_makes_a_copied_token_worthless_too(self, new_device: NewDevice, ada: str) -> None:
        laptop, thief = await new_device(LAPTOP), await new_device(PHONE)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        token = await laptop.cookie()
        assert token is not None
        await thief.show_cookie(token)
        await thief.is_signed_in()
        await laptop.page.get_by_role("button", name="Sign out").click()
        await laptop.shows("You are signed out on this device.")
        assert await laptop.cookie() is None
        await thief.is_on("/sign-in?next=%2Fnotes&reason=revoked", "Sign in")

    async def test_a_note_that_was_being_written_is_there_after_signing_in_again_and_nobody_else_sees_it(
        self, new_device: NewDevice, ada: str
    ) -> None:
        laptop, phone = await two_devices(new_device, ada)
        await phone.runs_its_script()
        await phone.page.get_by_label("New note").fill("the umbrella is at the bar")
        await laptop.follow("My devices")
        await laptop.ticket(PHONE).get_by_role("button", name="Sign out").click()
        await phone.is_on("/sign-in?next=%2Fnotes&reason=revoked", "Sign in")
        await phone.fill_in(ada, PASSWORD, "Sign in")
        await phone.is_on("/notes", "Notes")
        await expect(phone.page.get_by_label("New note")).to_have_value("the umbrella is at the bar")

        await laptop.open("/devices")
        await laptop.ticket(PHONE).get_by_role("button", name="Sign out").click()
        await phone.is_on("/sign-in?next=%2Fnotes&reason=revoked", "Sign in")
        await phone.sign_up(f"grace.{ada}")
        await phone.is_on("/notes", "Notes")
        await phone.runs_its_script()
        await expect(phone.page.get_by_label("New note")).to_have_value("")

    async def test_without_a_script_a_note_is_saved_after_signing_in_again(
        self, new_device: NewDevice, browser: Browser, notes: AppServer, ada: str
    ) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        context = await browser.new_context(java_script_enabled=False, user_agent=USER_AGENTS[PHONE])
        phone = Device(await context.new_page(), context, notes.url)
        await phone.sign_in(ada)
        await phone.is_on("/notes", "Notes")
        await laptop.follow("My devices")
        await laptop.ticket(PHONE).get_by_role("button", name="Sign out").click()
        await laptop.shows("That device is signed out.")

        await phone.add_note("the umbrella is at the bar")
        await phone.shows_heading("Sign in")
        await phone.shows(SIGNED_OUT_HERE)
        await phone.shows("the umbrella is at the bar")
        await phone.fill_in(ada, "not my password", "Sign in")
        await phone.shows("the umbrella is at the bar")
        await phone.fill_in(ada, PASSWORD, "Sign in")
        await phone.is_on("/notes", "Notes")
        await expect(phone.note("the umbrella is at the bar")).to_have_count(1)
        await chromium.close(context)

    async def test_a_note_that_another_site_posts_is_not_kept_through_the_sign_in(
        self, new_device: NewDevice, ada: str
    ) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.context.clear_cookies()
        async with FaultyServer() as elsewhere:
            elsewhere.files["/"] = ("text/html", FORGED.replace(b"NOTES", laptop.url.encode()))
            await laptop.page.goto(elsewhere.url)
            await laptop.page.get_by_role("button", name="Win").click()
            await laptop.shows_heading("Sign in")
            await expect(laptop.page.get_by_text("written by another site")).to_have_count(0)
            await laptop.fill_in(ada, PASSWORD, "Sign in")
            await laptop.is_on("/notes", "Notes")
            await expect(laptop.note("written by another site")).to_have_count(0)

    async def test_the_sign_in_page_says_that_the_session_has_run_out(
        self, new_device: NewDevice, operator: AuthServices
    ) -> None:
        user = await operator.auth_users.create()
        manager = operator.get_token_manager(ServerSideSessionsTokenManager)
        over = await manager.server_side_sessions.create_session(
            user.id, method="email", expires_at=datetime.now(UTC) - timedelta(seconds=1)
        )
        laptop = await new_device(LAPTOP)
        await laptop.show_cookie(over.token)
        await laptop.open("/devices")
        await laptop.is_led_to_sign_in("/devices")
        await laptop.shows("Your session has run out")

    async def test_a_visitor_without_a_session_is_not_told_that_one_ended(self, new_device: NewDevice) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.is_signed_out()
        await expect(laptop.page.get_by_role("alert")).to_have_count(0)


class TestTabs:
    """The pages are rendered on the server; `static/session.js` tells the tabs of each other."""

    async def other_tabs(self, laptop: Device, count: int) -> list[Device]:
        tabs = [Device(await laptop.context.new_page(), laptop.context, laptop.url) for _ in range(count)]
        for number, tab in enumerate(tabs):
            await tab.open("/notes" if number % 2 else "/devices")
            await tab.runs_its_script()
        return tabs

    async def test_signing_out_in_one_of_five_tabs_empties_all_of_them(self, new_device: NewDevice, ada: str) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        tabs = await self.other_tabs(laptop, 4)
        await tabs[2].page.get_by_role("navigation").get_by_role("button", name="Sign out").click()
        await tabs[2].is_on("/sign-in?reason=signed-out", "Sign in")
        await tabs[2].shows("You are signed out on this device.")
        for tab, path in ((laptop, "notes"), (tabs[0], "devices"), (tabs[1], "notes"), (tabs[3], "notes")):
            await tab.is_on(f"/sign-in?next=%2F{path}&reason=elsewhere", "Sign in")
            await tab.shows("You have signed out in another tab.")

    async def test_all_tabs_of_a_device_that_is_ended_from_another_leave_at_once_and_say_why(
        self, new_device: NewDevice, ada: str
    ) -> None:
        laptop, phone = await two_devices(new_device, ada)
        tabs = await self.other_tabs(phone, 2)
        await laptop.follow("My devices")
        await laptop.ticket(PHONE).get_by_role("button", name="Sign out").click()
        for tab, path in ((phone, "notes"), (tabs[0], "devices"), (tabs[1], "notes")):
            await tab.is_on(f"/sign-in?next=%2F{path}&reason=revoked", "Sign in")
            await tab.shows(SIGNED_OUT_HERE)
        await laptop.is_signed_in()

    async def test_tabs_on_the_sign_in_page_come_back_when_another_tab_signs_in(
        self, new_device: NewDevice, ada: str
    ) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        (other,) = await self.other_tabs(laptop, 1)
        await laptop.page.get_by_role("navigation").get_by_role("button", name="Sign out").click()
        await other.is_on("/sign-in?next=%2Fdevices&reason=elsewhere", "Sign in")
        await laptop.is_on("/sign-in?reason=signed-out", "Sign in")
        await laptop.fill_in(ada, PASSWORD, "Sign in")
        await laptop.is_on("/notes", "Notes")
        await other.is_on("/devices", "My devices")

    async def test_a_sign_out_by_a_plain_form_reaches_the_other_tabs_too(self, new_device: NewDevice, ada: str) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        (other,) = await self.other_tabs(laptop, 1)
        await laptop.follow("My devices")
        await laptop.page.get_by_text("Sign out everywhere", exact=True).click()
        await laptop.page.get_by_role("button", name="Yes, on this device too").click()
        await laptop.shows("You are signed out on all your devices.")
        # By the server, to which the browser shows the cookie or no longer does, or by the tab with the form.
        await expect(other.page).to_have_url(
            re.compile(r"/sign-in\?next=%2Fdevices&reason=(revoked|elsewhere|unknown)$")
        )
        await other.shows_heading("Sign in")

    async def test_the_back_button_shows_nothing_private_after_a_sign_out(
        self, new_device: NewDevice, ada: str
    ) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.add_note("nobody else is to read this")
        await expect(laptop.note("nobody else is to read this")).to_be_visible()
        await laptop.follow("My devices")
        await laptop.page.get_by_role("navigation").get_by_role("button", name="Sign out").click()
        await laptop.is_on("/sign-in?reason=signed-out", "Sign in")
        for _ in range(2):
            await laptop.page.go_back()
            await laptop.shows_heading("Sign in")
            await expect(laptop.page.get_by_text("nobody else is to read this")).to_have_count(0)

    @pytest.mark.parametrize(
        ("columns", "reason", "words"),
        [
            ({"expires_at": LONG_AGO_US}, "expired", "Your session has run out"),
            (
                {"expire_after_unused_for_us": 1_000_000, "last_used_at": LONG_AGO_US},
                "inactive",
                "this device was not used for 14 days",
            ),
        ],
    )
    async def test_a_tab_that_comes_to_the_front_after_a_deadline_says_which_and_leads_back(
        self, new_device: NewDevice, operator_pod: Pod, ada: str, columns: dict[str, int], reason: str, words: str
    ) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        await laptop.runs_its_script()
        async with operator_pod.store.transaction() as transaction:
            await transaction.execute(update(sessions).values(**columns))
        await laptop.page.evaluate("window.dispatchEvent(new Event('online'))")
        await laptop.is_on(f"/sign-in?next=%2Fnotes&reason={reason}", "Sign in")
        await laptop.shows(words)
        await laptop.fill_in(ada, PASSWORD, "Sign in")
        await laptop.is_on("/notes", "Notes")

    async def test_signing_up_and_out_works_without_a_script(
        self, browser: Browser, notes: AppServer, ada: str
    ) -> None:
        context = await browser.new_context(java_script_enabled=False)
        laptop = Device(await context.new_page(), context, notes.url)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        await laptop.page.get_by_role("button", name="Sign out").click()
        await laptop.shows("You are signed out on this device.")
        await laptop.is_signed_out()
        await chromium.close(context)


class TestRestrictingADevice:
    async def test_a_restricted_device_cannot_write_from_its_next_click_on_until_it_is_allowed_again(
        self, new_device: NewDevice, ada: str
    ) -> None:
        laptop, phone = await two_devices(new_device, ada)
        await phone.add_note("written in time")
        await expect(phone.note("written in time")).to_be_visible()
        token = await phone.cookie()

        await laptop.follow("My devices")
        await laptop.ticket(PHONE).get_by_role("switch", name="May write").click()
        await laptop.shows("That device may only read from now on.")
        await expect(laptop.ticket(PHONE).get_by_role("switch")).not_to_be_checked()
        await expect(laptop.ticket(LAPTOP).get_by_role("switch")).to_be_checked()

        await phone.add_note("written too late")
        await phone.shows_heading("This device may not do that")
        await phone.shows("written too late")  # to copy it: nothing that was typed is lost
        await phone.follow("Notes")
        await phone.shows("This device may only read.")
        await expect(phone.note("written in time")).to_be_visible()
        await expect(phone.note("written too late")).to_have_count(0)
        await expect(phone.page.get_by_label("New note")).to_have_count(0)

        await laptop.ticket(PHONE).get_by_role("switch", name="May write").click()
        await laptop.shows("That device may write again.")
        await phone.follow("Notes")
        await phone.add_note("written again")
        await expect(phone.note("written again")).to_be_visible()
        assert await phone.cookie() == token, "nobody had to sign in again"

    async def test_a_device_that_may_only_read_cannot_let_itself_write(self, new_device: NewDevice, ada: str) -> None:
        laptop, _ = await two_devices(new_device, ada)
        await laptop.follow("My devices")
        await laptop.ticket(LAPTOP).get_by_role("switch", name="May write").click()
        await expect(laptop.ticket(LAPTOP).get_by_role("switch")).not_to_be_checked()
        await expect(laptop.ticket(LAPTOP).get_by_role("switch")).to_be_disabled()
        # Enabling the button by hand does not help.
        await laptop.ticket(LAPTOP).get_by_role("switch").evaluate("button => button.disabled = false")
        await laptop.ticket(LAPTOP).get_by_role("switch").click()
        await laptop.shows_heading("This device may not do that")


class TestSigningIn:
    async def test_a_wrong_password_and_an_unknown_e_mail_get_one_and_the_same_answer(
        self, new_device: NewDevice, ada: str
    ) -> None:
        laptop, stranger = await new_device(LAPTOP), await new_device(PHONE)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        for email in (ada, "nobody@example.org"):
            await stranger.sign_in(email, "not the password", path="/sign-in?next=/devices")
            await expect(stranger.page.get_by_role("alert")).to_have_text(
                "E-mail and password do not match an account."
            )
            await expect(stranger.page.get_by_label("E-mail")).to_have_value(email)
            await expect(stranger.page.get_by_label("Password")).to_have_value("")
            assert await stranger.cookie() is None
        await stranger.fill_in(ada.upper(), PASSWORD, "Sign in")
        await stranger.is_on("/devices", "My devices")

    async def test_a_sign_up_that_needs_changes_keeps_what_was_typed(self, new_device: NewDevice, ada: str) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.open("/sign-up?next=/devices")
        # A browser that checks nothing itself.
        await laptop.main.locator("form").evaluate("form => form.noValidate = true")
        await laptop.fill_in("ada@nowhere", "short", "Sign up")
        await laptop.shows("This does not look like an e-mail address.")
        await laptop.shows("Please take at least 10 characters.")
        await expect(laptop.page.get_by_label("E-mail")).to_have_value("ada@nowhere")
        await expect(laptop.page.get_by_label("E-mail")).to_be_focused()
        await laptop.fill_in(ada, PASSWORD, "Sign up")
        await laptop.is_on("/devices", "My devices")

    async def test_signing_in_again_ends_the_session_that_is_replaced(
        self, new_device: NewDevice, ada: str, operator: AuthServices
    ) -> None:
        laptop, thief = await new_device(LAPTOP), await new_device(PHONE)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        old = await laptop.cookie()
        assert old is not None
        await laptop.sign_in(ada)
        await laptop.is_on("/notes", "Notes")
        assert await laptop.cookie() != old
        await thief.show_cookie(old)
        await thief.is_signed_out()
        caller = await operator.token_manager.validate_token(await laptop.cookie() or "")
        assert caller is not None
        assert len(await operator.token_manager.list_tokens(auth_user_id=caller.user_identifier)) == 1

    async def test_signing_up_as_somebody_else_ends_the_session_that_is_replaced(
        self, new_device: NewDevice, ada: str
    ) -> None:
        laptop, thief = await new_device(LAPTOP), await new_device(PHONE)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        await laptop.add_note("Ada's")
        await expect(laptop.note("Ada's")).to_be_visible()
        old = await laptop.cookie()
        assert old is not None
        await laptop.sign_up(f"grace.{ada}")
        await laptop.is_on("/notes", "Notes")
        await expect(laptop.note("Ada's")).to_have_count(0)
        await thief.show_cookie(old)
        await thief.is_signed_out()

    async def test_a_cookie_somebody_planted_is_not_the_one_that_is_signed_in(
        self, new_device: NewDevice, ada: str
    ) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.show_cookie("planted")
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        assert await laptop.cookie() not in {None, "planted"}

    async def test_scripts_cannot_see_the_cookie(self, new_device: NewDevice, ada: str) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        (cookie,) = await laptop.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
        assert await laptop.page.evaluate("document.cookie") == ""

    async def test_nobody_is_led_to_another_site_after_signing_in(self, new_device: NewDevice, ada: str) -> None:
        """More of them are in tests/web/test_redirects.py; here a browser follows."""
        laptop = await new_device(LAPTOP)
        seen: list[str] = []
        laptop.page.on("request", lambda request: seen.append(request.url))
        await laptop.open("/sign-up?next=//evil.example/")
        await laptop.fill_in(ada, PASSWORD, "Sign up")
        await laptop.is_on("/notes", "Notes")
        for wanted in ("https://evil.example/", r"/\evil.example/", "/\t/evil.example/"):
            await laptop.open(f"/sign-in?next={quote(wanted)}")
            # By a form that somebody tampered with as well.
            await laptop.main.locator("[name=next]").evaluate("(field, wanted) => field.value = wanted", wanted)
            await laptop.fill_in(ada, PASSWORD, "Sign in")
            await laptop.is_on("/notes", "Notes")
        assert {urlsplit(url).netloc for url in seen} == {urlsplit(laptop.url).netloc}


class TestNotes:
    async def test_a_note_is_added_and_deleted(self, new_device: NewDevice, ada: str) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.shows("Nothing hangs here yet.")
        await laptop.add_note("first line\n<b>second line</b>")
        await expect(laptop.note("first line")).to_contain_text("<b>second line</b>")
        await laptop.note("first line").get_by_text("Delete", exact=True).click()
        await laptop.page.get_by_role("button", name="Delete for good").click()
        await laptop.shows("Nothing hangs here yet.")

    async def test_older_notes_are_on_the_next_page(self, new_device: NewDevice, ada: str) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        for number in range(21):
            await laptop.context.request.post(laptop.url + "/api/notes", data={"text": f"note number {number}."})
        await laptop.open("/notes")
        await expect(laptop.note("note number 20.")).to_be_visible()
        await expect(laptop.note("note number 0.")).to_have_count(0)
        await laptop.page.get_by_role("link", name="Older notes").click()
        await expect(laptop.note("note number 0.")).to_be_visible()

    async def test_a_missing_page_has_a_link_back(self, new_device: NewDevice, ada: str) -> None:
        laptop = await new_device(LAPTOP)
        await laptop.sign_up(ada)
        await laptop.is_on("/notes", "Notes")
        await laptop.open("/notes?before=no-number")
        await laptop.shows_heading("There is nothing on this hook")
        await laptop.page.get_by_role("link", name="Back to my notes").click()
        await laptop.is_on("/notes", "Notes")


async def test_a_restart_of_the_server_signs_nobody_out_and_later_endings_are_heard(
    browser: Browser, tmp_path: Path, ada: str
) -> None:
    server = notes_server(f"sqlite:///{tmp_path / 'notes.db'}")
    with no_errors_in(server):
        async with devices(browser, server.url) as new_device:
            laptop, phone = await two_devices(new_device, ada)
            for device in (laptop, phone):
                await device.runs_its_script()
            await asyncio.to_thread(server.stop)  # which fails where the server waits for its streams
            await asyncio.to_thread(server.start)
            await laptop.follow("My devices")
            for device, path in ((laptop, "/devices"), (phone, "/notes")):
                assert device.page.url == server.url + path
            await laptop.ticket(PHONE).get_by_role("button", name="Sign out").click()
            await expect(phone.page).to_have_url(f"{server.url}/sign-in?next=%2Fnotes&reason=revoked")


@pytest.mark.postgres
async def test_an_outage_signs_nobody_out(browser: Browser, postgres_dsn: str, ada: str) -> None:
    port = urlsplit(postgres_dsn).port
    assert port is not None
    async with Proxy(port) as proxy:
        server = notes_server(postgres_dsn.replace(f":{port}/", f":{proxy.port}/"))
        # Not in this thread, which the proxy needs.
        running = no_errors_in(server)
        await asyncio.to_thread(running.__enter__)
        try:
            async with devices(browser, server.url) as new_device:
                laptop, phone = await two_devices(new_device, ada)
                await phone.runs_its_script()
                cookie = await laptop.cookie()

                await proxy.cut()
                await laptop.add_note("written during the outage")
                await laptop.shows_heading("The cloakroom is closed for a moment")
                await laptop.shows("You have not been signed out")
                answer = await laptop.page.goto(laptop.url + "/devices")
                assert answer is not None
                assert answer.status == 503
                assert int(answer.headers["retry-after"]) > 0
                await expect(laptop.page.get_by_role("navigation")).to_have_count(0)  # it cannot say who is signed in
                assert await laptop.cookie() == cookie

                await proxy.heal()
                await laptop.page.get_by_role("link", name="Try again").click()
                await laptop.is_on("/devices", "My devices")
                assert await laptop.cookie() == cookie
                await phone.is_on("/notes", "Notes")  # where it has listened all along
                await laptop.ticket(PHONE).get_by_role("button", name="Sign out").click()
                await expect(phone.page).to_have_url(f"{server.url}/sign-in?next=%2Fnotes&reason=revoked")
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.mark.postgres
async def test_the_outage_does_not_hide_that_the_session_was_ended_meanwhile(
    browser: Browser, postgres_dsn: str, ada: str
) -> None:
    port = urlsplit(postgres_dsn).port
    assert port is not None
    pod, auth = pod_beside(postgres_dsn)
    async with Proxy(port) as proxy, pod:
        server = notes_server(postgres_dsn.replace(f":{port}/", f":{proxy.port}/"))
        await asyncio.to_thread(server.__enter__)
        try:
            async with devices(browser, server.url) as new_device:
                laptop = await new_device(LAPTOP)
                await laptop.sign_up(ada)
                await laptop.is_on("/notes", "Notes")
                await proxy.cut()
                await laptop.open("/notes")
                await laptop.shows_heading("The cloakroom is closed for a moment")
                (user,) = await auth.auth_users.list()
                await auth.token_manager.revoke_all_tokens(auth_user_id=user.id)
                await proxy.heal()
                await laptop.is_signed_out()
                await laptop.shows(SIGNED_OUT_HERE)
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)
