"""A small application whose pages are scripts: `uvicorn tests.browser.spa:create_app --factory`.

The same pages exist in either mode, under `/cookie/` and `/header/`. Their content is loaded with the browser client,
so nothing on them is private until the server has answered.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse

from coatcheck import Pod, ServerSideSessionsConfigFromPasswords, StoreUnavailable
from coatcheck.web import SessionCookie, SessionMiddleware, sign_in
from coatcheck.web.fastapi import SignedIn, session_router
from coatcheck.wire import auth_success_json

APP = """<!doctype html>
<title>App</title>
<h1>App</h1>
<p id="who"></p>
<p id="secret"></p>
<p id="problem"></p>
<button id="load">Load</button>
<button id="out">Sign out</button>
<script type="module">
  import { createSessionClient } from "/session/client.js";
  const session = createSessionClient({ base: "/session", mode: "MODE", loginUrl: "/MODE/sign-in" });
  const show = (id, text) => { document.getElementById(id).textContent = text; };
  session.onAuthChange(({ signedIn, userId }) => show("who", signedIn ? userId : ""));
  const load = async () => {
    try {
      const answer = await session.fetch("/api/secret");
      show("secret", answer.ok ? await answer.text() : "");
      show("problem", answer.ok ? "" : String(answer.status));
    } catch (error) {
      show("problem", error.name);
    }
  };
  document.getElementById("load").onclick = load;
  document.getElementById("out").onclick = () => session.signOut();
  window.session = session;
  await session.ready.catch(() => {});
  await load();
</script>
"""

SIGN_IN = """<!doctype html>
<title>Sign in</title>
<h1>Sign in</h1>
<input id="user" value="ada">
<button id="in">Sign in</button>
<script type="module">
  import { createSessionClient, safeNext } from "/session/client.js";
  const session = createSessionClient({ base: "/session", mode: "MODE", loginUrl: "/MODE/sign-in" });
  document.getElementById("in").onclick = async () => {
    const user = encodeURIComponent(document.getElementById("user").value);
    const answer = await session.fetch(`/api/sign-in?user=${user}`, { method: "POST" });
    await session.signedIn(await answer.json());
    location.replace(safeNext(new URLSearchParams(location.search).get("next"), "/MODE/app"));
  };
  window.session = session;
</script>
"""

Mode = Literal["cookie", "header"]


def create_app() -> FastAPI:
    """The application, on the store at COATCHECK_STORE. Its sessions live SPA_SECONDS, without that for ever.

    SPA_TRUSTED_ORIGINS are origins other than its own, separated by spaces.
    """
    pod = Pod(config_dir="no-such-folder")
    lifetime = os.environ.get("SPA_SECONDS")
    config = ServerSideSessionsConfigFromPasswords(
        default_session_lifetime=None if lifetime is None else timedelta(seconds=int(lifetime))
    )
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    app = FastAPI(lifespan=pod.lifespan)
    trusted_origins = tuple(os.environ.get("SPA_TRUSTED_ORIGINS", "").split())
    cookie = SessionCookie(insecure_on_localhost=True, trusted_origins=trusted_origins)
    app.add_middleware(SessionMiddleware, auth=auth, cookie=cookie)
    app.include_router(session_router(auth), prefix="/session")
    users: dict[str, str] = {}

    @app.post("/api/sign-in")
    async def let_in(request: Request, user: str) -> dict[str, object]:
        if user not in users:
            users[user] = (await auth.auth_users.create()).id
        return auth_success_json(await sign_in(auth, request, auth_user_id=users[user], method="email"))

    @app.get("/api/secret")
    async def secret(caller: SignedIn) -> PlainTextResponse:
        return PlainTextResponse(f"the secret of {caller.user_identifier}")

    @app.post("/api/write")
    async def write(caller: SignedIn) -> PlainTextResponse:
        return PlainTextResponse(f"written by {caller.user_identifier}")

    ends_sessions = pod.store.delete_sessions

    @app.post("/outage/{state}")
    async def outage(state: Literal["begins", "ends"]) -> None:
        async def fail(*_: object, **__: object) -> None:
            raise StoreUnavailable("down")

        pod.store.delete_sessions = ends_sessions if state == "ends" else fail  # type: ignore[assignment, method-assign]  # a store that fails

    @app.get("/{mode}/app")
    async def page(mode: Mode) -> HTMLResponse:
        return HTMLResponse(APP.replace("MODE", mode))

    @app.get("/{mode}/sign-in")
    async def sign_in_page(mode: Mode) -> HTMLResponse:
        return HTMLResponse(SIGN_IN.replace("MODE", mode))

    return app
