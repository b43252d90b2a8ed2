"""A module-level application in a test suite: it is started for each test, each time in another event loop."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.websockets import WebSocketDisconnect

from coatcheck import AuthenticationInfo, OpenElsewhereError, Pod, ServerSideSessionsConfig
from coatcheck.web import SessionMiddleware, sign_in
from coatcheck.web.fastapi import Requires, session_router
from coatcheck.wire import auth_success_json
from tests.kinds_of_store import POSTGRES, REDIS, SQLITE
from tests.runtime.calls import OTHER_LOOP
from tests.web.asgi_calls import bearer, request
from tests.web.routes.test_events import event, listening
from tests.worlds import PEPPER

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it would rather have httpx2
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator

EACH_STORE = pytest.mark.parametrize("store_url", [SQLITE, POSTGRES, REDIS], indirect=True)
HOW_OFTEN = 3  # the first failure of an Event of the first loop was seen in the third


@pytest.fixture
def app(store_url: str) -> FastAPI:
    """An application with a WebSocket and the session routes, as it is made when its module is imported."""
    pod = Pod(store_url, environ={}, config_dir="no-such-folder")
    auth = pod.initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
    )
    app = FastAPI(lifespan=pod.lifespan)
    app.add_middleware(SessionMiddleware, auth=auth)
    app.include_router(session_router(auth), prefix="/session")
    app.state.pod = pod

    @app.post("/sign-in")
    async def signs_in(request: Request) -> dict[str, Any]:
        user = await auth.auth_users.create()
        return auth_success_json(await sign_in(auth, request, auth_user_id=user.id, method="demo"))

    @app.websocket("/live")
    async def live(socket: WebSocket, caller: Annotated[AuthenticationInfo, Requires()]) -> None:
        await socket.accept()
        await socket.send_text(caller.user_identifier)
        with suppress(WebSocketDisconnect):
            await socket.receive_text()

    return app


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("coatcheck")]
    assert [text for text in logged if " promises " not in text] == []  # what the server of the tests promises


@EACH_STORE
async def test_a_websocket_ends_with_its_session_each_time_that_the_application_is_started(app: FastAPI) -> None:
    def test() -> None:
        for _ in range(HOW_OFTEN):
            with TestClient(app) as client:
                answer = client.post("/sign-in").json()
                headers = {"Authorization": f"Bearer {answer['token']}"}
                with client.websocket_connect("/live", headers=headers) as socket:
                    assert socket.receive_text() == answer["auth_user_id"]
                    assert client.post("/session/sign-out", headers=headers).status_code == 200
                    with pytest.raises(WebSocketDisconnect) as ended:
                        socket.receive_text()
                assert ended.value.code == 4401

    await asyncio.to_thread(test)


@EACH_STORE
async def test_a_websocket_that_is_left_open_does_not_disturb_the_next_start(app: FastAPI) -> None:
    def test() -> None:
        for _ in range(HOW_OFTEN):
            with TestClient(app) as client:
                answer = client.post("/sign-in").json()
                headers = {"Authorization": f"Bearer {answer['token']}"}
                with client.websocket_connect("/live", headers=headers) as socket:
                    assert socket.receive_text() == answer["auth_user_id"]

    await asyncio.to_thread(test)


@EACH_STORE
async def test_an_event_stream_ends_with_its_session_each_time_that_the_application_is_started(app: FastAPI) -> None:
    def test() -> None:
        async def serve() -> tuple[str, str]:
            async with app.state.pod:
                token = (await request(app, "/sign-in", method="POST")).json["token"]
                async with listening(app, bearer(token)) as (client, _):
                    live, _ = await event(client)
                    assert (await request(app, "/session/sign-out", method="POST", headers=bearer(token))).status == 200
                    ended, _ = await event(client)
                    await client.ended()
                    return live, ended

        assert [asyncio.run(serve()) for _ in range(HOW_OFTEN)] == [("session_live", "session_ended")] * HOW_OFTEN

    await asyncio.to_thread(test)


@EACH_STORE
async def test_a_second_client_while_the_first_is_open_is_refused_and_the_first_goes_on(app: FastAPI) -> None:
    def test() -> None:
        with ExitStack() as clients:
            first = clients.enter_context(TestClient(app))
            headers = {"Authorization": f"Bearer {first.post('/sign-in').json()['token']}"}
            for _ in range(2):
                with pytest.raises(OpenElsewhereError) as refused:
                    clients.enter_context(TestClient(app))
                assert str(refused.value) == OTHER_LOOP
                assert first.get("/session/status", headers=headers).status_code == 200
        with TestClient(app) as second:
            assert second.get("/session/status", headers=headers).json()["signed_in"] is True

    await asyncio.to_thread(test)


@EACH_STORE
async def test_a_subscriber_hears_in_every_loop_what_another_server_ends(store_url: str) -> None:
    heard: list[object] = []
    hears = asyncio.Event()

    def pod_and_auth() -> tuple[Pod, Any]:
        pod = Pod(store_url, environ={}, config_dir="no-such-folder")
        return pod, pod.initialize_auth_services(
            token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
        )

    (pod, auth), (other, other_auth) = pod_and_auth(), pod_and_auth()

    async def once() -> None:
        nonlocal hears
        hears = asyncio.Event()
        async with pod, other:
            user = await auth.auth_users.create()
            await other_auth.token_manager.revoke_all_tokens(auth_user_id=user.id)
            async with asyncio.timeout(20):
                await hears.wait()

    async def hear(message: object) -> None:
        heard.append(message)
        hears.set()

    pod.events.subscribe(hear)
    for _ in range(HOW_OFTEN):
        await asyncio.to_thread(asyncio.run, once())
    assert [type(one).__name__ for one in heard] == ["RevokedAuthenticationUser"] * HOW_OFTEN
