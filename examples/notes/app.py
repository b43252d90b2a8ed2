"""Notes, an example of Coatcheck: `uvicorn app:create_app --factory`.

Where to find what:

    app.py          this: the pod, the tables and the routes, put together
    accounts.py     sign up and sign in with e-mail and password
    notes.py        what it is all about
    devices.py      a user's live sessions: list, end, restrict
    pages.py        routes for people (HTML)        api.py        routes for programs (JSON)
    refusals.py     401, 403, 404 and 503, for both of them
    rendering.py    templates                       database.py   what our tables share
    same_origin.py  what keeps other sites out      services.py   what the routes need
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from starlette.staticfiles import StaticFiles

import api
import pages
import refusals
from accounts import Accounts
from coatcheck import Pod, ServerSideSessionsConfigFromPasswords, ServerSideSessionsTokenManager
from coatcheck.web import SessionMiddleware
from coatcheck.web.fastapi import session_router
from database import create_tables
from devices import INACTIVITY_TIMEOUT, SESSION_LIFETIME, Devices, remember_device
from notes import Notes
from same_origin import refuse_other_sites
from services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent


def create_app() -> FastAPI:
    """The application. Its settings are the pod's: `config/passwords.yaml`, and COATCHECK_STORE for another database.

    Raises:
        ConfigurationError: the pepper is missing, or a setting is wrong. `make demo` makes a pepper.
    """
    pod = Pod(config_dir=HERE / "config")
    auth = pod.initialize_auth_services(
        token_manager_builders=[
            ServerSideSessionsConfigFromPasswords(
                default_session_lifetime=SESSION_LIFETIME,
                default_session_inactivity_timeout=INACTIVITY_TIMEOUT,
                on_session_created=remember_device,
            ),
        ],
    )
    sessions = auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with pod:
            await create_tables(pod.store)
            yield

    app = FastAPI(
        title="Notes",
        summary="An example of Coatcheck.",
        lifespan=lifespan,
        dependencies=[Depends(refuse_other_sites)],
        exception_handlers={**refusals.handlers, **api.handlers},
    )
    app.state.services = Services(
        accounts=Accounts(pod.store, auth), notes=Notes(pod.store), devices=Devices(pod.store, sessions)
    )
    app.add_middleware(SessionMiddleware, auth=auth, cookie=pages.COOKIE)
    app.include_router(pages.router)
    app.include_router(api.router)
    app.include_router(session_router(auth), prefix="/api/session")
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    return app
