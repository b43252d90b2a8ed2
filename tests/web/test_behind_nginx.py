"""The blocks of docs/how-to/behind-a-proxy.md, run: an application below a path, over TLS, behind nginx."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
import websockets
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.applications import Starlette
from starlette.routing import Mount

from coatcheck.errors import AuthenticationRequiredError
from coatcheck.web import SessionCookie, SessionMiddleware, next_location, sign_in, sign_in_location
from coatcheck.web.fastapi import SignedIn, session_router
from tests.servers.nginx import Nginx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coatcheck.web.asgi import AsgiApp
    from tests.servers.nginx import Certificate
    from tests.worlds import World

pytestmark = [pytest.mark.nginx, pytest.mark.extended]

PAGE = (Path(__file__).parents[2] / "docs/how-to/behind-a-proxy.md").read_text(encoding="utf-8")
AROUND, STRIPS, KEEPS = re.findall(r"```nginx\n(.*?)```", PAGE, flags=re.DOTALL)


async def notes_app(world: World, files: Path) -> AsgiApp:
    user = await world.user()
    api = FastAPI()
    api.include_router(session_router(world.auth), prefix="/session")
    api.mount("/static", StaticFiles(directory=files))

    @api.exception_handler(AuthenticationRequiredError)
    async def to_sign_in(request: Request, _error: Exception) -> RedirectResponse:
        return RedirectResponse(sign_in_location(request), 303)

    @api.get("/notes")
    async def notes(caller: SignedIn) -> str:
        return caller.user_identifier

    @api.post("/sign-in")
    async def sign_in_route(request: Request, next: str = "") -> RedirectResponse:  # noqa: A002 (its name in the URL)
        await sign_in(world.auth, request, auth_user_id=user.id, method="demo", mode="cookie")
        return RedirectResponse(next_location(request, next), 303)

    @api.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("well")

    @api.websocket("/live")
    async def live(connection: WebSocket, caller: SignedIn) -> None:
        await connection.accept()
        await connection.send_text(caller.user_identifier)
        await connection.close()

    return SessionMiddleware(
        api, auth=world.auth, cookie=SessionCookie(name="notes"), except_paths=["/static/", "/healthz"]
    )


@asynccontextmanager
async def serving(app: AsgiApp, root_path: str) -> AsyncIterator[int]:
    """As the page says: `uvicorn --root-path /app --proxy-headers --forwarded-allow-ips 127.0.0.1`."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        log_level="critical",
        lifespan="off",
        root_path=root_path,
        proxy_headers=True,
        forwarded_allow_ips="127.0.0.1",
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "app.js").write_text("export {}")
    return folder


@pytest.mark.parametrize("way", ["strips", "keeps"])
async def test_the_application_works_below_a_path(
    world: World, tmp_path: Path, files: Path, nginx_certificate: Certificate, way: str
) -> None:
    app = await notes_app(world, files)
    served: Any = app if way == "strips" else Starlette(routes=[Mount("/app", app=app)])
    trust = ssl.create_default_context(cafile=str(nginx_certificate.file))
    async with serving(served, "/app" if way == "strips" else "") as port:
        block = (STRIPS if way == "strips" else KEEPS).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        folder = tmp_path / "nginx"
        with Nginx(folder, nginx_certificate, around=AROUND, inside=block) as nginx:
            site = f"https://localhost:{nginx.port}"
            async with httpx.AsyncClient(base_url=site, verify=trust, trust_env=False) as browser:
                # The client may make up any prefix.
                stranger = await browser.get("/app/notes?a=1", headers={"X-Forwarded-Prefix": "/evil"})
                assert stranger.headers["location"] == "/app/sign-in?next=/app/notes%3Fa%3D1"

                own = {"Origin": site, "Sec-Fetch-Site": "same-origin"}
                answer = await browser.post("/app/sign-in?next=/app/notes", headers=own)
                assert answer.headers["location"] == "/app/notes"
                assert answer.headers["set-cookie"].startswith("__Host-notes=")
                assert "; Secure" in answer.headers["set-cookie"]
                me = (await browser.get("/app/notes")).json()

                outside = await browser.post("/app/sign-in?next=/other", headers=own)
                assert outside.headers["location"] == "/app/"

                # Without Sec-Fetch-Site, the Host that nginx hands on decides, and the scheme.
                assert (await browser.post("/app/sign-in", headers={"Origin": site})).status_code == 303
                forged = await browser.post("/app/session/sign-out", headers={"Origin": "https://localhost:1"})
                assert (forged.status_code, forged.json()["code"]) == (403, "cross_site_request")

                file = await browser.get("/app/static/app.js")
                assert (file.status_code, "cache-control" in file.headers) == (200, False)
                assert (await browser.get("/app/healthz")).text == "well"

                shown = {"Cookie": f"__Host-notes={browser.cookies['__Host-notes']}"}
                url = f"wss://localhost:{nginx.port}/app/live"
                async with websockets.connect(
                    url, additional_headers=shown, origin=websockets.Origin(site), ssl=trust, proxy=None
                ) as live:
                    assert await live.recv() == me

                assert (await browser.post("/app/session/sign-out", headers=own)).json() == {"ended": 1}
                assert (await browser.get("/app/notes")).status_code == 303
