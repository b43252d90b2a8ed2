"""One server of `bench/live.py`: `uvicorn live_app:create --factory`, on the store that BENCH_URL names.

With BENCH_DEAF it hears of nothing that other processes announce, as if the line for that were cut.
"""

from __future__ import annotations

import asyncio
import os
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


class Deaf:
    """Auth services whose events nobody publishes."""

    def __init__(self, auth: AuthServices) -> None:
        """Validate with `auth`."""
        self.token_manager = auth.token_manager
        self.events = EventBus()


def create() -> Any:  # noqa: ANN401 (an ASGI application)
    """A server whose routes stay open for as long as their session lives."""
    pod = Pod(os.environ["BENCH_URL"], environ={}, config_dir="no-such-folder", prune_interval=None)
    auth = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )
    app = FastAPI(lifespan=pod.lifespan)
    live = LiveConnections(Deaf(auth)) if "BENCH_DEAF" in os.environ else None
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
    async def revoke(user: SignedIn) -> None:
        await auth.token_manager.revoke_all_tokens(auth_user_id=user.user_identifier)

    return app
