"""Two versions of Coatcheck serve one store side by side, under load: a rolling release, and a rollback."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kinds_of_store import POSTGRES, REDIS, SQLITE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.extended, pytest.mark.timeout(300)]

BEFORE = "bca57d9972efe68cbf8b35644190a7df343a26c7"
"""The last commit before the schema has a version of its own (migration coatcheck_0005)."""

ROOT = Path(__file__).parents[2]
SERVER = Path(__file__).with_name("server.py")
AT_ONCE = 25
ROUNDS = 4


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the earlier version, for stores on SQLite, PostgreSQL and Redis."""
    folder = tmp_path_factory.mktemp("earlier")
    command = ["git", "archive", BEFORE, "src"]
    archive = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder / "src"


class Server:
    """A server of one version, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def answer(self) -> Any:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the server ended; its output is above"
        return json.loads(line)

    async def ask(self, name: str, *arguments: object) -> Any:
        assert self._process.stdin is not None
        async with self._turn:
            self._process.stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
            return await self.answer()


@asynccontextmanager
async def serving(source: Path, url: str, *, migrates: bool = True) -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), url, "migrates" if migrates else "as it is",
        env={**os.environ, "PYTHONPATH": str(source)}, cwd=source,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**24,
    )  # fmt: skip
    try:
        yield Server(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(30):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise


async def serve_together(one: Server, other: Server) -> tuple[int, int]:
    """Both sign in, validate, revoke and hear, each the sessions of the other. Returns good answers and wrong ones."""
    good, wrong = 0, 0

    def count(answers: list[bool], expected: bool) -> None:
        nonlocal good, wrong
        good += answers.count(expected)
        wrong += answers.count(not expected)

    for _ in range(ROUNDS):
        signed_in = await asyncio.gather(*(server.ask("sign_in", AT_ONCE) for server in (one, other)))
        tokens = [token for server in signed_in for token, *_ in server]
        for answers in await asyncio.gather(*(server.ask("validate", tokens) for server in (one, other))):
            count(answers, expected=True)
        # Each ends half of those of the other, while the other does the same.
        halves = [[session_id for _, session_id, _ in server[: AT_ONCE // 2]] for server in reversed(signed_in)]
        for answers in await asyncio.gather(one.ask("revoke", halves[0]), other.ask("revoke", halves[1])):
            count(answers, expected=True)
        heard = await asyncio.gather(*(server.ask("hear", halves[0] + halves[1]) for server in (one, other)))
        assert heard == [2 * (AT_ONCE // 2)] * 2
        ended = [token for server in signed_in for token, *_ in server[: AT_ONCE // 2]]
        left = [token for server in signed_in for token, *_ in server[AT_ONCE // 2 :]]
        for server in (one, other):
            count(await server.ask("validate", ended), expected=False)
            count(await server.ask("validate", left), expected=True)
    return good, wrong


ALL_GOOD = ROUNDS * (2 * 2 * AT_ONCE + 2 * (AT_ONCE // 2) + 2 * 2 * AT_ONCE)


@pytest.mark.parametrize("store_url", [SQLITE, POSTGRES, REDIS], indirect=True)
async def test_a_version_and_the_one_before_serve_one_store_side_by_side(store_url: str, earlier: Path) -> None:
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(serving(earlier, store_url))
        assert await old.answer() == "open"
        before = [token for token, *_ in await old.ask("sign_in", AT_ONCE)]
        async with serving(ROOT / "src", store_url) as new:  # it brings the tables up to date while the other serves
            assert await new.answer() == "open"
            assert (await old.ask("where")).startswith(str(earlier))
            assert (await new.ask("where")).startswith(str(ROOT))
            assert await new.ask("validate", before) == [True] * AT_ONCE
            assert await serve_together(old, new) == (ALL_GOOD, 0)
            after = [token for token, *_ in await new.ask("sign_in", AT_ONCE)]
        # The newer one has left again. Another of the earlier version comes back to the tables that it has left.
        again = await stack.enter_async_context(serving(earlier, store_url, migrates=False))
        assert await again.answer() == "open"
        assert await old.ask("validate", [*before, *after]) == [True] * 2 * AT_ONCE
        assert await serve_together(old, again) == (ALL_GOOD, 0)
