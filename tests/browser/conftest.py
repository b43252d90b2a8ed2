"""What the browser tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.devices import devices
from tests.examples.notes_server import ada, database, notes, notes_dsn, operator, operator_pod

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from tests.browser.devices import NewDevice
    from tests.servers.app import AppServer

__all__ = ["ada", "notes", "notes_dsn", "operator", "operator_pod"]

# Without a browser, `make test` runs the example on both.
ON_POSTGRES = pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.extended])


@pytest.fixture(scope="module", params=["sqlite", ON_POSTGRES])
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of either kind, for the notes example."""
    return database(request, tmp_path_factory)


@pytest.fixture
async def new_device(browser: Browser, notes: AppServer) -> AsyncIterator[NewDevice]:
    """Makes devices: browsers that share nothing."""
    async with devices(browser, notes.url) as make:
        yield make
