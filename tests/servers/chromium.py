"""Headless Chromium from the machine's packages, driven by Playwright."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, BrowserContext

_NAMES = ("chromium", "chromium-browser", "google-chrome")

_SECONDS_TO_CLOSE = 30

# Chromium looks for updates, for accounts and for QUIC of its own accord. Tests talk to loopback and to nothing else.
_QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def executable() -> str | None:
    """The path of Chromium, or None."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def missing() -> str | None:
    """Why no browser can be started here, or None."""
    return None if executable() else "Chromium is not installed"


@asynccontextmanager
async def running(*, back_forward_cache: bool = False) -> AsyncIterator[Browser]:
    """A browser with an empty profile. `await browser.new_context()` is another device: cookies of its own.

    Playwright switches the back/forward cache off, from which pages come back as they were left; here it can be had.
    """
    from playwright.async_api import async_playwright, expect  # noqa: PLC0415 (slow to import, and few tests need it)

    expect.set_options(timeout=30_000)  # as long as Playwright waits for everything else
    flags = [*_QUIET, "--no-sandbox"] if os.geteuid() == 0 else list(_QUIET)  # Chromium's sandbox refuses root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable(),
            args=flags,
            ignore_default_args=["--disable-back-forward-cache"] if back_forward_cache else None,
        )
        try:
            yield browser
        finally:
            await close(browser)


async def close(one: Browser | BrowserContext) -> None:
    """Close it. Chromium now and then never answers; what is left ends with Playwright's process."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(one.close(), _SECONDS_TO_CLOSE)
