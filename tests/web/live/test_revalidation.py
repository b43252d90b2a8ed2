"""WebSockets, event streams and other streams end with their session, and with nothing else."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.events import (
    AnnouncementsMissed,
    EventBus,
    Message,
    RevokedAuthenticationAuthId,
    RevokedAuthenticationScope,
    RevokedAuthenticationUser,
)
from coatcheck.identifiers import UserId
from coatcheck.tokens import AuthenticationInfo, TokenRefusal, TokenStanding
from coatcheck.web import LiveConnections, SessionMiddleware, authentication_of, require, traffic_is_use
from tests.web.asgi_calls import bearer, scope_of
from tests.web.fakes import FakeTokenManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coatcheck.tokens import Token
    from coatcheck.web.asgi import AsgiApp, AsgiMessage, AsgiScope, Receive, Send
    from coatcheck.web.http.problems import Problem
    from coatcheck.web.live.connection import LiveConnection

PATIENCE_SECONDS = 20
ANN = UserId("ann")
NEVER = timedelta(days=1)


@dataclass
class Auth:
    """What live connections need of the auth services."""

    token_manager: FakeTokenManager = field(default_factory=FakeTokenManager)
    events: EventBus = field(default_factory=EventBus)


@pytest.fixture
def auth() -> Auth:
    return Auth()


class Clock:
    """The clock of the running event loop, moved on by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._real, self._moved = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: self._real() + self._moved)

    def move(self, **by: float) -> None:
        self._moved += timedelta(**by).total_seconds()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Client:
    """One connection to an application, as its server has it."""

    def __init__(self, app: AsgiApp, scope: AsgiScope) -> None:
        self._incoming: asyncio.Queue[AsgiMessage] = asyncio.Queue()
        self._outgoing: asyncio.Queue[AsgiMessage] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self.task = asyncio.ensure_future(self._run(app, scope))

    async def _run(self, app: AsgiApp, scope: AsgiScope) -> None:
        await app(scope, self._incoming.get, self._send)

    async def _send(self, message: AsgiMessage) -> None:
        await self.reads.wait()
        self._outgoing.put_nowait(message)

    def say(self, text: str) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self, kind: str = "http") -> None:
        self._incoming.put_nowait({"type": f"{kind}.disconnect"})

    async def hears(self) -> AsgiMessage:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._outgoing.get()

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.task

    @property
    def has_heard_all(self) -> bool:
        return self._outgoing.empty()


@asynccontextmanager
async def connected(app: AsgiApp, kind: str, token: Token | None) -> AsyncIterator[Client]:
    """A client who has come as far as an open connection."""
    headers = [] if token is None else bearer(token)
    scope: dict[str, Any] = {"type": kind, "path": "/", "headers": headers, "query_string": b"", "scheme": "http"}
    client = Client(app, scope | ({"method": "GET"} if kind == "http" else {}))
    try:
        assert (await client.hears())["type"] in {"http.response.start", "websocket.accept"}
        await client.hears()  # the first part
        yield client
    finally:
        client.task.cancel()
        await asyncio.wait({client.task})


