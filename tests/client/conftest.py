"""Shared fixtures of the client's tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from tests.client.programs import Program
from tests.servers.faults import FaultyServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

NewProgram = Callable[..., Program]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what goes over the wire with both HTTP libraries, with the older one in `make test-all`."""
    if "library" in metafunc.fixturenames:
        needs_one = metafunc.definition.get_closest_marker("any_library") is not None
        both = ["httpx2", pytest.param("httpx", marks=pytest.mark.extended)]
        metafunc.parametrize("library", both[:1] if needs_one else both, indirect=True)


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The HTTP library of the test's clients and of the managers' own; httpx is used where httpx2 is not installed."""
    name: str = request.param
    if name == "httpx":
        monkeypatch.setitem(sys.modules, "httpx2", None)
    return import_module(name)


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    """A server that works until the test makes it fail."""
    async with FaultyServer() as server, FaultyServer() as elsewhere:
        server.elsewhere = elsewhere
        yield server


@pytest.fixture
async def new_program(kind: str, library: ModuleType, server: FaultyServer) -> AsyncIterator[NewProgram]:
    """Makes programs for the server; `new_program(storage=...)`."""
    made: list[Program] = []

    def make(**options: Any) -> Program:
        program = Program(kind, server.url, library=library, **options)
        made.append(program)
        return program

    yield make
    for program in made:
        await program.close()


@pytest.fixture
def program(new_program: NewProgram) -> Program:
    return new_program()
