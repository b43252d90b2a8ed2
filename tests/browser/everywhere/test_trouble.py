"""Pages that begin in trouble: the server cannot say who is signed in, or the browser keeps nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.browser.everywhere.conftest import KINDS
from tests.browser.everywhere.people import program_of_spa, request, shows_the_secret, sign_in_to_spa

if TYPE_CHECKING:
    from tests.browser.everywhere.conftest import NewBrowser
    from tests.servers.app import AppServer
    from tests.servers.webdriver.driver import Driver


def test_a_page_that_began_in_an_outage_leaves_by_itself_when_its_session_ends(device: Driver, spa: AppServer) -> None:
    ada = f"ada{uuid4().hex}"
    sign_in_to_spa(device, spa.url, ada)
    request("POST", f"{spa.url}/reads/down")
    try:
        device.go(f"{spa.url}/cookie/app")
        shows_the_secret(device)  # its script has met the outage before
    finally:
        request("POST", f"{spa.url}/reads/up")
    program_of_spa(spa.url, ada).end_the_others()
    device.until(lambda: device.url.startswith(f"{spa.url}/cookie/sign-in?"), "the page leaves")


@pytest.mark.parametrize("kind", [KINDS[0]], indirect=True)
def test_a_browser_that_keeps_no_cookies_is_a_strangers_and_no_error(new_browser: NewBrowser, spa: AppServer) -> None:
    device = new_browser({"network.cookie.cookieBehavior": 2})
    device.go(f"{spa.url}/cookie/sign-in")
    device.until(lambda: device.run("return 'session' in window"), "the page has made its client")
    assert device.run("return (await session.ready) || session.state.signedIn") is False
