"""What a person does, in either application, in a browser and with a program that is another of their devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from tests.examples.notes_server import PASSWORD

if TYPE_CHECKING:
    from tests.servers.webdriver.driver import Driver


@dataclass(frozen=True)
class Program:
    """A program that is signed in: it says which sessions there are, and ends others."""

    routes: str
    token: str = field(repr=False)

    def sessions(self) -> list[dict[str, Any]]:
        """The sessions of this person, without the program's own."""
        sessions = self._ask("GET", "/sessions").json()["sessions"]
        return [session for session in sessions if not session["current"]]

    def end_the_others(self) -> None:
        for session in self.sessions():
            self._ask("DELETE", f"/sessions/{session['id']}")

    def _ask(self, method: str, path: str) -> httpx.Response:
        return request(method, self.routes + path, headers={"authorization": f"Bearer {self.token}"})


def request(method: str, url: str, **options: Any) -> httpx.Response:
    """What a server on loopback answers; it may show a certificate that was made for the test."""
    return httpx.request(method, url, trust_env=False, verify=False, **options).raise_for_status()  # noqa: S501


def program_of_spa(url: str, user: str) -> Program:
    return Program(f"{url}/session", request("POST", f"{url}/api/sign-in", params={"user": user}).json()["token"])


def program_of_notes(url: str, email: str) -> Program:
    credentials = {"email": email, "password": PASSWORD}
    return Program(f"{url}/api/session", request("POST", f"{url}/api/sign-in", json=credentials).json()["token"])


def sign_in_to_spa(device: Driver, url: str, user: str, mode: str = "cookie") -> None:
    """Sign in, and see the page with what is private."""
    device.go(f"{url}/{mode}/sign-in")
    device.fill("#user", user)
    device.click("#in")
    shows_the_secret(device)


def shows_the_secret(device: Driver) -> None:
    device.until(lambda: device.text("#secret").startswith("the secret of"), "the page shows what is private")


def sign_up_to_notes(device: Driver, url: str, email: str) -> None:
    device.go(f"{url}/sign-up")
    fill_in(device, email)
    device.until(lambda: device.url == f"{url}/notes", "signing up leads to the notes")


def sign_in_to_notes(device: Driver, url: str, email: str) -> None:
    device.go(f"{url}/sign-in")
    fill_in(device, email)
    device.until(lambda: device.url == f"{url}/notes", "signing in leads to the notes")


def fill_in(device: Driver, email: str) -> None:
    device.fill("#email", email)
    device.fill("#password", PASSWORD)
    device.click("main .button.full")


def runs_its_script(device: Driver) -> None:
    """Wait until the page's script knows who is signed in."""
    device.until(lambda: device.run("return localStorage.length > 0"), "the page knows that it is signed in")
