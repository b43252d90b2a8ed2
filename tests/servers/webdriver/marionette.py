"""WebDriver as Firefox speaks it itself: https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html.

Over HTTP, Mozilla's geckodriver would translate; Debian does not have it.
"""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

from tests.servers.webdriver.driver import WebDriverError

_START_SECONDS = 60
_COMMANDS = {
    "POST timeouts": "SetTimeouts",
    "GET url": "GetCurrentURL",
    "POST url": "Navigate",
    "POST back": "Back",
    "POST execute/async": "ExecuteAsyncScript",
    "POST element": "FindElement",
    "POST element/click": "ElementClick",
    "POST element/clear": "ElementClear",
    "POST element/value": "ElementSendKeys",
    "GET element/text": "GetElementText",
    "GET window": "GetWindowHandle",
    "POST window": "SwitchToWindow",
    "POST window/new": "NewWindow",
    "POST window/rect": "SetWindowRect",
    "GET cookie": "GetCookies",
    "GET screenshot": "TakeScreenshot",
}
_OF_AN_ELEMENT = re.compile(r"(element/)(.+)/(\w+)")


class MarionetteWire:
    """A session with the Firefox that listens on this port of loopback."""

    def __init__(self, port: int, capabilities: dict[str, Any]) -> None:
        self._socket = _connect(port)
        self._unread = b""
        self._last_id = 0
        self._receive()  # its greeting
        self._ask("NewSession", capabilities)

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        parameters = dict(body or {})
        if of_element := _OF_AN_ELEMENT.fullmatch(path):
            path = of_element[1] + of_element[3]
            parameters["id"] = of_element[2]
        if path == "screenshot":
            parameters["full"] = False
        if path == "execute/async":
            parameters["sandbox"] = None  # in the page itself, as the standard has it
        answer = self._ask(_COMMANDS[f"{method} {path}"], parameters)
        return answer["value"] if isinstance(answer, dict) and answer.keys() == {"value"} else answer

    def close(self) -> None:
        self._socket.close()

    def _ask(self, command: str, parameters: dict[str, Any]) -> Any:
        self._last_id += 1
        message = json.dumps([0, self._last_id, f"WebDriver:{command}", parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, number, error, result = self._receive()
        assert number == self._last_id
        if error:
            raise WebDriverError(error["error"], error["message"])
        return result

    def _receive(self) -> Any:
        """One message: its length in decimal, a colon, and so many bytes of JSON."""
        while b":" not in self._unread:
            self._read()
        length, _, self._unread = self._unread.partition(b":")
        while len(self._unread) < int(length):
            self._read()
        message, self._unread = self._unread[: int(length)], self._unread[int(length) :]
        return json.loads(message)

    def _read(self) -> None:
        read = self._socket.recv(65536)
        if not read:
            raise ConnectionError("Firefox has closed the connection")
        self._unread += read


def _connect(port: int) -> socket.socket:
    give_up = time.monotonic() + _START_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except OSError:
            if time.monotonic() > give_up:
                raise
        time.sleep(0.05)
