"""A listening program is signed out at once by the server's own answer, and by nothing else."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from coatcheck.client import AsyncClientSessionManager
from coatcheck.client.event_lines import MAX_BYTES, Event, EventLines
from coatcheck.wire import auth_success_of
from tests.client.programs import PATIENCE_SECONDS, TOKEN, Program, ada, bob
from tests.examples.notes_server import PEPPER, no_errors_in, pod_beside
from tests.servers.app import AppServer
from tests.servers.faults import Fault
from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType
    from typing import Self

    import httpx2

    from coatcheck import AuthServices
    from tests.client.conftest import NewProgram
    from tests.servers.faults import FaultyServer

pytestmark = pytest.mark.usefixtures("library")

LIVE = b"event: session_live\ndata: {}\n\n"
PROBLEM = b'{"status":401,"code":"invalid_token","reason":"expired"}'
ENDED = b"event: session_ended\ndata: " + PROBLEM + b"\n\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
REFUSAL = (
    b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(PROBLEM)
) + PROBLEM


class StreamServer:
    """Takes requests, which the test answers."""

    def __init__(self) -> None:
        self.port = free_port()
        self.requests: asyncio.Queue[tuple[str, asyncio.StreamWriter]] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # closed, or interrupted before it had asked
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.put_nowait((head.decode().lower(), writer))

    async def asked(self) -> tuple[str, asyncio.StreamWriter]:
        """The head of the next request, and the writer for its answer."""
        return await asyncio.wait_for(self.requests.get(), PATIENCE_SECONDS)

    async def stream(self) -> asyncio.StreamWriter:
        """The next request, answered with a stream that is live."""
        _, writer = await self.asked()
        await say(writer, STREAM + LIVE)
        return writer


async def say(writer: asyncio.StreamWriter, text: bytes) -> None:
    writer.write(text)
    await writer.drain()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 (it may come true in another thread)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(program: Program) -> AsyncIterator[None]:
    """Either kind of program, listening."""
    block: Any = program.manager.listening()
    if isinstance(program.manager, AsyncClientSessionManager):
        async with block:
            yield
        return
    await asyncio.to_thread(block.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(block.__exit__, None, None, None)


@pytest.fixture
async def live() -> AsyncIterator[StreamServer]:
    async with StreamServer() as live:
        yield live


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coatcheck.client.listening.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("coatcheck.client.listening.LONGEST_PAUSE_SECONDS", 0.002)


@pytest.fixture
async def program(kind: str, live: StreamServer) -> AsyncIterator[Program]:
    """A program that is signed in."""
    program = Program(kind, f"http://127.0.0.1:{live.port}")
    await program.sign_in()
    yield program
    await program.close()


async def test_a_listening_program_hears_of_the_end_and_the_reason_without_a_request(
    program: Program, live: StreamServer
) -> None:
    async with listening(program):
        head, writer = await live.asked()
        assert head.startswith("get /session/events ")
        assert f"authorization: bearer {TOKEN}".lower() in head
        assert "accept: text/event-stream" in head
        await say(writer, STREAM + LIVE + ENDED)
        await until(lambda: program.reasons == ["expired"])
    assert program.manager.auth_info is program.storage.read() is None
    assert len(program.required) == 1


async def test_an_event_that_arrives_in_parts_is_heard(program: Program, live: StreamServer) -> None:
    async with listening(program):
        writer = await live.stream()
        for at in range(0, len(ENDED), 7):
            await say(writer, ENDED[at : at + 7])
            await asyncio.sleep(0)
        await until(lambda: program.reasons == ["expired"])


async def test_a_refusal_in_place_of_the_stream_ends_the_session(program: Program, live: StreamServer) -> None:
    async with listening(program):
        _, writer = await live.asked()
        await say(writer, REFUSAL)
        await until(lambda: program.reasons == ["expired"])


async def test_the_next_answer_on_the_connection_of_a_refusal_is_not_touched(
    program: Program, live: StreamServer, kind: str
) -> None:
    """The refusal was read to its end, so httpx may have given the connection to another request."""
    loop = asyncio.get_running_loop()
    following: list[tuple[asyncio.Task[httpx2.Response], asyncio.StreamWriter]] = []

    async def follow() -> None:
        answer = asyncio.create_task(program.get("/public"))
        _, writer = await live.asked()
        following.append((answer, writer))

    def follow_at_once(_: object) -> object:
        if kind == "async":
            return follow()
        return asyncio.run_coroutine_threadsafe(follow(), loop).result(PATIENCE_SECONDS)

    program.manager.listen(follow_at_once)
    async with listening(program):
        _, refused = await live.asked()
        await say(refused, REFUSAL.replace(b"Connection: close\r\n", b""))
        await until(lambda: bool(following))
    ((answer, writer),) = following
    await say(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert (await answer).text == "ok"


@pytest.mark.parametrize("end", [b"", b"event: other\ndata: {}\n\n", b":\n\n", b"data: " + b"x" * (MAX_BYTES + 1)])
async def test_a_broken_stream_is_opened_again_and_ends_no_session(
    program: Program, live: StreamServer, end: bytes
) -> None:
    async with listening(program):
        for _ in range(3):
            writer = await live.stream()
            await say(writer, end)
            writer.transport.abort() if not end else writer.close()
        await live.stream()
    assert program.changes == []


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
async def test_each_fault_of_the_stream(
    new_program: NewProgram, server: FaultyServer, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault is Fault.TIMEOUT:
        monkeypatch.setattr("coatcheck.client.listening.OPEN_SECONDS", 0.1)
    assert server.elsewhere is not None
    await server.elsewhere.fail(Fault.OURS_401)
    program = new_program()
    await program.sign_in()
    await server.fail(fault)
    async with listening(program):
        if fault.ends_session:
            await until(lambda: program.reasons == ["revoked"])
            return
        if fault is not Fault.REFUSED:
            await until(lambda: [request.path for request in server.requests].count("/session/events") >= 3)
        await server.heal()
        asked = len(server.requests)
        await until(lambda: len(server.requests) > asked)
    assert program.changes == []
    assert program.manager.is_authenticated


async def test_a_silent_connection_is_opened_again(
    program: Program, live: StreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coatcheck.client.listening.SILENCE_SECONDS", 0.05)
    async with listening(program):
        await live.stream()
        await live.stream()
    assert program.changes == []


async def test_opening_a_stream_has_a_shorter_limit_than_silence(
    program: Program, live: StreamServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs keeps a thread for as long as the head of its answer may take."""
    monkeypatch.setattr("coatcheck.client.listening.OPEN_SECONDS", 0.05)
    give_time_to_begin(program)
    another = Program(kind, f"http://127.0.0.1:{live.port}")
    await another.sign_in(bob())
    async with listening(program):
        writer = await live.stream()
        async with listening(another):
            for _ in range(5):  # each of which has taken so long
                head, _ = await live.asked()
                assert bob().token.lower() in head, "silence is borne for longer"
        await say(writer, ENDED)
        await until(lambda: program.reasons == ["expired"])
    await another.close()


