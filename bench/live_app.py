"""One server of `bench/live.py`: `uvicorn live_app:create --factory`, on the store that BENCH_URL names.

With BENCH_DEAF it hears no announcements of other processes, as if its connection for them were cut.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from coatcheck import AuthServices, Pod, ServerSideSessionsConfig
from coatcheck.events import EventBus
from coatcheck.web import LiveConnections, SessionMiddleware
from coatcheck.web.fastapi import SignedIn  # noqa: TC001 (FastAPI reads the annotations)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PEPPER = "a pepper of the benchmark, 32 bytes"
LOOKING_SECONDS = 0.02


class Deaf:
    """Auth services whose events are never published."""

    def __init__(self, auth: AuthServices) -> None:
        """Validate with `auth`."""
        self.token_manager = auth.token_manager
        self.events = EventBus()


def create() -> Any:  # noqa: ANN401 (an ASGI application)
    """A server whose routes stay open as long as their session is live."""
    pod = Pod(os.environ["BENCH_URL"], environ={}, config_dir="no-such-folder", prune_interval=None)
    auth = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )
    app = FastAPI(lifespan=pod.lifespan)
    pauses = Pauses()
    heard = Deaf(auth) if "BENCH_DEAF" in os.environ else auth
    live = LiveConnections(heard, postpone_full_collections=True)  # figures with and without: docs/performance.md
    app.add_middleware(SessionMiddleware, auth=auth, live=live)

    @app.websocket("/live")
    async def talk(connection: WebSocket, user: SignedIn) -> None:
        await connection.accept()
        await connection.send_text(user.user_identifier)
        async for _ in connection.iter_text():
            pass

    @app.get("/events")
    async def events(user: SignedIn) -> StreamingResponse:
        async def endless() -> AsyncIterator[str]:
            yield f"data: {user.user_identifier}\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(endless(), media_type="text/event-stream")

    @app.post("/sign-in")
    async def sign_in() -> str:
        user = await auth.auth_users.create()
        return (await auth.token_manager.create_token(auth_user_id=user.id, method="bench")).token

    @app.post("/revoke")
    async def revoke(user: SignedIn) -> float:
        await auth.token_manager.revoke_all_tokens(auth_user_id=user.user_identifier)
        return time.monotonic()

    @app.post("/costs")
    async def costs() -> dict[str, float]:
        return {"cpu_seconds": time.process_time(), "longest_pause_ms": pauses.longest_ms()}

    return app


class Pauses:
    """Measures the longest time for which the event loop was busy: other requests have to wait for so long."""

    def __init__(self) -> None:
        """Begin to measure with the first `longest_ms`."""
        self._longest_seconds = 0.0
        self._looking: asyncio.Task[None] | None = None

    def longest_ms(self) -> float:
        """The longest pause in milliseconds since the last call."""
        self._looking = self._looking or asyncio.create_task(self._look())
        longest, self._longest_seconds = self._longest_seconds, 0.0
        return longest * 1000

    async def _look(self) -> None:
        while True:
            due = time.monotonic() + LOOKING_SECONDS
            await asyncio.sleep(LOOKING_SECONDS)
            self._longest_seconds = max(self._longest_seconds, time.monotonic() - due)
