"""Routes of FastAPI that are tested without sessions: one caller for all requests, whose scopes are checked."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated

import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.websockets import WebSocketDisconnect

from coatcheck import AuthenticationInfo, ConfigurationError, InvalidArgumentError, Pod, ServerSideSessionsConfig
from coatcheck.testing import MemoryStore, acting_as
from coatcheck.web import SessionMiddleware, authentication_of
from coatcheck.web.fastapi import MaybeSignedIn, Requires, SignedIn
from tests.worlds import PEPPER

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it would rather have httpx2
    from starlette.testclient import TestClient, WebSocketDenialResponse

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiApp

CHALLENGE = 'Bearer realm="session"'


@pytest.fixture
def api() -> FastAPI:
    api = FastAPI()

    @api.get("/notes", dependencies=[Requires("notes:read")])
    async def notes(request: Request, caller: SignedIn) -> list[str | None]:
        found = authentication_of(request)
        return [caller.user_identifier, None if found is None else found.user_identifier]

    @api.post("/notes")
    def add_note(caller: AuthenticationInfo = Requires("notes:read", "notes:write")) -> str:  # noqa: B008 (as users write it)
        return caller.user_identifier

    @api.get("/front")
    async def front(caller: MaybeSignedIn) -> str | None:
        return None if caller is None else caller.user_identifier

    @api.websocket("/live")
    async def live(socket: WebSocket, caller: Annotated[AuthenticationInfo, Requires("notes:read")]) -> None:
        await socket.accept()
        await socket.send_text(caller.user_identifier)
        await socket.close()

    return api


@pytest.fixture(params=["inside of the middleware", "without the middleware"])
def app(request: pytest.FixtureRequest, api: FastAPI) -> AsgiApp:
    if request.param == "without the middleware":
        return api
    pod = Pod(MemoryStore(), environ={}, config_dir="no-such-folder")  # never opened
    auth = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )
    return SessionMiddleware(api, auth=auth)


def test_a_route_sees_the_caller(api: FastAPI, app: AsgiApp) -> None:
    client = TestClient(app)
    with acting_as(api, {"notes:read"}, user_id="ann"):
        assert client.get("/notes").json() == ["ann", "ann"]
        assert client.get("/front").json() == "ann"
        with client.websocket_connect("/live") as socket:
            assert socket.receive_text() == "ann"


def test_a_caller_without_a_scope_of_the_route_is_refused(api: FastAPI, app: AsgiApp) -> None:
    client = TestClient(app)
    with acting_as(api, {"notes:read"}):
        answer = client.post("/notes")
        assert answer.status_code == 403
        assert answer.headers["www-authenticate"] == (
            f'{CHALLENGE}, error="insufficient_scope", scope="notes:read notes:write"'
        )
        assert '"missing_scopes":["notes:write"]' in answer.text
    with acting_as(api, {"notes:read", "notes:write"}):
        assert client.post("/notes").status_code == 200
    with acting_as(api, {"other"}), pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/live"):
        pytest.fail("it was opened")
    denial = refused.value  # a response where the middleware refuses, a close code where the application does
    assert denial.status_code == 403 if isinstance(denial, WebSocketDenialResponse) else denial.code == 4403


def test_nobody_is_signed_in_without_scopes(api: FastAPI, app: AsgiApp) -> None:
    client = TestClient(app)
    with acting_as(api, None):
        answer = client.get("/notes")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, CHALLENGE)
        assert '"code":"authentication_required"' in answer.text
        assert client.get("/front").json() is None


def test_the_overrides_are_as_before_afterwards_also_where_the_block_raises(api: FastAPI) -> None:
    def own() -> None:
        pass

    api.dependency_overrides[own] = own
    for scopes in ({"a"}, {"b"}):
        with pytest.raises(ZeroDivisionError), acting_as(api, scopes):
            with acting_as(api, {"inner"}):
                pass
            assert len(api.dependency_overrides) == 3
            raise ZeroDivisionError
    assert api.dependency_overrides == {own: own}
    with pytest.raises(ConfigurationError, match="SessionMiddleware did not run"):
        TestClient(api).get("/notes")


def test_a_scope_that_is_misspelt_is_refused(api: FastAPI) -> None:
    with pytest.raises(InvalidArgumentError), acting_as(api, {"two words"}):
        pytest.fail("it was taken")
    assert api.dependency_overrides == {}