def give_time_to_begin(program: Program) -> None:
    """Apply the limits of a request only after the head of its answer has arrived."""
    asked_for: dict[httpx2.Request, dict[str, float]] = {}

    def lift(request: httpx2.Request) -> None:
        limits = request.extensions["timeout"]
        asked_for[request] = dict(limits)
        limits.update(dict.fromkeys(limits, PATIENCE_SECONDS))

    def restore(response: httpx2.Response) -> None:
        response.request.extensions["timeout"].update(asked_for.pop(response.request))

    async def lift_async(request: httpx2.Request) -> None:
        lift(request)

    async def restore_async(response: httpx2.Response) -> None:
        restore(response)

    if isinstance(program.manager, AsyncClientSessionManager):
        program.http.event_hooks = {"request": [lift_async], "response": [restore_async]}
    else:
        program.http.event_hooks = {"request": [lift], "response": [restore]}


async def test_a_new_sign_in_is_listened_for_in_place_of_the_old_session(program: Program, live: StreamServer) -> None:
    async with listening(program):
        await live.stream()
        await program.sign_in(bob())
        head, writer = await live.asked()
        while bob().token.lower() not in head:
            head, writer = await live.asked()
        await say(writer, STREAM + ENDED)
        await until(lambda: program.reasons == ["expired"])


async def test_listening_begins_with_the_sign_in(kind: str, live: StreamServer) -> None:
    program = Program(kind, f"http://127.0.0.1:{live.port}")
    async with listening(program):
        await program.sign_in()
        writer = await live.stream()
        await say(writer, ENDED)
        await until(lambda: program.reasons == ["expired"])
        await program.sign_in(bob())
        head, _ = await live.asked()
        assert bob().token.lower() in head
    await program.close()


