"""The lifespan of an ASGI application, run as a server does: httpx sends requests and no lifespan."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coatcheck.web.asgi import AsgiApp, AsgiMessage


@asynccontextmanager
async def lifespan_of(app: AsgiApp) -> AsyncIterator[dict[str, Any]]:
    """Inside this block the application has started. Gives the state that its lifespan has left for requests.

    What the lifespan raises is raised here. An application that knows no lifespan has nothing to start.
    """
    state: dict[str, Any] = {}
    received: asyncio.Queue[AsgiMessage] = asyncio.Queue()
    sent: asyncio.Queue[AsgiMessage | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}, received.get, sent.put)
        finally:
            sent.put_nowait(None)

    running = asyncio.create_task(run())

    async def reach(phase: str) -> None:
        received.put_nowait({"type": f"lifespan.{phase}"})
        answer = await sent.get()
        if answer is None or answer["type"].endswith(".failed"):
            await running  # raises what has happened
            if answer is not None:
                raise ConfigurationError(f"the application's lifespan has failed: {answer.get('message', '')}")

    try:
        await reach("startup")
        try:
            yield state
        finally:
            if not running.done():
                await reach("shutdown")
                await running
    finally:
        running.cancel()
        await asyncio.wait([running])
