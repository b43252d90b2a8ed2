"""Each test of this folder runs in Firefox, in WebKit and in Chromium, by one and the same driver."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.examples.notes_server import PEPPER, no_errors_in
from tests.servers.app import AppServer
from tests.servers.origin import Origin
from tests.servers.webdriver.browsers import STARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.webdriver.driver import Driver

    NewBrowser = Callable[..., Driver]

KINDS = [
    pytest.param("firefox", marks=pytest.mark.firefox),
    pytest.param("webkit", marks=pytest.mark.webkit),
    pytest.param("chromium", marks=pytest.mark.chromedriver),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They repeat, elsewhere, what `make test` tests in Chromium."""
    for item in items:
        if __package__.replace(".", "/") in item.path.as_posix():
            item.add_marker(pytest.mark.extended)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def new_browser(kind: str) -> Iterator[NewBrowser]:
    """Starts browsers that share nothing, each another device."""
    with ExitStack() as started:
        yield lambda *preferences: started.enter_context(STARTS[kind](*preferences))


@pytest.fixture
def device(new_browser: NewBrowser) -> Driver:
    return new_browser()


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('everywhere') / 'store.db'}"


@pytest.fixture(scope="module")
def spa(store_url: str) -> Iterator[AppServer]:
    """Pages that are scripts, served."""
    env = {**PEPPER, "COATCHECK_STORE": store_url}
    options = ("--factory", "--log-level", "warning")
    server = AppServer.uvicorn("tests.browser.everywhere.application:create_app", *options, env=env)
    with no_errors_in(server):
        yield server


@pytest.fixture
def evil() -> Iterator[Origin]:
    """A server of somebody else's."""
    with Origin() as origin:
        yield origin
