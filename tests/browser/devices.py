"""A person's devices: browsers with cookies of their own, and the actions on them."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.examples.notes_server import COOKIE, PASSWORD
from tests.servers import chromium

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from playwright.async_api import Browser, BrowserContext, Locator, Page

    NewDevice = Callable[[str], Awaitable["Device"]]

USER_AGENTS = {
    "Firefox on macOS": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:130.0) Gecko/20100101 Firefox/130.0",
    "Safari on iOS": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1",
}
LAPTOP, PHONE = USER_AGENTS


class Device:
    """One browser. Actions are those of a person: buttons and fields are found by their labels."""

    def __init__(self, page: Page, context: BrowserContext, url: str) -> None:
        self.page = page
        self.context = context
        self.url = url

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def sign_up(self, email: str, password: str = PASSWORD) -> None:
        await self.open("/sign-up")
        await self.fill_in(email, password, "Sign up")

    async def sign_in(self, email: str, password: str = PASSWORD, *, path: str = "/sign-in") -> None:
        await self.open(path)
        await self.fill_in(email, password, "Sign in")

    async def fill_in(self, email: str, password: str, button: str) -> None:
        await self.page.get_by_label("E-mail").fill(email)
        await self.page.get_by_label("Password").fill(password)
        await self.main.get_by_role("button", name=button).click()

    async def runs_its_script(self) -> None:
        """Wait until the page's script knows who is signed in, without the `eval` that the pages do not allow."""
        look = "() => (localStorage.length > 0 ? done() : setTimeout(look, 10))"
        await self.page.evaluate(f"new Promise((done) => {{ const look = {look}; look(); }})")

    async def add_note(self, text: str) -> None:
        await self.page.get_by_label("New note").fill(text)
        await self.page.get_by_role("button", name="Add note").click()

    async def follow(self, link: str) -> None:
        """Click a link in the navigation."""
        await self.page.get_by_role("navigation").get_by_role("link", name=link).click()

    @property
    def main(self) -> Locator:
        return self.page.get_by_role("main")

    def ticket(self, label: str) -> Locator:
        """A device in the list of devices."""
        return self.page.get_by_role("list", name="My devices").get_by_role("listitem").filter(has_text=label)

    def note(self, text: str) -> Locator:
        return self.page.get_by_role("list", name="My notes").get_by_role("listitem").filter(has_text=text)

    async def is_on(self, path: str, heading: str) -> None:
        """Check the page that the device shows."""
        await expect(self.page).to_have_url(self.url + path)
        await self.shows_heading(heading)

    async def shows_heading(self, text: str) -> None:
        await expect(self.page.get_by_role("heading", level=1)).to_have_text(text)

    async def shows(self, text: str) -> None:
        await expect(self.main.get_by_text(text)).to_be_visible()

    async def is_signed_in(self) -> None:
        """Check with the server that the device is signed in."""
        await self.open("/notes")
        await self.is_on("/notes", "Notes")

    async def is_signed_out(self) -> None:
        await self.open("/notes")
        await self.is_led_to_sign_in("/notes")

    async def is_led_to_sign_in(self, back_to: str) -> None:
        """Check that it is on the sign-in page, which leads back to `back_to`."""
        address = f"{self.url}/sign-in?next={back_to}"
        await expect(self.page).to_have_url(re.compile(re.escape(address) + "(&reason=[a-z-]+)?$"))
        await self.shows_heading("Sign in")

    async def cookie(self) -> str | None:
        cookies = await self.context.cookies()
        return next((cookie["value"] for cookie in cookies if cookie["name"] == COOKIE), None)

    async def show_cookie(self, token: str) -> None:
        await self.context.add_cookies([{"name": COOKIE, "value": token, "url": self.url}])


@asynccontextmanager
async def devices(browser: Browser, url: str) -> AsyncIterator[NewDevice]:
    """Makes devices that are closed afterwards."""
    contexts: list[BrowserContext] = []

    async def make(label: str) -> Device:
        context = await browser.new_context(user_agent=USER_AGENTS[label])
        contexts.append(context)
        return Device(await context.new_page(), context, url)

    try:
        yield make
    finally:
        for context in contexts:
            await chromium.close(context)
