"""Notes, an example of Coatcheck: `uvicorn app:create_app --factory`.

Where to find what:

    app.py          the pod, the tables and the routes, put together
    accounts.py     sign up and sign in with e-mail and password
    notes.py        the notes: list, add, delete
    devices.py      a user's live sessions: list, end, restrict
    static/session.js   what the pages do when a session ends: the browser client in cookie mode
    pages.py        routes for people (HTML)        api.py        routes for programs (JSON)
    refusals.py     401, 403, 404 and 503, for people and programs
    rendering.py    templates                       database.py   transactions and types of our tables
    services.py     the services that routes use
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

import api
import pages
import refusals
from accounts import Accounts
from coatcheck import Pod, ServerSideSessionsConfigFromPasswords, ServerSideSessionsTokenManager
from coatcheck.web import SessionCookie, SessionMiddleware
from coatcheck.web.fastapi import session_router
from database import create_tables
from devices import INACTIVITY_TIMEOUT, SESSION_LIFETIME, Devices
from notes import Notes
from services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

HERE = Path(__file__).parent


def create_app(pod: Pod | None = None) -> SessionMiddleware:
    """The application. Its settings are the pod's: `config/passwords.yaml`, and COATCHECK_STORE for another database.

    Its tests give it a pod of theirs.

    Raises:
        ConfigurationError: the pepper is missing, or a setting is wrong. `make demo` makes a pepper.
    """
    if pod is None:
        pod = Pod(config_dir=HERE / "config")
    auth = pod.initialize_auth_services(
        token_manager_builders=[
            ServerSideSessionsConfigFromPasswords(
                default_session_lifetime=SESSION_LIFETIME,
                default_session_inactivity_timeout=INACTIVITY_TIMEOUT,
            ),
        ],
    )
    sessions = auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with pod:
            await create_tables(pod.store)
            yield

    app = FastAPI(
        title="Notes",
        summary="An example of Coatcheck.",
        lifespan=lifespan,
        exception_handlers={**refusals.handlers, **api.handlers},
    )
    app.state.services = Services(
        auth=auth, accounts=Accounts(pod.store, auth), notes=Notes(pod.store), devices=Devices(sessions)
    )
    app.include_router(pages.router)
    app.include_router(api.router)
    app.include_router(session_router(auth), prefix="/api/session")
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    # Browsers get their token in a cookie, programs get it in the answer to their sign-in.
    cookie = SessionCookie(name="notes", insecure_on_localhost=pod.run_mode == "development")
    return SessionMiddleware(app, auth=auth, cookie=cookie, except_paths=["/static/"])
