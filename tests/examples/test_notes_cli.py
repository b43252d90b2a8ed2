"""Notes at the command line, as its user runs it, against the example's server."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from coatcheck.client import FileStorage
from tests.examples.notes_server import NOTES, PASSWORD, no_errors_in, notes_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coatcheck import AuthServices
    from tests.servers.app import AppServer

PROGRAM = NOTES.parent / "notes_cli" / "notes_cli.py"


class Terminal:
    """Runs the program with a home of its own, and keeps what it printed."""

    def __init__(self, server: AppServer, home: Path, email: str) -> None:
        self.server = server
        self.home = home
        self.email = email
        self.printed = ""

    def __call__(self, *arguments: str, password: str = PASSWORD, status: int = 0) -> str:
        environment = {
            **os.environ,
            "NOTES_SERVER": self.server.url,
            "NOTES_HOME": str(self.home),
            "NOTES_PASSWORD": password,
            "COLUMNS": "200",
        }
        command = [sys.executable, str(PROGRAM), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == status, done.stdout + done.stderr
        self.printed += done.stdout + done.stderr
        return done.stdout + done.stderr

    def sign_in(self) -> None:
        assert self("sign-in", "--email", self.email) == "Signed in.\n"

    @property
    def storage(self) -> FileStorage:
        return FileStorage(self.home / f"127.0.0.1_{self.server.port}.json")


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The clients do not depend on the server's database."""
    return f"sqlite:///{tmp_path_factory.mktemp('notes') / 'notes.db'}"


@pytest.fixture
def terminal(notes: AppServer, tmp_path: Path, ada: str) -> Iterator[Terminal]:
    """Ada, who has signed up in a browser, at a terminal."""
    assert httpx.post(f"{notes.url}/sign-up", data={"email": ada, "password": PASSWORD}).status_code == 303
    terminal = Terminal(notes, tmp_path / "home", ada)
    yield terminal
    assert "c2Fz" not in terminal.printed
    assert PASSWORD not in terminal.printed


def test_notes_are_written_and_listed_with_a_token_nobody_sees(terminal: Terminal) -> None:
    assert "You are not signed in." in terminal("list", status=1)
    terminal.sign_in()
    assert "is kept." in terminal("add", "the umbrella is [b]at the bar[/b]")
    assert "the umbrella is [b]at the bar[/b]" in terminal("list")
    assert "You are signed in" in terminal("status")
    files = list(terminal.home.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    kept = terminal.storage.read()
    assert kept is not None
    assert kept.token.startswith("c2Fz")


def test_the_program_is_in_the_list_of_devices_under_its_own_name(terminal: Terminal) -> None:
    terminal.sign_in()
    assert "notes-cli on " in terminal("devices")
    assert "(this one)" in terminal("devices")


def test_a_wrong_password_is_reported_and_signs_nobody_out(terminal: Terminal) -> None:
    terminal.sign_in()
    refused = terminal("sign-in", "--email", terminal.email, password="not the password", status=1)
    assert "E-mail and password match no account." in refused
    terminal("list")


def test_signing_in_again_replaces_the_session(terminal: Terminal) -> None:
    terminal.sign_in()
    first = terminal.storage.read()
    terminal.sign_in()
    assert terminal.storage.read() != first
    assert terminal("devices").count("notes-cli on ") == 1


async def test_the_program_is_signed_out_by_another_device_and_says_so(
    terminal: Terminal, operator: AuthServices
) -> None:
    terminal.sign_in()
    kept = terminal.storage.read()
    assert kept is not None
    await operator.token_manager.revoke_all_tokens(auth_user_id=kept.auth_user_id)
    told = terminal("list", status=1)
    assert "This program was signed out from another of your devices." in told
    assert terminal.storage.read() is None
    assert "You are not signed in." in terminal("status")


async def test_signing_out_everywhere_ends_every_session(terminal: Terminal, operator: AuthServices) -> None:
    terminal.sign_in()
    kept = terminal.storage.read()
    assert kept is not None
    assert terminal("sign-out", "--everywhere") == "Signed out on all your devices.\n"
    assert list(await operator.token_manager.list_tokens(auth_user_id=kept.auth_user_id)) == []
    assert terminal("sign-out") == "You are not signed in.\n"


def test_a_server_that_is_down_signs_nobody_out(tmp_path: Path, ada: str) -> None:
    server = notes_server(f"sqlite:///{tmp_path / 'notes.db'}")
    with no_errors_in(server):
        httpx.post(f"{server.url}/sign-up", data={"email": ada, "password": PASSWORD})
        terminal = Terminal(server, tmp_path / "home", ada)
        terminal.sign_in()
        server.stop()
        assert "cannot be reached. You stay signed in" in terminal("list", status=1)
        assert "cannot be asked right now" in terminal("status", status=1)
        server.start()
        assert terminal("list") == "Nothing hangs here yet.\n"
        server.stop()
        assert "the session lives on there" in terminal("sign-out", status=1)
        assert terminal.storage.read() is None
        server.start()


def test_the_keyring_is_used_if_it_is_chosen(terminal: Terminal) -> None:
    """On a system without a keyring the program says what to do; it does not silently use a file."""
    refused = terminal("--keep", "keyring", "list", status=1)
    assert "use FileStorage instead" in refused or "You are not signed in." in refused
