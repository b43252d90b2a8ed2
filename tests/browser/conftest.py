"""Shared fixtures of the browser tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.devices import devices
from tests.examples.notes_server import ada, notes, notes_dsn, operator, operator_pod, store_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from tests.browser.devices import NewDevice
    from tests.servers.app import AppServer

__all__ = ["ada", "notes", "notes_dsn", "operator", "operator_pod", "store_url"]


@pytest.fixture
async def new_device(browser: Browser, notes: AppServer) -> AsyncIterator[NewDevice]:
    """Makes devices: browsers that share no data."""
    async with devices(browser, notes.url) as make:
        yield make
