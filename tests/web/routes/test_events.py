"""The events route: a client hears of the end of its own session, at once and with the reason."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from coatcheck.errors import ConfigurationError
from coatcheck.events import RevokedAuthenticationAuthId
from coatcheck.identifiers import UserId
from coatcheck.tokens import AuthenticationInfo, TokenRefusal, TokenStanding
from coatcheck.web import LiveConnections, SessionMiddleware, require
from coatcheck.web.fastapi import session_router
from coatcheck.web.routes.events import MAX_STREAMS
from coatcheck.web.starlette import session_routes
from tests.web.asgi_calls import Headers, bearer, request, scope_of
from tests.web.fakes import SID, FakeAuth, FakeTokenManager
from tests.web.live.test_revalidation import NEVER, PATIENCE_SECONDS, Auth, Client, Clock, auth_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from coatcheck.tokens import Token
    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send

    NewApp = Callable[..., AsgiApp]

ANN = UserId("ann")
ASKS: Headers = [(b"accept", b"text/event-stream")]
"""The header by which an EventSource asks for a stream."""
OFTEN = timedelta(milliseconds=1)


async def own_events(request: Request) -> PlainTextResponse:
    """A route of the application's own whose path ends like ours."""
    return PlainTextResponse(require(request).user_identifier)


def fastapi_app(auth: Any, **settings: timedelta) -> AsgiApp:
    app = FastAPI()
    app.include_router(session_router(auth, **settings), prefix="/session")
    app.add_route("/orders/events", own_events)
    return app


def starlette_app(auth: Any, **settings: timedelta) -> AsgiApp:
    return Starlette(
        routes=[Mount("/session", routes=session_routes(auth, **settings)), Route("/orders/events", own_events)]
    )


@pytest.fixture(params=[fastapi_app, starlette_app])
def new_app(request: pytest.FixtureRequest, auth: Auth) -> NewApp:
    def make(**settings: timedelta) -> AsgiApp:
        live = LiveConnections(auth, recheck_every=NEVER)
        return SessionMiddleware(request.param(auth, **settings), auth=auth, cookie=SID, live=live)

    return make


@pytest.fixture
def app(new_app: NewApp) -> AsgiApp:
    return new_app(heartbeat_interval=timedelta(seconds=30))


@pytest.fixture
def auth() -> Auth:
    return Auth()


@asynccontextmanager
async def listening(app: AsgiApp, headers: Headers) -> AsyncIterator[tuple[Client, dict[str, str]]]:
    """A client whose stream is open, and the stream's headers."""
    client = Client(app, scope_of("http", "/session/events", headers=[*ASKS, *headers]))
    try:
        start = await client.hears()
        assert start["status"] == 200
        yield client, {name.decode(): value.decode() for name, value in start["headers"]}
    finally:
        client.task.cancel()
        await asyncio.wait({client.task})


async def event(client: Client) -> tuple[str, dict[str, Any]]:
    """The next event."""
    while True:
        message = await client.hears()
        body = message["body"].decode().strip()
        if body.startswith("event: "):
            name, data = body.splitlines()
            return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))
        assert body == ":", message


async def end(auth: Auth, token: Token, refusal: TokenRefusal = TokenRefusal.UNKNOWN) -> None:
    auth.token_manager.end(token, refusal)
    await auth.events.publish(RevokedAuthenticationAuthId(ANN, auth_id(auth, token)))


