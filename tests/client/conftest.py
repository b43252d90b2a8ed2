"""Shared fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.client.programs import Program
from tests.servers.faults import FaultyServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NewProgram = Callable[..., Program]


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
async def new_program(kind: str, server: FaultyServer) -> AsyncIterator[NewProgram]:
    """Makes programs for the server; `new_program(storage=...)`."""
    made: list[Program] = []

    def make(**options: Any) -> Program:
        program = Program(kind, server.url, **options)
        made.append(program)
        return program

    yield make
    for program in made:
        await program.close()


@pytest.fixture
def program(new_program: NewProgram) -> Program:
    return new_program()
