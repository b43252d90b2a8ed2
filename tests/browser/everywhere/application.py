"""The pages of `tests/browser/spa.py`, with routes that note what passed.

    uvicorn tests.browser.everywhere.application:create_app --factory

While it was told to (`/reads/down`, until `/reads/up`) it cannot say who is signed in, and answers with a 503.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse

from coatcheck.web.fastapi import SignedIn  # noqa: TC001 (FastAPI reads the annotations)
from tests.browser import spa

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send


def create_app() -> AsgiApp:
    """The application, on the store at COATCHECK_STORE."""
    routes = APIRouter()
    changes: list[str] = []
    is_down = False

    @routes.post("/api/changes")
    async def change(caller: SignedIn) -> None:
        changes.append(caller.user_identifier)

    @routes.get("/api/changes")
    async def count() -> int:
        return len(changes)

    @routes.websocket("/api/live")
    async def live(socket: WebSocket, caller: SignedIn) -> None:
        await socket.accept()
        await socket.send_text(f"the secret of {caller.user_identifier}")
        await socket.receive()

    @routes.get("/empty")
    async def empty() -> HTMLResponse:
        return HTMLResponse("<!doctype html><title>Empty</title><p>Empty</p>")

    @routes.post("/reads/{state}")
    async def reads(state: Literal["down", "up"]) -> None:
        nonlocal is_down
        is_down = state == "down"

    app = spa.create_app()
    app.include_router(routes)

    async def with_outages(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if is_down and scope["type"] == "http" and scope["path"] == "/session/status":
            await JSONResponse({"status": 503}, 503)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return with_outages