async def test_a_client_hears_that_it_is_heard_and_until_when(app: AsgiApp, auth: Auth) -> None:
    token, auth.token_manager.ends_in_us = auth.token_manager.sign_in("ann"), 1_500_000
    async with listening(app, bearer(token)) as (client, headers):
        assert headers["content-type"].startswith("text/event-stream")
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        assert await event(client) == (
            "session_live",
            {"session_id": auth_id(auth, token), "ends_in": 1.5, "heartbeat": 30.0},
        )


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [(TokenRefusal.UNKNOWN, None), (TokenRefusal.EXPIRED, "expired"), (TokenRefusal.INACTIVE, "inactive")],
)
@pytest.mark.parametrize("in_cookie", [False, True])
async def test_the_last_event_says_that_the_session_has_ended_and_why(
    app: AsgiApp, auth: Auth, refusal: TokenRefusal, reason: str | None, in_cookie: bool
) -> None:
    token = auth.token_manager.sign_in("ann")
    headers = [(b"cookie", b"__Host-sid=" + token.encode())] if in_cookie else bearer(token)
    async with listening(app, headers) as (client, _):
        assert (await event(client))[0] == "session_live"
        await end(auth, token, refusal)
        name, problem = await event(client)
        await client.ended()
    assert (name, problem["code"], problem.get("reason")) == ("session_ended", "invalid_token", reason)


async def test_the_end_of_another_session_is_not_told(app: AsgiApp, auth: Auth) -> None:
    mine, other = auth.token_manager.sign_in("ann"), auth.token_manager.sign_in("ann")
    async with listening(app, bearer(mine)) as (client, _):
        await event(client)
        await end(auth, other)
        await end(auth, mine, TokenRefusal.EXPIRED)
        assert (await event(client))[1]["reason"] == "expired"


async def test_a_stranger_gets_no_stream(app: AsgiApp, auth: Auth) -> None:
    assert (await request(app, "/session/events")).code == "authentication_required"
    ended = auth.token_manager.sign_in("ann")
    auth.token_manager.end(ended, TokenRefusal.EXPIRED)
    for headers in (bearer("nonsense"), bearer(ended)):
        answer = await request(app, "/session/events", headers=headers)
        assert (answer.status, answer.code) == (401, "invalid_token")
    assert answer.json["reason"] == "expired"


async def test_down_is_not_signed_out(app: AsgiApp, auth: Auth) -> None:
    token, auth.token_manager.is_down = auth.token_manager.sign_in("ann"), True
    answer = await request(app, "/session/events", headers=bearer(token))
    assert (answer.status, answer.code) == (503, "store_unavailable")


async def test_a_sign_of_life_comes_in_between(new_app: NewApp, auth: Auth) -> None:
    async with listening(new_app(heartbeat_interval=OFTEN), bearer(auth.token_manager.sign_in("ann"))) as (client, _):
        await event(client)
        assert [(await client.hears())["body"] for _ in range(3)] == [b":\n\n"] * 3


async def test_a_client_that_has_gone_leaves_nothing_behind(app: AsgiApp, auth: Auth) -> None:
    async with listening(app, bearer(auth.token_manager.sign_in("ann"))) as (client, _):
        await event(client)
        client.leave()
        await client.ended()


async def test_a_session_has_a_limited_number_of_streams_and_the_oldest_makes_way(app: AsgiApp, auth: Auth) -> None:
    mine, other = auth.token_manager.sign_in("ann"), auth.token_manager.sign_in("ann")
    async with AsyncExitStack() as stack:
        others, _ = await stack.enter_async_context(listening(app, bearer(other)))
        streams = []
        for _ in range(MAX_STREAMS + 1):
            client, _ = await stack.enter_async_context(listening(app, bearer(mine)))
            await event(client)
            streams.append(client)
        assert await streams[0].hears() == {"type": "http.response.body", "body": b""}  # and no word of the session
        await streams[0].ended()
        await end(auth, mine)
        for client in streams[1:]:
            assert (await event(client))[0] == "session_ended"
        assert not others.task.done()


