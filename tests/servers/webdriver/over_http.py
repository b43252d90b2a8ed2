"""WebDriver over HTTP, as browsers' drivers serve it."""

from __future__ import annotations

import time
from typing import Any

import httpx

from tests.servers.webdriver.driver import WebDriverError

_START_SECONDS = 30


class HttpWire:
    """A session with the driver that serves on this port of loopback."""

    def __init__(self, port: int, capabilities: dict[str, Any]) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        self._wait_until_ready()
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"/session/{session['sessionId']}"

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._ask(method, f"{self._session}/{path}", body)

    def close(self) -> None:
        self._client.close()

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + _START_SECONDS
        while True:
            try:
                if self._ask("GET", "/status")["ready"]:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > give_up:
                raise RuntimeError("the driver does not serve")
            time.sleep(0.05)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        value = self._client.request(method, path, json=body).json()["value"]
        if isinstance(value, dict) and "error" in value and "message" in value:
            raise WebDriverError(value["error"], value["message"])
        return value