async def test_a_sign_out_of_this_program_is_not_reported_as_the_servers(program: Program, live: StreamServer) -> None:
    """The stream may say that the session has ended before the sign-out has its answer."""
    async with listening(program):
        writer = await live.stream()
        signing_out = asyncio.create_task(program.do("sign_out_device"))
        head, answer = await live.asked()
        while not head.startswith("post /session/sign-out "):
            await say(answer, REFUSAL)
            head, answer = await live.asked()
        await say(writer, ENDED)
        body = b'{"ended":1}'
        await say(answer, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n" + body)
        assert await signing_out is True
    assert (program.reasons, program.required) == (["signed-out"], [])


async def test_a_callback_that_fails_does_not_end_the_listening(program: Program, live: StreamServer) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("of the program's own")

    program.manager.listen(fail)
    async with listening(program):
        await say(await live.stream(), ENDED)
        await until(lambda: program.reasons == ["expired"])
        await program.sign_in(bob())
        await live.stream()


async def test_listening_stops_when_the_block_is_left(program: Program, live: StreamServer) -> None:
    async with listening(program):
        writer = await live.stream()
    with suppress(ConnectionResetError):  # it has closed the stream
        await say(writer, ENDED)
    assert (await program.do("restore")) is None
    assert program.manager.is_authenticated
    assert live.requests.empty()


async def test_an_answer_after_the_block_ends_no_session_and_calls_no_listener(
    kind: str, live: StreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that waits for an answer outlives the block. The next request hears of the end."""
    monkeypatch.setattr("coatcheck.client.listening_thread.STOP_SECONDS", 0.0)
    program = Program(kind, f"http://127.0.0.1:{live.port}", mode="cookie")
    await program.sign_in(ada(token=""))
    async with listening(program):
        await say(await live.stream(), ENDED)
        head, writer = await live.asked()
        assert head.startswith("get /session/status ")
    with suppress(ConnectionResetError):  # a task has closed it
        await say(writer, REFUSAL)
    for thread in threading.enumerate():
        if thread.name == "coatcheck-listening":
            await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
    assert program.manager.is_authenticated
    assert program.changes == []
    await program.close()


async def test_an_error_in_the_block_is_raised_unchanged(live: StreamServer) -> None:
    async with AsyncClientSessionManager(f"http://127.0.0.1:{live.port}") as sessions:
        with pytest.raises(ValueError, match="its own"):
            async with sessions.listening():
                raise ValueError("its own")


async def test_a_listening_block_can_be_cancelled(live: StreamServer) -> None:
    async with AsyncClientSessionManager(f"http://127.0.0.1:{live.port}") as sessions:
        await sessions.update_signed_in_user(ada())
        with anyio.CancelScope() as scope:
            async with sessions.listening():
                await live.stream()
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught


def test_events_are_parsed_wherever_the_parts_end() -> None:
    text = b": hi\r\nevent: a\r\ndata: 1\r\ndata: 2\r\n\r\nretry: 5\nid\ndata:3\n\nevent: none\n\n"
    for size in range(1, len(text)):
        lines = EventLines()
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        assert [event for part in parts for event in lines.feed(part)] == [Event("a", b"1\n2"), Event("message", b"3")]
        assert lines.comments == 1


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('listening') / 'sessions.db'}"


@pytest.fixture(scope="module")
def app(store_url: str) -> Iterator[AppServer]:
    env = {**PEPPER, "COATCHECK_STORE": store_url}
    with no_errors_in(AppServer.uvicorn("tests.browser.spa:create_app", "--factory", env=env)) as running:
        yield running


@pytest.fixture
async def operator(store_url: str) -> AsyncIterator[AuthServices]:
    pod, auth = pod_beside(store_url)
    async with pod:
        yield auth


@pytest.fixture(params=["header", "cookie"])
async def signed_in(
    request: pytest.FixtureRequest, kind: str, app: AppServer, operator: AuthServices
) -> AsyncIterator[Program]:
    for user in await operator.auth_users.list():
        await operator.token_manager.revoke_all_tokens(auth_user_id=user.id)
    program = Program(kind, app.url, mode=request.param)
    answer = await program.request("POST", "/api/sign-in?user=ada")
    await program.sign_in(auth_success_of(answer.json()))
    yield program
    await program.close()


async def test_a_revocation_by_another_process_is_heard_by_a_listening_program(
    signed_in: Program, operator: AuthServices
) -> None:
    (token,) = await operator.token_manager.list_tokens()
    async with listening(signed_in):
        await operator.token_manager.revoke_token(token_id=token.token_id)
        await until(lambda: signed_in.reasons == ["revoked"])
    assert signed_in.manager.auth_info is signed_in.storage.read() is None


@pytest.mark.any_library
async def test_a_restart_is_quick_and_signs_nobody_out_and_later_endings_are_heard(
    signed_in: Program, app: AppServer, operator: AuthServices
) -> None:
    (token,) = await operator.token_manager.list_tokens()
    async with listening(signed_in):
        await asyncio.to_thread(app.stop)  # which fails where the server waits for its streams
        await asyncio.to_thread(app.start)
        assert signed_in.changes == []
        await operator.token_manager.revoke_token(token_id=token.token_id)
        await until(lambda: signed_in.reasons == ["revoked"])
