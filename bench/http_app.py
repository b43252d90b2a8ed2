"""Applications that are measured over HTTP: `uvicorn http_app:create --factory`.

BENCH_APP names the application: `fastapi-open` and `asgi-open` answer every request, `fastapi-session` and
`asgi-session` only signed-in callers, with the filled store at BENCH_URL. `-cookie` is the same with cookie mode on.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.web import PodLifespan, SessionCookie, SessionMiddleware, require
from coatcheck.web.fastapi import SignedIn  # noqa: TC001 (FastAPI reads the annotations)

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send

PEPPER = "a pepper of the benchmark, 32 bytes"


def create() -> Any:  # noqa: ANN401 (an ASGI application)
    """The application that the environment asks for."""
    kind, _, sessions = os.environ["BENCH_APP"].partition("-")
    if sessions == "open":
        return open_fastapi() if kind == "fastapi" else hello
    pod = Pod(os.environ["BENCH_URL"], environ={}, config_dir="no-such-folder", prune_interval=None)
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    cookie = SessionCookie() if sessions == "cookie" else None
    inner: AsgiApp = session_fastapi() if kind == "fastapi" else hello_you
    return PodLifespan(SessionMiddleware(inner, auth=auth, cookie=cookie), pod)


def open_fastapi() -> FastAPI:
    """A route that answers every request."""
    app = FastAPI()

    @app.get("/")
    async def anybody() -> dict[str, str]:
        return {"hello": "bench-user"}

    return app


def session_fastapi() -> FastAPI:
    """A route that answers signed-in callers."""
    app = FastAPI()

    @app.get("/")
    async def caller(user: SignedIn) -> dict[str, str]:
        return {"hello": user.user_identifier}

    return app


async def hello(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    """Greet everybody."""
    if scope["type"] == "http":
        await _answer("bench-user", send)


async def hello_you(scope: AsgiScope, _receive: Receive, send: Send) -> None:
    """Greet a signed-in caller."""
    if scope["type"] == "http":
        await _answer(require(scope).user_identifier, send)


async def _answer(whom: str, send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"hello": whom}).encode()})
