"""The session's cookie: no script sees it, and a sign-out takes it away."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import trustme

from tests.browser.everywhere.people import program_of_spa, sign_in_to_spa
from tests.examples.notes_server import PEPPER, no_errors_in
from tests.servers.app import AppServer
from tests.servers.webdriver.browsers import STARTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.webdriver.driver import Driver


def sign_out(device: Driver, url: str) -> None:
    device.click("#out")
    device.until(lambda: device.url == f"{url}/cookie/sign-in?reason=signed-out", "the page leaves")


def everything_scripts_see(device: Driver) -> str:
    seen: str = device.run("return document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })")
    return seen


def test_on_localhost_no_script_sees_the_cookie_and_a_sign_out_takes_it_away(device: Driver, spa: AppServer) -> None:
    ada = f"ada{uuid4().hex}"
    sign_in_to_spa(device, spa.url, ada)
    (cookie,) = device.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["path"]) == ("coatcheck", True, "/")
    assert cookie["value"] not in everything_scripts_see(device)
    assert device.run("return document.cookie") == ""
    sign_out(device, spa.url)
    assert device.cookies() == []
    assert program_of_spa(spa.url, ada).sessions() == []


def test_over_https_the_cookie_is_bound_to_this_host_and_a_sign_out_takes_it_away(
    kind: str, store_url: str, tmp_path: Path
) -> None:
    """ASVS 3.3.1-3.3.4, with the browser's own checks of the `__Host-` prefix."""
    certificate = tmp_path / "certificate.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    env = {**PEPPER, "COATCHECK_STORE": store_url}
    options = ("--factory", "--log-level", "warning")
    server = AppServer.uvicorn("tests.browser.spa:create_app", *options, env=env, certificate=certificate)
    ada = f"ada{uuid4().hex}"
    # The server waits for the end of each TLS connection, so the browser goes first.
    with no_errors_in(server), STARTS[kind]() as device:
        sign_in_to_spa(device, server.url, ada)
        (cookie,) = device.cookies()
        assert (cookie["name"], cookie["secure"], cookie["httpOnly"]) == ("__Host-coatcheck", True, True)
        assert (cookie["path"], cookie["domain"], cookie["sameSite"]) == ("/", "127.0.0.1", "Lax")
        assert cookie["value"] not in everything_scripts_see(device)
        sign_out(device, server.url)
        assert device.cookies() == []
        assert program_of_spa(server.url, ada).sessions() == []


@pytest.mark.parametrize("mode", ["cookie", "header"])
def test_the_back_button_shows_nothing_private_after_a_sign_out(device: Driver, spa: AppServer, mode: str) -> None:
    sign_in_to_spa(device, spa.url, f"ada{uuid4().hex}", mode)
    device.go(f"{spa.url}/{mode}/app?second")
    device.until(lambda: device.text("#secret"), "the page shows what is private")
    device.click("#out")
    sign_in_page = f"{spa.url}/{mode}/sign-in"
    device.until(lambda: device.url == f"{sign_in_page}?reason=signed-out", "the page leaves")
    device.back()
    device.until(lambda: device.url.startswith(f"{sign_in_page}?next="), "the page before leaves too")
    assert "the secret of" not in device.text("body")
