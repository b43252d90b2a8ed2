"""Fixtures for pytest, and a pepper for the run.

The plugin does nothing until `pyproject.toml` asks for it:

    [tool.pytest.ini_options]
    addopts = ["-p", "coatcheck.testing.plugin"]

Then `conftest.py` says which application is tested, and tests ask for `app_tester` or `async_app_tester`:

    @pytest.fixture
    def app_tester_options() -> AppTesterOptions:
        return {"app": app, "pod": pod, "cookie": cookie}

Where no variable has the pepper of server-side sessions, one is made for the run, before `conftest.py` is imported: an
application that reads it on import can be imported by its tests on any machine.
"""

# Annotations of fixtures are real, so that editors and type checkers of tests find them.

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from coatcheck.extras import missing_extra

try:
    import pytest
except ModuleNotFoundError as _missing:
    raise missing_extra(_missing, module=__name__, extra="testing") from _missing

from coatcheck.passwords import VARIABLE_PREFIX
from coatcheck.sessions.config import PEPPER_PASSWORD_KEY
from coatcheck.testing import AppTester, AppTesterOptions, AsyncAppTester

__all__ = ["app_tester", "app_tester_options", "async_app_tester"]


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Have a pepper before pytest imports what imports the application."""
    os.environ.setdefault(VARIABLE_PREFIX + PEPPER_PASSWORD_KEY, secrets.token_urlsafe(32))


@pytest.fixture
def app_tester_options() -> AppTesterOptions:
    """The application that is tested. Define this fixture in `conftest.py`."""
    raise pytest.UsageError(
        "coatcheck.testing.plugin does not know the application; define the fixture app_tester_options in conftest.py, "
        'which returns {"app": app, "pod": pod}'
    )


@pytest.fixture
def app_tester(app_tester_options: AppTesterOptions) -> Iterator[AppTester]:
    """The application, open for a synchronous test."""
    with AppTester(**app_tester_options) as tester:
        yield tester


@pytest.fixture
async def async_app_tester(app_tester_options: AppTesterOptions) -> AsyncIterator[AsyncAppTester[Any]]:
    """The application, open for a test that anyio runs. Its devices are those of httpx2, else of httpx."""
    library = import_module("httpx2" if find_spec("httpx2") is not None else "httpx")
    async with AsyncAppTester(client=library.AsyncClient, **app_tester_options) as tester:
        yield tester
