"""Firefox, WebKit (GTK's MiniBrowser) and Chromium from the machine's packages, each with an empty profile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.process_ends import has_ended
from tests.servers.ports import free_port
from tests.servers.programs import wait_for_end
from tests.servers.webdriver.driver import Driver
from tests.servers.webdriver.marionette import MarionetteWire
from tests.servers.webdriver.over_http import HttpWire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Preferences = Mapping[str, bool | int | str]

_PROGRAMS = {
    "firefox": ("firefox-esr",),
    "webkit": ("WebKitWebDriver", "Xvfb"),
    "chromium": ("chromedriver",),
}


def missing(kind: str) -> str | None:
    """Why no browser of this kind can be started here, or None."""
    lacks = [program for program in _PROGRAMS[kind] if shutil.which(program) is None]
    return f"{' and '.join(lacks)}: not installed" if lacks else None


# Tests talk to loopback and to nothing else.
_QUIET_FIREFOX: Preferences = {
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


@contextmanager
def firefox(preferences: Preferences | None = None) -> Iterator[Driver]:
    with _home() as home:
        port = free_port()
        profile = home / "profile"
        profile.mkdir()
        settings = {**_QUIET_FIREFOX, "marionette.port": port, **(preferences or {})}
        (profile / "user.js").write_text(
            "".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in settings.items())
        )
        command = ["firefox-esr", "--marionette", "--headless", "--no-remote", "--profile", str(profile)]
        with _running(command, home):
            wire = MarionetteWire(port, {"acceptInsecureCerts": True})
            try:
                yield Driver("firefox", wire)
            finally:
                wire.close()


@contextmanager
def webkit() -> Iterator[Driver]:
    with _home() as home, _display(home) as display:
        port = free_port()
        env = {"DISPLAY": display, "GDK_BACKEND": "x11", "NO_AT_BRIDGE": "1", "GTK_A11Y": "none"}
        with _running(["WebKitWebDriver", f"--port={port}"], home, env):
            wire = HttpWire(port, {"acceptInsecureCerts": True})
            try:
                yield Driver("webkit", wire)
            finally:
                wire.close()


@contextmanager
def chromium() -> Iterator[Driver]:
    with _home() as home:
        port = free_port()
        arguments = ["--headless=new", "--disable-gpu", f"--user-data-dir={home / 'profile'}"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        with _running(["chromedriver", f"--port={port}"], home):
            wire = HttpWire(port, {"acceptInsecureCerts": True, "goog:chromeOptions": {"args": arguments}})
            try:
                yield Driver("chromium", wire)
            finally:
                wire.close()


STARTS = {"firefox": firefox, "webkit": webkit, "chromium": chromium}


@contextmanager
def _home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="coatcheck-browser-") as home:
        yield Path(home)


@contextmanager
def _display(home: Path) -> Iterator[str]:
    """A screen for a browser that has no headless mode. The server picks a number that is free."""
    read, write = os.pipe()
    try:
        command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1400x1000x24", "-nolisten", "tcp"]
        with _running(command, home, pass_fds=(write,)):
            os.close(write)
            with os.fdopen(read, closefd=False) as number:
                yield f":{number.readline().strip()}"
    finally:
        os.close(read)


@contextmanager
def _running(
    command: Sequence[str], home: Path, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> Iterator[None]:
    """Run a program, and end it with all that it has started."""
    with (home / "output").open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "HOME": str(home), "TMPDIR": str(home), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            wait_for_end(process)
        finally:
            _end_what_is_left(process.pid, home)


def _end_what_is_left(session: int, home: Path) -> None:
    """End what a program that has ended has left running, so that nothing writes into its home any more."""
    while left := [process for process in _processes() if _is_of(process, session, home)]:
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for process in left:
            assert has_ended(process)


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _is_of(process: int, session: int, home: Path) -> bool:
    """Whether it runs in this session, or with this home: crash reporters make themselves sessions of their own."""
    try:
        # What follows the command's name, which may contain anything: state, parent, group, session.
        state, _, _, its_session = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()[:4]
        environ = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or it is another user's
        return False
    return state not in "ZX" and (int(its_session) == session or f"HOME={home}".encode() in environ)
