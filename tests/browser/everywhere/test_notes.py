"""The notes example, in each browser."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.browser.everywhere.people import (
    program_of_notes,
    runs_its_script,
    sign_in_to_notes,
    sign_up_to_notes,
)
from tests.examples.notes_server import NOTES, PASSWORD, PEPPER, no_errors_in
from tests.servers.app import AppServer
from tests.web.http.test_redirects import NO_PATHS_OF_THIS_SITE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.everywhere.conftest import NewBrowser
    from tests.servers.origin import Origin
    from tests.servers.webdriver.driver import Driver


SEND_THE_FORM = """
    const form = document.querySelector("main form");
    for (const [name, value] of Object.entries(arguments[0])) form.elements[name].value = value;
    setTimeout(() => form.requestSubmit());
"""
SEND_A_FORM = """
    const form = document.body.appendChild(document.createElement("form"));
    Object.assign(form, { method: "post", action: arguments[0] });
    for (const [name, value] of Object.entries(arguments[1])) {
        form.append(Object.assign(document.createElement("input"), { name, value }));
    }
    setTimeout(() => form.submit());
"""


@pytest.fixture(scope="module")
def notes(store_url: str) -> Iterator[AppServer]:
    """The example, with a log of its requests."""
    env = {**PEPPER, "COATCHECK_STORE": store_url}
    options = ["--factory", "--app-dir", str(NOTES), "--log-level", "info"]
    with no_errors_in(AppServer.uvicorn("app:create_app", *options, env=env)) as server:
        yield server


@pytest.fixture
def url(notes: AppServer) -> str:
    return notes.url


def shows(device: Driver, heading: str) -> None:
    device.until(lambda: device.text("h1") == heading, f"the page has the heading {heading!r}")


class TestTheEndOfASession:
    def tabs(self, device: Driver, url: str) -> list[str]:
        """The tab that is there and two more, on both pages, each with its script under way."""
        handles = [device.tab]
        for path in ("/devices", "/notes"):
            handles.append(device.new_tab())
            device.go(url + path)
            runs_its_script(device)
        return handles

    def test_every_tab_of_a_device_that_is_ended_on_another_leaves_by_itself_and_says_why(
        self, new_browser: NewBrowser, notes: AppServer, ada: str
    ) -> None:
        phone, laptop = new_browser(), new_browser()
        sign_up_to_notes(phone, notes.url, ada)
        tabs = self.tabs(phone, notes.url)
        sign_in_to_notes(laptop, notes.url, ada)
        laptop.go(f"{notes.url}/devices")
        with self.leaving(phone, notes, "revoked", notes_tabs=2, devices_tabs=1):
            laptop.click(".ticket:not(.mine) .danger")
        for tab in tabs:
            phone.show(tab)
            shows(phone, "Sign in")
            assert "This device was signed out" in phone.text("main")
        laptop.go(f"{notes.url}/notes")
        shows(laptop, "Notes")

    def test_a_sign_out_in_one_tab_empties_the_others_and_leaves_no_session(
        self, device: Driver, notes: AppServer, ada: str
    ) -> None:
        sign_up_to_notes(device, notes.url, ada)
        tabs = self.tabs(device, notes.url)
        with self.leaving(device, notes, "elsewhere", notes_tabs=1, devices_tabs=1):
            device.click("nav button")
        for tab in tabs:
            device.show(tab)
            shows(device, "Sign in")
        assert device.cookies() == []
        assert program_of_notes(notes.url, ada).sessions() == []

    @contextmanager
    def leaving(
        self, device: Driver, notes: AppServer, reason: str, *, notes_tabs: int, devices_tabs: int
    ) -> Iterator[None]:
        """Wait until so many tabs have left by themselves, by the log: one that is brought to the front would ask."""
        wanted = [f"GET /sign-in?next=%2F{page}&reason={reason} " for page in ("notes", "devices")]
        before = len(notes.output)
        yield
        counts = [notes_tabs, devices_tabs]
        device.until(lambda: [notes.output[before:].count(request) for request in wanted] == counts, "the tabs leave")

    def test_the_back_button_shows_nothing_private_after_a_sign_out(self, device: Driver, url: str, ada: str) -> None:
        sign_up_to_notes(device, url, ada)
        device.fill("#text", "nobody else is to read this")
        device.click(".compose button")
        device.until(lambda: "nobody else" in device.text(".hooks"), "the note is there")
        device.click("nav a[href='/devices']")
        shows(device, "My devices")
        device.click("nav button")
        device.until(lambda: device.url == f"{url}/sign-in?reason=signed-out", "the page leaves")
        for _ in range(3):
            device.back()
            device.until(lambda: device.run("return !('private' in document.body.dataset)"), "no private page stays")
            assert "nobody else" not in device.text("body")


class TestSigningIn:
    def test_nobody_is_led_to_another_site(self, device: Driver, url: str, ada: str) -> None:
        sign_up_to_notes(device, url, ada)
        for wanted in NO_PATHS_OF_THIS_SITE:
            device.go(f"{url}/sign-in?next={quote(wanted)}")
            shows(device, "Sign in")
            assert device.run("return document.querySelector('main form').elements.next.value") == "/notes"
            # By a form that somebody tampered with as well.
            device.run(SEND_THE_FORM, {"email": ada, "password": PASSWORD, "next": wanted})
            device.until(lambda: device.url == f"{url}/notes", f"{wanted!r} leads to the notes")

    def test_another_site_cannot_sign_the_browser_in(self, device: Driver, url: str, ada: str, evil: Origin) -> None:
        """Login CSRF: the person would write into the attacker's account."""
        eve = f"eve.{ada}"
        sign_up_to_notes(device, url, eve)
        device.click("nav button")
        device.until(lambda: device.url == f"{url}/sign-in?reason=signed-out", "the page leaves")
        for place in ("127.0.0.1", "localhost"):
            device.go(f"http://{place}:{evil.port}/")
            device.run(SEND_A_FORM, f"{url}/sign-in", {"email": eve, "password": PASSWORD})
            device.until(lambda: device.url == f"{url}/sign-in", "the form was sent")
            assert device.cookies() == []
        assert program_of_notes(url, eve).sessions() == []