async def test_streams_end_when_the_server_is_told_to_stop(
    app: AsgiApp, auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvicorn would wait for them for ever; its handler of SIGTERM is a method of the server."""

    class Server:
        should_exit = False

        def handle_exit(self) -> None: ...

    server = Server()
    monkeypatch.setattr(signal, "getsignal", lambda _: server.handle_exit)
    monkeypatch.setattr("coatcheck.web.routes.events._EXIT_LOOK_SECONDS", 0.001)
    async with listening(app, bearer(auth.token_manager.sign_in("ann"))) as (client, _):
        await event(client)
        server.should_exit = True
        assert (await client.hears())["body"] == b""
        await client.ended()


def test_streams_end_too_where_the_application_is_served_for_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another event loop, as that of a test is. What looked after the streams went with the first."""
    is_exiting = False
    monkeypatch.setattr("coatcheck.web.routes.events.is_uvicorn_exiting", lambda: is_exiting)
    monkeypatch.setattr("coatcheck.web.routes.events._EXIT_LOOK_SECONDS", 0.001)
    auth = Auth()
    app, token = SessionMiddleware(fastapi_app(auth), auth=auth), auth.token_manager.sign_in("ann")

    async def serve(*, is_second: bool) -> None:
        nonlocal is_exiting
        async with listening(app, bearer(token)) as (client, _):
            await event(client)
            if is_second:
                is_exiting = True
                await client.ended()

    asyncio.run(serve(is_second=False))
    asyncio.run(serve(is_second=True))


@pytest.fixture
def uses(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose validation has counted as a use."""
    found: list[str] = []
    explain = auth.token_manager.explain_token

    async def counted(token: str) -> AuthenticationInfo | TokenRefusal:
        found.append(token)
        return await explain(token)

    async def examined(token: str) -> TokenStanding:
        return TokenStanding(await explain(token), auth.token_manager.ends_in_us)

    monkeypatch.setattr(auth.token_manager, "explain_token", counted)
    monkeypatch.setattr(auth.token_manager, "examine_token", examined)
    return found


async def test_listening_is_no_use_of_the_session(app: AsgiApp, auth: Auth, uses: list[str]) -> None:
    async with listening(app, bearer(auth.token_manager.sign_in("ann"))) as (client, _):
        await event(client)
        for _ in range(20):
            await asyncio.sleep(0)
        client.leave()
        await client.ended()
    assert uses == []


@pytest.mark.parametrize("asks", [[], ASKS], ids=["anything", "an event stream"])
async def test_a_route_of_the_application_with_such_a_path_is_a_use_as_any_other(
    app: AsgiApp, auth: Auth, uses: list[str], asks: Headers
) -> None:
    token = auth.token_manager.sign_in("ann")
    assert (await request(app, "/orders/events", headers=[*asks, *bearer(token)])).body == b"ann"
    await counted(uses)
    assert uses == [token]


@pytest.mark.parametrize("prefix", ["", "/session", "/v1/a/b", "/events"])
async def test_listening_is_no_use_of_the_session_wherever_the_routes_are(
    auth: Auth, uses: list[str], prefix: str
) -> None:
    routes = session_routes(auth)
    app = SessionMiddleware(Starlette(routes=[Mount(prefix, routes=routes)] if prefix else routes), auth=auth)
    headers = [*ASKS, *bearer(auth.token_manager.sign_in("ann"))]
    client = Client(app, scope_of("http", f"{prefix}/events", headers=headers))
    assert (await client.hears())["status"] == 200
    assert (await event(client))[0] == "session_live"
    client.leave()
    await client.ended()
    assert uses == []


@pytest.mark.parametrize("accept", [None, b"*/*", b"application/json", b"text/*"])
async def test_a_request_that_does_not_ask_for_a_stream_is_a_use_and_opens_none(
    app: AsgiApp, auth: Auth, uses: list[str], accept: bytes | None
) -> None:
    """It was counted before its route was known: a stream for it would keep an idle session alive."""
    token = auth.token_manager.sign_in("ann")
    headers = bearer(token) if accept is None else [(b"accept", accept), *bearer(token)]
    answer = await request(app, "/session/events", headers=headers)
    assert (answer.status, answer.code) == (406, "not_acceptable")
    assert "text/event-stream" in answer.json["detail"]
    assert uses == [token]


@pytest.mark.parametrize("accept", [b"text/event-stream", b"application/json, Text/Event-Stream;q=0.9"])
async def test_an_event_stream_may_be_asked_for_beside_others(app: AsgiApp, auth: Auth, accept: bytes) -> None:
    headers = [(b"accept", accept), *bearer(auth.token_manager.sign_in("ann"))]
    client = Client(app, scope_of("http", "/session/events", headers=headers))
    assert (await client.hears())["status"] == 200
    client.leave()
    await client.ended()


async def counted(uses: list[str]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not uses:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0)


@pytest.mark.parametrize(("ends_in_us", "seconds"), [(None, 1.1), (60_000_000, 1.1), (1_000_000, 0.6)])
async def test_a_stream_of_the_application_that_takes_its_time_is_counted_before_it_answers(
    auth: Auth, uses: list[str], monkeypatch: pytest.MonkeyPatch, ends_in_us: int | None, seconds: float
) -> None:
    """And before the session runs out under it."""
    clock, begun = Clock(monkeypatch), asyncio.Event()

    async def slow(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        require(scope)
        begun.set()
        await asyncio.Event().wait()

    token, auth.token_manager.ends_in_us = auth.token_manager.sign_in("ann"), ends_in_us
    client = Client(SessionMiddleware(slow, auth=auth), scope_of("http", "/orders", headers=[*ASKS, *bearer(token)]))
    await begun.wait()
    assert uses == []
    clock.move(seconds=seconds)
    await counted(uses)
    assert uses == [token]
    client.task.cancel()
    await asyncio.wait({client.task})
    assert uses == [token]


@pytest.mark.parametrize("ends", ["fails", "returns"])
async def test_a_stream_of_the_application_that_ends_without_an_answer_is_counted_too(
    auth: Auth, uses: list[str], ends: str
) -> None:
    async def silent(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        require(scope)
        if ends == "fails":
            raise ZeroDivisionError

    token = auth.token_manager.sign_in("ann")
    client = Client(SessionMiddleware(silent, auth=auth), scope_of("http", "/orders", headers=[*ASKS, *bearer(token)]))
    await asyncio.wait({client.task})
    await counted(uses)
    assert isinstance(client.task.exception(), ZeroDivisionError) is (ends == "fails")
    assert uses == [token]


@pytest.mark.parametrize(
    ("path", "method", "asks"),
    [("/orders/events", "POST", ASKS), ("/events", "GET", []), ("/events", "GET", [(b"accept", b"*/*")])],
)
async def test_a_request_that_cannot_be_for_the_events_route_is_counted_at_once(
    auth: Auth, uses: list[str], path: str, method: str, asks: Headers
) -> None:
    counted_before: list[str] = []

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        require(scope)
        counted_before.extend(uses)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body", "body": b""})

    token = auth.token_manager.sign_in("ann")
    await request(SessionMiddleware(app, auth=auth), path, headers=[*asks, *bearer(token)], method=method)
    assert counted_before == [token]


async def test_a_signed_in_caller_is_told_where_to_listen(app: AsgiApp, auth: Auth) -> None:
    answer = await request(app, "/session/status", headers=bearer(auth.token_manager.sign_in("ann")))
    assert answer.json["events"] == "events"
    assert (await request(app, "/session/status")).json["events"] is None


@pytest.mark.parametrize("make", [fastapi_app, starlette_app])
async def test_where_nothing_would_end_a_stream_there_is_none(make: NewApp) -> None:
    """An application's own auth services without announcements."""
    auth = FakeAuth(FakeTokenManager())
    app, token = SessionMiddleware(make(auth), auth=auth), auth.token_manager.sign_in("ann")
    assert (await request(app, "/session/status", headers=bearer(token))).json["events"] is None
    assert (await request(app, "/session/events", headers=bearer(token))).status == 404


async def test_asking_for_the_headers_opens_nothing(auth: Auth) -> None:
    app = SessionMiddleware(starlette_app(auth), auth=auth)
    token = auth.token_manager.sign_in("ann")
    answer = await request(app, "/session/events", headers=[*ASKS, *bearer(token)], method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("make", [fastapi_app, starlette_app])
@pytest.mark.parametrize("interval", [timedelta(0), timedelta(seconds=31), 15])
def test_an_interval_that_clients_would_take_for_the_end_is_refused(make: NewApp, interval: Any) -> None:
    with pytest.raises(ConfigurationError, match="heartbeat_interval"):
        make(FakeAuth(), heartbeat_interval=interval)