@dataclass
class Application:
    """Sends one thing, then waits for ever, or echoes; and says how it ended."""

    required: tuple[str, ...] = ()
    content_type: bytes = b"text/event-stream; charset=utf-8"
    asks: bool = True
    clings: bool = False
    received: list[AsgiMessage] = field(default_factory=list)
    was_cancelled: bool = False

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if self.asks:
            require(scope, *self.required)
        try:
            await (self.stream(send) if scope["type"] == "http" else self.echo(receive, send))
        except asyncio.CancelledError:
            self.was_cancelled = True
            await send({"type": "http.response.body", "body": b"too late", "more_body": True})
            raise

    async def stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", self.content_type)]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.Event().wait()

    async def echo(self, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        while True:
            message = await receive()
            self.received.append(message)
            if message["type"] == "websocket.disconnect":
                if self.clings:
                    await asyncio.Event().wait()
                return
            await send({"type": "websocket.send", "text": message["text"]})


def app_of(application: AsgiApp, auth: Auth, **settings: Any) -> SessionMiddleware:
    live = LiveConnections(auth, **{"recheck_every": NEVER, "grace": NEVER, **settings})
    return SessionMiddleware(application, auth=auth, live=live)


def auth_id(auth: Auth, token: Token) -> str:
    return auth.token_manager.session_of(token).info.token_id


async def examined(auth: Auth, times: int) -> None:
    """Until so many tokens were looked at, and what came of it was done."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while auth.token_manager.explained < times:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)


async def test_a_websocket_ends_when_its_session_does(auth: Auth) -> None:
    application, token = Application(), auth.token_manager.sign_in("ann")
    async with connected(app_of(application, auth), "websocket", token) as client:
        client.say("still there?")
        assert (await client.hears())["text"] == "still there?"
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationAuthId(ANN, auth_id(auth, token)))
        assert await client.hears() == {"type": "websocket.close", "code": 4401, "reason": "invalid_token"}
        await client.ended()
    assert application.received[-1] == {"type": "websocket.disconnect", "code": 4401, "reason": "invalid_token"}
    assert not application.was_cancelled


async def test_an_event_stream_ends_with_an_event_that_says_why(auth: Auth) -> None:
    application, token = Application(), auth.token_manager.sign_in("ann")
    async with connected(app_of(application, auth), "http", token) as client:
        auth.token_manager.end(token, TokenRefusal.EXPIRED)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        last = await client.hears()
        await client.ended()
        assert client.has_heard_all  # what the application says while it is cancelled is not sent
    assert last["more_body"] is False
    event, data = last["body"].decode().strip().splitlines()
    assert event == "event: session_ended"
    problem = json.loads(data.removeprefix("data: "))
    assert (problem["code"], problem["reason"]) == ("invalid_token", "expired")
    assert last["body"].startswith(b"\n\n")
    assert last["body"].endswith(b"\n\n")
    assert application.was_cancelled


async def test_another_stream_is_broken_off_and_not_made_to_look_complete(auth: Auth) -> None:
    application = Application(content_type=b"application/octet-stream")
    token = auth.token_manager.sign_in("ann")
    async with connected(app_of(application, auth), "http", token) as client:
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await client.ended()
        assert client.has_heard_all
    assert application.was_cancelled


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_connection_whose_session_loses_a_required_scope_is_forbidden(auth: Auth, kind: str) -> None:
    token = auth.token_manager.sign_in("ann", {"notes:read", "notes:write"})
    async with connected(app_of(Application(required=("notes:read",)), auth), kind, token) as client:
        await examined(auth, 2)
        auth.token_manager.rescope(token, {"notes:read"})
        await auth.events.publish(RevokedAuthenticationScope(ANN, frozenset({"notes:write"})))  # type: ignore[arg-type]  # text will do
        await examined(auth, 3)
        assert client.has_heard_all
        auth.token_manager.rescope(token, set())
        await auth.events.publish(RevokedAuthenticationScope(ANN, frozenset({"notes:read"}), auth_id(auth, token)))  # type: ignore[arg-type]  # as above
        last = await client.hears()
        await client.ended()
    if kind == "websocket":
        assert (last["code"], last["reason"]) == (4403, "insufficient_scope")
    else:
        assert b'"missing_scopes":["notes:read"]' in last["body"]


async def test_a_scope_that_was_taken_is_not_there_when_it_is_required_for_the_first_time(auth: Auth) -> None:
    """The handshake's answer is not the last word: every look has a newer one."""
    token, written, seen = auth.token_manager.sign_in("ann", {"notes:read", "notes:write"}), [], []

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        require(scope, "notes:read")
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        while (message := await receive())["type"] == "websocket.receive":
            seen.append(authentication_of(scope))
            require(scope, "notes:write")
            written.append(message["text"])

    async with connected(app_of(app, auth), "websocket", token) as client:
        await examined(auth, 2)
        auth.token_manager.rescope(token, {"notes:read"})
        await auth.events.publish(RevokedAuthenticationScope(ANN, frozenset({"notes:write"})))  # type: ignore[arg-type]  # text will do
        await examined(auth, 3)
        client.say("too late")
        assert await client.hears() == {"type": "websocket.close", "code": 4403, "reason": "insufficient_scope"}
        await client.ended()
    assert written == []
    assert [info and set(info.scopes) for info in seen] == [{"notes:read"}]


async def test_a_scope_that_was_given_is_there_on_an_open_connection(auth: Auth) -> None:
    token = auth.token_manager.sign_in("ann", {"notes:read"})

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        require(scope, "notes:read")
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await receive()
        require(scope, "notes:write")
        await send({"type": "websocket.send", "text": "written"})

    async with connected(app_of(app, auth), "websocket", token) as client:
        await examined(auth, 2)
        auth.token_manager.rescope(token, {"notes:read", "notes:write"})
        await auth.events.publish(AnnouncementsMissed())
        await examined(auth, 3)
        client.say("write")
        assert (await client.hears())["text"] == "written"


async def test_an_answer_that_was_overtaken_by_a_newer_one_is_not_the_last_word(
    auth: Auth, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = auth.token_manager.sign_in("ann", {"notes:read", "notes:write"})
    examine, is_answered, looks = auth.token_manager.examine_token, asyncio.Event(), 0
    seen: list[AuthenticationInfo | None] = []

    async def the_second_takes_long(token: str) -> TokenStanding:
        nonlocal looks
        looks += 1
        mine, standing = looks, await examine(token)
        if mine == 2:
            await is_answered.wait()
        return standing

    monkeypatch.setattr(auth.token_manager, "examine_token", the_second_takes_long)

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        require(scope, "notes:read")
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await receive()
        seen.append(authentication_of(scope))

    async with connected(app_of(app, auth), "websocket", token) as client:
        await examined(auth, 2)
        for scopes in ({"notes:read", "notes:write"}, {"notes:read"}):
            auth.token_manager.rescope(token, scopes)
            clock.move(seconds=1)
            await auth.events.publish(RevokedAuthenticationUser(ANN))
            await examined(auth, 3)
        await examined(auth, 4)
        is_answered.set()
        for _ in range(10):
            await asyncio.sleep(0)
        client.say("who am I?")
        await client.ended()
    assert [info and set(info.scopes) for info in seen] == [{"notes:read"}]


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_requirement_while_the_connection_ends_is_refused_and_no_error(
    auth: Auth, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[LiveConnection] = []
    monkeypatch.setattr(
        "coatcheck.web.live.closing_queue.ClosingQueue.add", lambda _self, connections: waiting.extend(connections)
    )
    token, goes_on, has_written = auth.token_manager.sign_in("ann", {"notes:write"}), asyncio.Event(), False

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        nonlocal has_written
        require(scope, "notes:write")
        if kind == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
        else:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
        await goes_on.wait()
        require(scope, "notes:write")
        has_written = True

    async with connected(app_of(app, auth), kind, token) as client:
        auth.token_manager.rescope(token, set())
        await auth.events.publish(RevokedAuthenticationScope(ANN, frozenset({"notes:write"})))  # type: ignore[arg-type]  # text will do
        await examined(auth, 2)
        (connection,) = waiting
        await connection.tell()
        goes_on.set()
        await client.ended()
    assert not has_written


@pytest.mark.parametrize(
    "message",
    [
        RevokedAuthenticationUser(ANN),
        RevokedAuthenticationAuthId(ANN, "another"),
        RevokedAuthenticationUser(UserId("bob")),
    ],
)
async def test_nothing_ends_by_an_announcement_alone(auth: Auth, message: Message) -> None:
    token = auth.token_manager.sign_in("ann")
    async with connected(app_of(Application(), auth), "websocket", token) as client:
        await auth.events.publish(message)
        client.say("still there?")
        assert (await client.hears())["text"] == "still there?"


async def test_all_are_looked_at_where_announcements_may_have_been_missed(auth: Auth) -> None:
    ann, bob = auth.token_manager.sign_in("ann"), auth.token_manager.sign_in("bob")
    app = app_of(Application(), auth)
    async with connected(app, "websocket", ann) as ann_s, connected(app, "http", bob) as bob_s:
        await examined(auth, 4)
        for token in (ann, bob):
            auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(AnnouncementsMissed())
        assert (await ann_s.hears())["type"] == "websocket.close"
        assert (await bob_s.hears())["more_body"] is False


async def test_of_many_sessions_of_one_user_that_end_each_connection_is_looked_at_once(auth: Auth) -> None:
    """Revoking by method announces each session; a walk through all of the user's connections for each is quadratic."""
    asked, many = 0, 100

    class Connection:
        user_id, required_scopes = "ann", frozenset[str]()

        def __init__(self) -> None:
            self.token = auth.token_manager.sign_in("ann")

        @property
        def session_id(self) -> str:
            nonlocal asked
            asked += 1
            return auth_id(auth, self.token)

        def confirm(self, _answer: AuthenticationInfo, _asked_at: float) -> None: ...

    live, connections = LiveConnections(auth), [Connection() for _ in range(many)]
    for connection in connections:
        live.add(cast("LiveConnection", connection))
    await examined(auth, many)
    messages = [RevokedAuthenticationAuthId(ANN, connection.session_id) for connection in connections]
    asked = 0
    await auth.events.publish(*messages)
    await examined(auth, 2 * many)
    assert auth.token_manager.explained == 2 * many
    assert asked <= 5 * many


async def test_connections_of_a_user_whose_announcements_may_have_been_missed_are_looked_at(auth: Auth) -> None:
    ann, bob = auth.token_manager.sign_in("ann"), auth.token_manager.sign_in("bob")
    app = app_of(Application(), auth)
    async with connected(app, "websocket", ann) as ann_s, connected(app, "websocket", bob):
        await examined(auth, 4)
        auth.token_manager.end(ann, TokenRefusal.UNKNOWN)
        await auth.events.publish(AnnouncementsMissed(ANN))
        assert (await ann_s.hears())["type"] == "websocket.close"
        assert auth.token_manager.explained == 5


async def test_a_session_that_ends_between_the_validation_and_the_watch_is_noticed(auth: Auth) -> None:
    token = auth.token_manager.sign_in("ann")

    class EndsAtOnce(Application):
        async def echo(self, receive: Receive, send: Send) -> None:
            auth.token_manager.end(token, TokenRefusal.UNKNOWN)  # and the announcement has gone by
            await super().echo(receive, send)

    async with connected(app_of(EndsAtOnce(), auth), "websocket", token) as client:
        assert (await client.hears())["code"] == 4401


async def test_without_announcements_there_is_a_bound(auth: Auth) -> None:
    token = auth.token_manager.sign_in("ann")
    app = app_of(Application(), auth, recheck_every=timedelta(milliseconds=1))
    async with connected(app, "websocket", token) as client:
        await examined(auth, 4)
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        assert (await client.hears())["code"] == 4401


async def test_a_deadline_ends_an_open_connection(auth: Auth) -> None:
    auth.token_manager.ends_in_us = 1000
    token = auth.token_manager.sign_in("ann")
    async with connected(app_of(Application(), auth), "websocket", token) as client:
        await examined(auth, 2)
        auth.token_manager.end(token, TokenRefusal.EXPIRED)
        assert (await client.hears())["code"] == 4401


async def test_an_outage_ends_nothing_at_once_and_is_looked_after(auth: Auth, clock: Clock) -> None:
    token = auth.token_manager.sign_in("ann")
    async with connected(app_of(Application(), auth), "websocket", token) as client:
        auth.token_manager.is_down = True
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await examined(auth, 2)
        for looks in range(3, 10):
            clock.move(seconds=2)
            await examined(auth, looks)
        client.say("still there?")
        assert (await client.hears())["text"] == "still there?"
        auth.token_manager.is_down = False
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        clock.move(seconds=2)
        assert (await client.hears())["code"] == 4401


async def test_an_outage_that_lasts_ends_open_connections_and_calls_nobody_signed_out(auth: Auth, clock: Clock) -> None:
    application, token = Application(), auth.token_manager.sign_in("ann")
    app = app_of(application, auth, unanswered_timeout=timedelta(seconds=60))
    async with connected(app, "websocket", token) as client, connected(app, "http", token) as stream:
        await examined(auth, 4)
        auth.token_manager.is_down = True
        clock.move(seconds=50)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await examined(auth, 5)
        client.say("still there?")
        assert (await client.hears())["text"] == "still there?"
        clock.move(seconds=11)
        assert await client.hears() == {"type": "websocket.close", "code": 1013, "reason": "store_unavailable"}
        assert await stream.hears() == {"type": "http.response.body", "body": b"", "more_body": False}
        await client.ended()
        await stream.ended()
    assert application.received[-1] == {"type": "websocket.disconnect", "code": 1013, "reason": "store_unavailable"}
    assert application.was_cancelled


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_the_time_counts_from_the_validation_and_not_from_when_something_was_sent(
    auth: Auth, clock: Clock, kind: str
) -> None:
    token, may_begin = auth.token_manager.sign_in("ann"), asyncio.Event()

    async def takes_its_time(scope: AsgiScope, receive: Receive, send: Send) -> None:
        await may_begin.wait()
        await Application()(scope, receive, send)

    app = app_of(takes_its_time, auth, unanswered_timeout=timedelta(seconds=60))
    client = Client(app, scope_of(kind, headers=bearer(token)))
    await examined(auth, 1)
    auth.token_manager.is_down = True
    clock.move(seconds=61)
    may_begin.set()
    assert (await client.hears())["type"] in {"http.response.start", "websocket.accept"}
    await client.ended()
    assert auth.token_manager.explained == 2


async def test_an_answer_in_between_begins_the_time_anew(auth: Auth, clock: Clock) -> None:
    token = auth.token_manager.sign_in("ann")
    app = app_of(Application(), auth, unanswered_timeout=timedelta(seconds=60))
    async with connected(app, "websocket", token) as client:
        await examined(auth, 2)
        for looks, is_down in ((3, True), (4, False), (5, True)):
            auth.token_manager.is_down = is_down
            clock.move(seconds=50)
            await auth.events.publish(RevokedAuthenticationUser(ANN))
            await examined(auth, looks)
            auth.token_manager.is_down = False
            client.say("still there?")
            assert (await client.hears())["text"] == "still there?"


class BareConnection:
    """As much of a live connection as the watch needs, with a session of its own."""

    user_id, required_scopes, client_answers = "ann", frozenset[str](), False

    def __init__(self, auth: Auth) -> None:
        self.token = auth.token_manager.sign_in("ann")
        self.session_id = auth_id(auth, self.token)
        self.confirmed_at = asyncio.get_running_loop().time()
        self.problem: Problem | None = None

    def confirm(self, _answer: AuthenticationInfo, asked_at: float) -> None:
        self.confirmed_at = asked_at

    def stop(self, problem: Problem) -> None:
        self.problem = problem

    async def tell(self) -> None: ...

    def leave(self, _grace_seconds: float) -> None: ...


async def watched_over(auth: Auth, live: LiveConnections, count: int) -> list[BareConnection]:
    connections = [BareConnection(auth) for _ in range(count)]
    for connection in connections:
        live.add(cast("LiveConnection", connection))
    await examined(auth, count)
    return connections


async def test_thousands_that_meet_an_outage_are_not_all_asked_for_and_end_in_time(auth: Auth, clock: Clock) -> None:
    live = LiveConnections(auth, unanswered_timeout=timedelta(seconds=60))
    connections = await watched_over(auth, live, 3000)
    auth.token_manager.is_down = True
    for _ in range(29):  # each is due several times
        clock.move(seconds=2)
        for _ in range(50):
            await asyncio.sleep(0)
    assert auth.token_manager.explained - 3000 < 1000
    assert len(live) == 3000
    clock.move(seconds=3)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(live):  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0)
    assert {one.problem and one.problem.code for one in connections} == {"store_unavailable"}


async def test_of_thousands_those_that_were_revoked_in_an_outage_end_after_it(auth: Auth, clock: Clock) -> None:
    live = LiveConnections(auth, unanswered_timeout=timedelta(seconds=60))
    connections = await watched_over(auth, live, 3000)
    auth.token_manager.is_down = True
    clock.move(seconds=20)
    for _ in range(100):
        await asyncio.sleep(0)
    for connection in connections[::3]:
        auth.token_manager.end(connection.token, TokenRefusal.UNKNOWN)
    auth.token_manager.is_down = False
    before = auth.token_manager.explained
    clock.move(seconds=2.2)  # the longest pause between two probes
    await examined(auth, before + 3000)
    assert [one.problem and one.problem.code for one in connections] == ["invalid_token", None, None] * 1000
    assert len(live) == 2000


async def test_what_is_announced_is_looked_at_before_all_others(auth: Auth) -> None:
    live = LiveConnections(auth)
    connections = await watched_over(auth, live, 3000)
    ended = connections[-1]
    auth.token_manager.end(ended.token, TokenRefusal.UNKNOWN)
    await auth.events.publish(AnnouncementsMissed(), RevokedAuthenticationAuthId(ANN, ended.session_id))
    await examined(auth, 3001)
    assert ended.problem is not None
    assert auth.token_manager.explained < 6000


async def test_an_outage_may_be_allowed_to_last(auth: Auth, clock: Clock) -> None:
    token = auth.token_manager.sign_in("ann")
    live = LiveConnections(auth, unanswered_timeout=None)
    async with connected(SessionMiddleware(Application(), auth=auth, live=live), "websocket", token) as client:
        await examined(auth, 2)
        auth.token_manager.is_down = True
        clock.move(days=1)
        await examined(auth, 3)
        client.say("still there?")
        assert (await client.hears())["text"] == "still there?"


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_from_the_look_that_finds_its_end_neither_side_hears_of_the_other(
    auth: Auth, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands may be told before: until then nothing goes either way."""
    waiting: list[LiveConnection] = []
    monkeypatch.setattr(
        "coatcheck.web.live.closing_queue.ClosingQueue.add", lambda _self, connections: waiting.extend(connections)
    )
    token, go_on, heard = auth.token_manager.sign_in("ann"), asyncio.Event(), []

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        require(scope)
        if scope["type"] == "http":
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            await go_on.wait()
            await send({"type": "http.response.body", "body": b"data: 2\n\n", "more_body": False})
        else:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            await go_on.wait()
            await send({"type": "websocket.send", "text": "still there?"})
            heard.append(await receive())

    async with connected(app_of(app, auth), kind, token) as client:
        client.say("delete everything")
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await examined(auth, 2)
        go_on.set()
        if kind == "websocket":  # an application that ends by itself is not waited with
            for _ in range(10):
                await asyncio.sleep(0)
            assert client.has_heard_all
            assert not heard
            (connection,) = waiting
            await connection.tell()
            connection.leave(PATIENCE_SECONDS)
        last = await client.hears()
        await client.ended()
        assert client.has_heard_all
    if kind == "websocket":
        assert last["code"] == 4401
        assert [message["type"] for message in heard] == ["websocket.disconnect"]
    else:
        assert b"session_ended" in last["body"]


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_an_application_that_has_ended_does_not_wait_for_a_client_that_reads_nothing(
    auth: Auth, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[LiveConnection] = []
    monkeypatch.setattr(
        "coatcheck.web.live.closing_queue.ClosingQueue.add", lambda _self, connections: waiting.extend(connections)
    )
    token, may_end = auth.token_manager.sign_in("ann"), asyncio.Event()

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        ends = asyncio.ensure_future(may_end.wait())
        application = asyncio.ensure_future(Application()(scope, receive, send))
        await asyncio.wait({ends, application}, return_when=asyncio.FIRST_COMPLETED)
        application.cancel()

    async with connected(app_of(app, auth), kind, token) as client:
        client.reads.clear()
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await examined(auth, 2)
        may_end.set()
        for _ in range(10):
            await asyncio.sleep(0)
        (connection,) = waiting
        assert not client.task.done()
        connection.leave(0.001)
        await client.ended()


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_server_that_tells_the_application_at_once_has_it_leave_no_sooner(
    auth: Auth, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvicorn lets `receive` return as soon as the client was told; other clients are told before that has effects."""
    waiting: list[LiveConnection] = []
    monkeypatch.setattr(
        "coatcheck.web.live.closing_queue.ClosingQueue.add", lambda _self, connections: waiting.extend(connections)
    )
    token, heard = auth.token_manager.sign_in("ann"), []

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        application = asyncio.ensure_future(Application()(scope, receive, send))
        if scope["type"] == "http":
            heard.append(await receive())
        await application

    async with connected(app_of(app, auth), kind, token) as client:
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await examined(auth, 2)
        (connection,) = waiting
        await connection.tell()
        client.leave(kind)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not heard
        assert not client.task.done()
        connection.leave(PATIENCE_SECONDS)
        await client.ended()


async def test_an_application_that_waits_with_a_time_limit_is_told_and_may_use_time_limits_afterwards(
    auth: Auth,
) -> None:
    token, steps = auth.token_manager.sign_in("ann"), []

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        require(scope)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        async with asyncio.timeout(PATIENCE_SECONDS):
            steps.append((await receive())["type"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        steps.append((await asyncio.wait_for(receive(), PATIENCE_SECONDS))["type"])

    async with connected(app_of(app, auth), "websocket", token) as client:
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await client.ended()
    assert steps == ["websocket.disconnect"] * 2


async def test_an_application_that_stops_waiting_is_not_kept(auth: Auth) -> None:
    """A message that nobody waits for any more is for whoever asks next."""
    token, waits = auth.token_manager.sign_in("ann"), asyncio.Event()

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        require(scope)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        task = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        waits.set()
        await send({"type": "websocket.send", "text": (await receive())["text"]})

    async with connected(app_of(app, auth), "websocket", token) as client:
        await waits.wait()
        client.say("hello again")
        assert (await client.hears())["text"] == "hello again"


async def test_each_of_two_tasks_that_wait_for_the_end_may_stop_alone(auth: Auth) -> None:
    token, is_stopped, has_stopped = auth.token_manager.sign_in("ann"), asyncio.Event(), asyncio.Event()
    heard: list[AsgiMessage] = []

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        require(scope)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await is_stopped.wait()
        one, other = asyncio.ensure_future(receive()), asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait({one})
        has_stopped.set()
        heard.append(await other)

    async with connected(app_of(app, auth), "websocket", token) as client:
        await examined(auth, 2)
        client.reads.clear()  # so that the application does not leave yet
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await examined(auth, 3)
        is_stopped.set()
        await has_stopped.wait()
        client.reads.set()
        await client.ended()
    assert [message["type"] for message in heard] == ["websocket.disconnect"]


@pytest.mark.parametrize(("kind", "does"), [("websocket", "sends"), ("websocket", "receives"), ("http", "sends")])
async def test_an_application_that_pauses_only_for_its_client_keeps_nobody_from_ending_it(
    auth: Auth, kind: str, does: str
) -> None:
    """`while True: await send(chunk)`: what slows it down is that the client reads no faster."""
    token, ran_through = auth.token_manager.sign_in("ann"), False

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        nonlocal ran_through
        require(scope)
        await send({"type": "http.response.start", "status": 200} if kind == "http" else {"type": "websocket.accept"})
        part: AsgiMessage = {"type": "http.response.body", "body": b"x", "more_body": True}
        for _ in range(100_000):  # for ever, but for a test that fails
            if does == "receives":
                await receive()
            else:
                await send(part if kind == "http" else {"type": "websocket.send", "text": "x"})
        ran_through = True

    async def drained(_message: AsgiMessage) -> None:
        await asyncio.sleep(0)

    async def says_much() -> AsgiMessage:
        await asyncio.sleep(0)
        return {"type": "websocket.receive", "text": "x"}

    wrapped = app_of(app, auth, grace=timedelta(milliseconds=1))
    task = asyncio.ensure_future(wrapped(scope_of(kind, headers=bearer(token)), says_much, drained))
    await examined(auth, 2)
    auth.token_manager.end(token, TokenRefusal.UNKNOWN)
    await auth.events.publish(RevokedAuthenticationUser(ANN))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await task
    assert not ran_through


async def test_an_application_that_does_not_clean_up_in_time_is_cancelled(auth: Auth) -> None:
    application, token = Application(clings=True), auth.token_manager.sign_in("ann")
    app = app_of(application, auth, grace=timedelta(milliseconds=1))
    async with connected(app, "websocket", token) as client:
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await client.ended()
    assert application.was_cancelled


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_client_that_reads_nothing_is_ended_too(auth: Auth, kind: str) -> None:
    application, token = Application(clings=True), auth.token_manager.sign_in("ann")
    app = app_of(application, auth, grace=timedelta(milliseconds=1))
    async with connected(app, kind, token) as client:
        client.reads.clear()
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await client.ended()


async def test_traffic_counts_as_use_where_the_route_says_so(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coatcheck.web.live.revalidation._USE_SECONDS", 3600.0)
    uses: list[str] = []
    explain = auth.token_manager.explain_token

    async def counted(token: str) -> AuthenticationInfo | TokenRefusal:
        uses.append(token)
        return await explain(token)

    async def examined_only(token: str) -> TokenStanding:
        return TokenStanding(await explain(token))

    monkeypatch.setattr(auth.token_manager, "explain_token", counted)
    monkeypatch.setattr(auth.token_manager, "examine_token", examined_only)

    class Chat(Application):
        async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/":
                traffic_is_use(scope)
            await super().__call__(scope, receive, send)

    token = auth.token_manager.sign_in("ann")
    async with connected(app_of(Chat(), auth), "websocket", token) as client:
        assert uses == [token]  # the handshake
        for _ in range(3):  # within one step of the resolution
            client.say("hello")
            await client.hears()
        await examined(auth, 3)
        assert uses == [token] * 2
    async with connected(app_of(Application(), auth), "websocket", token) as client:
        client.say("hello")
        await client.hears()
        await examined(auth, 5)
        assert uses == [token] * 3


async def test_while_a_use_is_written_down_another_is_not_begun(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs would else have ten of them a second under way, of each connection."""
    monkeypatch.setattr("coatcheck.web.live.revalidation._USE_SECONDS", 0.0)
    token, answers, begun = auth.token_manager.sign_in("ann"), asyncio.Event(), 0
    explain = auth.token_manager.explain_token

    async def hangs(token: str) -> AuthenticationInfo | TokenRefusal:
        nonlocal begun
        begun += 1
        await answers.wait()
        if begun == 1:
            raise StoreUnavailable("it took too long")
        return await explain(token)

    async def chat(scope: AsgiScope, receive: Receive, send: Send) -> None:
        traffic_is_use(scope)
        await Application()(scope, receive, send)

    async def echoed(client: Client) -> None:
        client.say("hello")
        assert (await client.hears())["text"] == "hello"
        await asyncio.sleep(0)

    async with connected(app_of(chat, auth), "websocket", token) as client:
        await examined(auth, 2)
        monkeypatch.setattr(auth.token_manager, "explain_token", hangs)
        for _ in range(3):
            await echoed(client)
        assert begun == 1
        answers.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while begun == 1:
                await echoed(client)


async def test_a_use_that_is_refused_ends_the_connection(auth: Auth) -> None:
    token = auth.token_manager.sign_in("ann")

    async def chat(scope: AsgiScope, receive: Receive, send: Send) -> None:
        traffic_is_use(scope)
        await Application()(scope, receive, send)

    async with connected(app_of(chat, auth), "websocket", token) as client:
        await examined(auth, 2)
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        client.say("hello")
        assert (await client.hears())["text"] == "hello"
        assert (await client.hears())["code"] == 4401


async def test_an_application_that_serves_everybody_is_left_alone(auth: Auth) -> None:
    token = auth.token_manager.sign_in("ann")
    async with connected(app_of(Application(asks=False), auth), "websocket", token) as client:
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        client.say("still there?")
        assert (await client.hears())["text"] == "still there?"


async def test_an_application_that_asks_after_the_connection_is_open_is_watched_from_then_on(auth: Auth) -> None:
    token = auth.token_manager.sign_in("ann")

    async def asks_late(scope: AsgiScope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        assert authentication_of(scope) is not None
        await send({"type": "websocket.send", "text": "hello"})
        await receive()

    async with connected(app_of(asks_late, auth), "websocket", token) as client:
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        assert (await client.hears())["code"] == 4401


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("receives", ["before it asks", "after it has asked", "never"])
@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_an_application_that_asks_late_and_sends_nothing_any_more_is_watched_too(
    auth: Auth, kind: str, receives: str, in_thread: bool
) -> None:
    """As frameworks have it: `Depends` in a thread, a task of its own that receives."""
    token, receiving = auth.token_manager.sign_in("ann"), []

    async def asks_late(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if kind == "websocket":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
        else:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        if receives == "before it asks":
            receiving.append(asyncio.ensure_future(receive()))
            await asyncio.sleep(0)
        if in_thread:
            await asyncio.to_thread(require, scope)
        else:
            require(scope)
        if receives == "after it has asked":
            await receive()
        await asyncio.Event().wait()

    live = LiveConnections(auth, recheck_every=NEVER, grace=timedelta(milliseconds=1))
    async with connected(SessionMiddleware(asks_late, auth=auth, live=live), kind, token) as client:
        await examined(auth, 2)
        assert len(live) == 1
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        if kind == "websocket":
            assert (await client.hears())["code"] == 4401
        await client.ended()
    for task in receiving:
        task.cancel()
    assert len(live) == 0


async def test_an_application_that_asks_when_all_is_over_is_not_watched(auth: Auth) -> None:
    scopes: list[AsgiScope] = []

    async def goes(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})

    live = LiveConnections(auth)
    app = SessionMiddleware(goes, auth=auth, live=live)
    async with connected(app, "websocket", auth.token_manager.sign_in("ann")) as client:
        await client.ended()
        require(scopes[0])
        await asyncio.sleep(0)
        assert len(live) == 0


@asynccontextmanager
async def with_its_head_only(app: AsgiApp, token: Token) -> AsyncIterator[Client]:
    """A client who has heard that there is a stream, and nothing of it."""
    client = Client(app, scope_of("http", headers=bearer(token)))
    try:
        assert (await client.hears())["type"] == "http.response.start"
        yield client
    finally:
        client.task.cancel()
        await asyncio.wait({client.task})


async def test_an_event_stream_that_has_nothing_to_say_yet_ends_too(auth: Auth) -> None:
    token = auth.token_manager.sign_in("ann")

    async def silent(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        require(scope)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await asyncio.Event().wait()

    async with with_its_head_only(app_of(silent, auth), token) as client:
        await examined(auth, 2)
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        last = await client.hears()
        await client.ended()
    assert b"event: session_ended" in last["body"]
    assert last["more_body"] is False


async def test_events_that_are_sent_as_a_whole_arrive_as_they_are(auth: Auth) -> None:
    """Of a length that was announced, nothing can be left out and nothing added."""
    token, is_ended = auth.token_manager.sign_in("ann"), asyncio.Event()

    async def whole(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        require(scope)
        headers = [(b"content-type", b"text/event-stream"), (b"Content-Length", b"9")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await is_ended.wait()
        await send({"type": "http.response.body", "body": b"data: 1\n\n"})

    async with with_its_head_only(app_of(whole, auth), token) as client:
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        is_ended.set()
        assert await client.hears() == {"type": "http.response.body", "body": b"data: 1\n\n"}
        await client.ended()
        assert client.has_heard_all


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("http", "the last part is sent"),
        ("http", "the client has gone"),
        ("websocket", "the application closes"),
        ("websocket", "the client has gone"),
    ],
)
async def test_an_application_whose_connection_is_over_may_go_on_as_it_likes(auth: Auth, kind: str, ends: str) -> None:
    """A background task that sends a mail, or writes down what has changed."""
    token, is_over, goes_on, has_done_all = auth.token_manager.sign_in("ann"), asyncio.Event(), asyncio.Event(), False

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        nonlocal has_done_all
        require(scope)
        if kind == "http":
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        else:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
        if ends == "the last part is sent":
            await send({"type": "http.response.body", "body": b"data: 2\n\n"})
        elif ends == "the application closes":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await receive()
        is_over.set()
        await goes_on.wait()
        has_done_all = True

    live = LiveConnections(auth, grace=timedelta(milliseconds=1))
    async with connected(SessionMiddleware(app, auth=auth, live=live), kind, token) as client:
        if ends == "the client has gone":
            await examined(auth, 2)
            client.leave(kind)
        else:
            await client.hears()
        await is_over.wait()
        assert len(live) == 0
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        for _ in range(10):
            await asyncio.sleep(0)
        goes_on.set()
        await client.ended()
        assert client.has_heard_all
    assert has_done_all


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_a_connection_that_is_over_is_forgotten(auth: Auth, kind: str) -> None:
    live = LiveConnections(auth)
    app = SessionMiddleware(Application(), auth=auth, live=live)
    async with connected(app, kind, auth.token_manager.sign_in("ann")):
        assert len(live) == 1
        await examined(auth, 2)
    assert len(live) == 0
    assert not live._loops.here()._watched  # noqa: SLF001 (nothing is left behind for users who come once)


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_an_end_that_comes_too_late_leaves_the_task_alone(auth: Auth, kind: str) -> None:
    """The application ends by itself while its client is told: what its task does after that is no business of ours."""
    token, may_end, outside = auth.token_manager.sign_in("ann"), asyncio.Event(), asyncio.Event()

    async def inner(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        require(scope)
        if scope["type"] == "http":
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            )
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        else:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
        await may_end.wait()

    wrapped = app_of(inner, auth, grace=timedelta(seconds=PATIENCE_SECONDS))

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        await wrapped(scope, receive, send)
        await outside.wait()  # as a middleware around ours that is not done yet

    async with connected(app, kind, token) as client:
        await examined(auth, 2)
        client.reads.clear()  # telling the client takes a while
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await examined(auth, 3)
        may_end.set()
        for _ in range(5):
            await asyncio.sleep(0)
        client.reads.set()
        await client.hears()
        for _ in range(5):
            await asyncio.sleep(0)
        outside.set()
        await client.ended()


async def test_the_server_may_still_cancel(auth: Auth) -> None:
    application, token = Application(clings=True), auth.token_manager.sign_in("ann")
    async with connected(app_of(application, auth), "websocket", token) as client:
        auth.token_manager.end(token, TokenRefusal.UNKNOWN)
        await auth.events.publish(RevokedAuthenticationUser(ANN))
        await client.hears()
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.task


async def test_no_token_is_shown(auth: Auth) -> None:
    token, shown = auth.token_manager.sign_in("ann"), []

    class Spying(LiveConnections):
        def add(self, connection: Any) -> None:
            shown.append(repr(connection))
            super().add(connection)

    app = SessionMiddleware(Application(), auth=auth, live=Spying(auth))
    async with connected(app, "websocket", token):
        assert shown == [f"LiveConnection(user_id='ann', session_id='{auth_id(auth, token)}')"]


@pytest.mark.parametrize(
    "settings",
    [
        {"recheck_every": timedelta(0)},
        {"recheck_every": None},
        {"unanswered_timeout": timedelta(0)},
        {"grace": timedelta(-1)},
        {"grace": 5},
    ],
)
def test_times_that_are_none_are_refused_by_name(auth: Auth, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        LiveConnections(auth, **settings)
