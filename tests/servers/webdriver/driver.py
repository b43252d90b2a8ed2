"""What a test does with a browser, in the words of the WebDriver standard: https://www.w3.org/TR/webdriver2/."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the standard's name for a reference to an element
_PATIENCE_SECONDS = 30


class Wire(Protocol):
    """The way to one browser."""

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send one command of the standard; `path` is what follows /session/ID/.

        Raises:
            WebDriverError: the browser cannot do it.
        """


class WebDriverError(Exception):
    """A browser did not carry out a command. `code` is the standard's word for why, as "no such element"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Driver:
    """One browser with a profile of its own. Every command is for the tab that is in front."""

    def __init__(self, kind: str, wire: Wire) -> None:
        self.kind = kind
        self._send = wire
        self._send("POST", "timeouts", {"script": 30_000, "pageLoad": 30_000, "implicit": 0})

    @property
    def url(self) -> str:
        url: str = self._send("GET", "url")
        return url

    def go(self, url: str) -> None:
        """Open a page in this tab, and wait until it has loaded."""
        self._send("POST", "url", {"url": url})

    def back(self) -> None:
        self._send("POST", "back", {})

    def run(self, script: str, *arguments: object) -> Any:
        """What a function of this body returns in the page, where the arguments are `arguments[0]`, ...

        It may be asynchronous: `await` is allowed in it.
        """
        # Not every browser waits for a promise that execute/sync returns.
        asynchronous = f"""
            const done = arguments[arguments.length - 1];
            (async (...arguments_) => {{ {script.replace("arguments[", "arguments_[")} }})(...arguments).then(
                (value) => done({{ value }}), (error) => done({{ error: String(error) }})
            );
        """
        answer = self._send("POST", "execute/async", {"script": asynchronous, "args": list(arguments)})
        if "error" in answer:
            raise WebDriverError("javascript error", answer["error"])
        return answer.get("value")

    def text(self, css: str) -> str:
        """What a person reads in this element."""
        text: str = self._send("GET", f"element/{self._find(css)}/text")
        return text

    def click(self, css: str) -> None:
        self._send("POST", f"element/{self._find(css)}/click", {})

    def fill(self, css: str, text: str) -> None:
        """Type into a field, in place of what it contains."""
        element = self._find(css)
        self._send("POST", f"element/{element}/clear", {})
        self._send("POST", f"element/{element}/value", {"text": text})

    def _find(self, css: str) -> str:
        found: dict[str, str] = self._send("POST", "element", {"using": "css selector", "value": css})
        return found[_ELEMENT]

    @property
    def tab(self) -> str:
        """The handle of the tab that is in front."""
        handle: str = self._send("GET", "window")
        return handle

    def new_tab(self) -> str:
        """Open a tab and bring it to the front."""
        handle: str = self._send("POST", "window/new", {"type": "tab"})["handle"]
        self.show(handle)
        return handle

    def show(self, tab: str) -> None:
        """Bring a tab to the front."""
        self._send("POST", "window", {"handle": tab})

    def cookies(self) -> list[dict[str, Any]]:
        """The cookies that this page's requests carry."""
        cookies: list[dict[str, Any]] = self._send("GET", "cookie")
        return cookies

    def resize(self, width: int, height: int) -> None:
        self._send("POST", "window/rect", {"width": width, "height": height})

    def screenshot(self) -> bytes:
        """What is seen of the page, as PNG."""
        return base64.b64decode(self._send("GET", "screenshot"))

    def until(self, holds: Callable[[], object], promise: str) -> None:
        """Wait until it holds. A command that the browser cannot carry out yet is tried again."""
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < give_up:
            try:
                if holds():
                    return
            except WebDriverError:
                pass  # the page is being left, or has not got the element yet
            time.sleep(0.05)
        raise AssertionError(f"{self.kind}, after {_PATIENCE_SECONDS} s: not true that {promise}; {self._situation()}")

    def _situation(self) -> str:
        try:
            return f"it shows {self.url} with the text {self.text('body')[:500]!r}"
        except WebDriverError as error:
            return f"it shows nothing ({error})"
