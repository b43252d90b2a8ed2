"""The session manager, for blocking and asynchronous programs."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from coatcheck import ConfigurationError, InvalidArgumentError, StorageError, UnexpectedAnswerError
from coatcheck.client import (
    ANONYMOUS,
    AsyncClientSessionManager,
    AuthChange,
    ClientSessionManager,
    MemoryStorage,
    SignInRequired,
    SignOutReason,
    open_login_page,
)
from coatcheck.client.flows import Call, Flows, Tell
from coatcheck.client.http_library import installed
from tests.client.programs import PATIENCE_SECONDS, TOKEN, Program, ada, bob
from tests.servers.faults import Fault, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from coatcheck import AuthSuccess
    from tests.client.conftest import NewProgram


SERVER = "https://notes.example"
PROBLEM = {"Content-Type": "application/problem+json"}


class BrokenStorage(MemoryStorage):
    """A storage that can be read, and cannot be written once it is broken."""

    is_broken = False

    def write(self, session: AuthSuccess | None) -> None:
        if self.is_broken:
            raise StorageError("cannot write the disk: it is full")
        super().write(session)

    def remove(self, session: AuthSuccess) -> bool:
        if self.is_broken:
            raise StorageError("cannot write the disk: it is full")
        return super().remove(session)


class Unreachable(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """A transport that ignores timeouts and blocks until it is released, like a lookup of a name without network."""

    def __init__(self) -> None:
        self.may_come_back = threading.Event()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.may_come_back.wait()
        raise installed().ConnectError("no network", request=request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.Event().wait()
        raise installed().ConnectError("no network", request=request)


@pytest.fixture
def unreachable() -> Iterator[Unreachable]:
    transport = Unreachable()
    yield transport
    transport.may_come_back.set()


class TestWhoIsSignedIn:
    async def test_nobody_is_signed_in_before_the_storage_is_read(self, new_program: NewProgram) -> None:
        """A new manager is not authenticated and has no `auth_info`."""
        storage = MemoryStorage()
        storage.write(ada())
        program = new_program(storage=storage)
        assert (program.manager.is_authenticated, program.manager.auth_info) == (False, None)

    async def test_restoring_reads_the_storage_past_the_cache_and_tells_the_listeners(
        self, new_program: NewProgram
    ) -> None:
        """`restore` clears the cache, reads the storage and tells the listeners."""
        program = new_program()
        program.storage.write(ada())
        await program.do("restore")
        assert program.manager.auth_info == ada()
        await program.do("restore")
        assert program.changes == [AuthChange(ada()), AuthChange(ada())]
        program.storage.write(None)
        await program.do("restore")
        assert program.changes[2:] == [AuthChange(None, SignOutReason.ELSEWHERE)]

    async def test_signing_in_writes_the_storage_then_memory_then_tells_the_listeners(
        self, new_program: NewProgram
    ) -> None:
        """The storage is written first, then memory, then the listeners are told."""
        storage, seen = BrokenStorage(), []
        program = new_program(storage=storage)
        program.manager.listen(lambda change: seen.append((change, storage.read(), program.manager.auth_info)))
        await program.do("update_signed_in_user", ada())
        assert seen == [(AuthChange(ada()), ada(), ada())]
        storage.is_broken = True
        with pytest.raises(StorageError):
            await program.do("update_signed_in_user", bob())
        assert program.manager.auth_info == storage.read() == ada()
        assert len(seen) == 1

    async def test_nobody_is_signed_in_after_none(self, program: Program) -> None:
        """`update_signed_in_user(None)` signs out."""
        await program.sign_in()
        await program.do("update_signed_in_user", None)
        assert program.manager.auth_info is program.storage.read() is None
        assert program.reasons == ["signed-out"]

    async def test_the_servers_answer_decides_who_is_signed_in(self, program: Program, server: FaultyServer) -> None:
        """`validate_authentication` asks the server, and signs out here if it says so."""
        await program.sign_in()
        assert await program.do("validate_authentication") is True
        assert server.requests[-1].path == "/session/status"
        assert server.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
        server.status = {"signed_in": False, "reason": "expired"}
        assert await program.do("validate_authentication") is False
        assert program.manager.auth_info is program.storage.read() is None
        assert program.reasons == ["expired"]

    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            ("expired", "expired"),
            ("inactive", "inactive"),
            ("revoked", "revoked"),
            (None, "unknown"),
            ("something new", "unknown"),
            (7, "unknown"),
        ],
    )
    async def test_the_reason_of_the_end_and_the_login_page_are_told(
        self, program: Program, server: FaultyServer, said: object, reason: str
    ) -> None:
        await program.sign_in()
        server.status = {"signed_in": False, "reason": said}
        await program.do("validate_authentication")
        assert program.reasons == [reason]
        login_url = f"https://notes.example/sign-in?from=cli&reason={reason}"
        assert program.required == [SignInRequired(SignOutReason(reason), login_url)]

    @pytest.mark.parametrize(
        "status", [{}, {"signed_in": None}, {"signed_in": "false"}, {"signed_in": 0}, {"signedIn": False}]
    )
    async def test_an_answer_of_another_shape_ends_no_session(
        self, program: Program, server: FaultyServer, status: dict[str, object]
    ) -> None:
        await program.sign_in()
        server.status = status
        with pytest.raises(UnexpectedAnswerError, match=r"/session/status.*HTTP 200"):
            await program.do("validate_authentication")
        assert program.manager.is_authenticated

    @pytest.mark.parametrize("status", [201, 404, 500, 503])
    def test_an_error_with_the_body_of_a_status_ends_no_session(self, status: int, library: ModuleType) -> None:
        answer = library.Response(status, json={"signed_in": False})
        with library.Client(transport=library.MockTransport(lambda _request: answer)) as http:
            manager = ClientSessionManager(SERVER, http=http)
            manager.update_signed_in_user(ada())
            with pytest.raises(UnexpectedAnswerError, match=f"HTTP {status}"):
                manager.validate_authentication()
        assert manager.is_authenticated

    async def test_the_request_for_the_status_does_not_follow_a_redirect(
        self, program: Program, server: FaultyServer
    ) -> None:
        await program.sign_in()
        await server.fail(Fault.REDIRECT_AWAY)
        assert await program.do("initialize") is False
        assert server.elsewhere is not None
        assert server.elsewhere.requests == []

    async def test_with_nobody_signed_in_the_server_is_not_asked(self, program: Program, server: FaultyServer) -> None:
        assert await program.do("validate_authentication") is False
        assert await program.do("initialize", PATIENCE_SECONDS) is True
        assert server.requests == []

    async def test_initializing_restores_and_asks(self, new_program: NewProgram, server: FaultyServer) -> None:
        """`initialize` restores, then validates; True if the server has answered."""
        program = new_program()
        program.storage.write(ada())
        assert await program.do("initialize", PATIENCE_SECONDS) is True
        assert program.manager.auth_info == ada()
        server.status = {"signed_in": False}
        assert await program.do("initialize", PATIENCE_SECONDS) is True
        assert program.manager.auth_info is None

    def test_initializing_ends_within_its_timeout(self, unreachable: Unreachable, library: ModuleType) -> None:
        """Within the timeout as a whole."""
        with library.Client(transport=unreachable) as http:
            manager = ClientSessionManager(SERVER, http=http)
            manager.update_signed_in_user(ada())
            assert manager.initialize(0.01) is False
            with pytest.raises(library.TimeoutException, match=r"within 0\.01 s"):
                manager.validate_authentication(0.01)
        assert manager.is_authenticated

    async def test_initializing_an_asynchronous_program_ends_within_its_timeout(
        self, unreachable: Unreachable, library: ModuleType
    ) -> None:
        """Within the timeout as a whole."""
        async with library.AsyncClient(transport=unreachable) as http:
            manager = AsyncClientSessionManager(SERVER, http=http)
            await manager.update_signed_in_user(ada())
            assert await manager.initialize(0.01) is False
            with pytest.raises(library.TimeoutException, match=r"within 0\.01 s"):
                await manager.validate_authentication(0.01)
        assert manager.is_authenticated


class TestSigningOut:
    @pytest.mark.parametrize(
        ("method", "route"), [("sign_out_device", "sign-out"), ("sign_out_all_devices", "sign-out-all")]
    )
    async def test_the_server_is_told_while_the_token_is_sent_and_streams_are_closed_first(
        self, program: Program, server: FaultyServer, method: str, route: str
    ) -> None:
        """A sign-out closes the streams, calls the server with the token, then forgets it."""
        await program.sign_in()
        order: list[str] = []
        program.manager.listen(lambda change: order.append(f"told {change.reason and change.reason.value}"))
        with program.manager.closing(lambda: order.append(f"closed before {len(server.requests)} requests")):
            assert await program.do(method) is True
        assert order == ["closed before 0 requests", "told signed-out"]
        (request,) = server.requests
        assert (request.method, request.path) == ("POST", f"/session/{route}")
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert program.manager.auth_info is program.storage.read() is None
        assert program.required == [], "who signs out does not want to be led to the login page"

    async def test_with_nobody_signed_in_there_is_nothing_to_confirm(
        self, program: Program, server: FaultyServer
    ) -> None:
        assert await program.do("sign_out_device") is False
        assert server.requests == []

    async def test_a_token_that_cannot_be_deleted_is_reported(self, new_program: NewProgram) -> None:
        storage = BrokenStorage()
        program = new_program(storage=storage)
        await program.sign_in()
        storage.is_broken = True
        with pytest.raises(StorageError):
            await program.do("sign_out_device")
        assert program.manager.auth_info is None
        assert program.reasons == ["signed-out"]

    async def test_a_token_that_could_not_be_deleted_is_not_restored(
        self, new_program: NewProgram, server: FaultyServer
    ) -> None:
        """A storage that failed to delete a session must not sign its user in again."""
        storage = BrokenStorage()
        program = new_program(storage=storage)
        await program.sign_in()
        storage.is_broken = True
        for _ in range(2):
            with pytest.raises(StorageError):
                await program.do("sign_out_device")
            await program.do("restore")
            await program.get()
            assert "authorization" not in server.requests[-1].headers
            assert not program.manager.is_authenticated
        storage.is_broken = False
        await program.do("sign_out_device")
        assert storage.read() is None
        await program.do("update_signed_in_user", ada())
        await program.get()
        assert server.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"

    async def test_signing_out_ends_the_session_that_another_process_has_stored(
        self, program: Program, server: FaultyServer
    ) -> None:
        """A token that is deleted here is ended on the server."""
        await program.sign_in()
        program.storage.write(bob())
        assert await program.do("sign_out_device") is True
        assert [request.headers["authorization"] for request in server.requests] == ["Bearer c2Fz-of-bob"]
        assert program.storage.read() is None

    @pytest.mark.parametrize("where", ["here", "in another process"])
    def test_a_sign_in_during_a_sign_out_stays(self, where: str, library: ModuleType) -> None:
        storage = MemoryStorage()

        def answer(_request: httpx2.Request) -> object:
            if where == "here":
                manager.update_signed_in_user(bob())
            else:
                storage.write(bob())
            return library.Response(200, json={"ended": 1})

        with library.Client(transport=library.MockTransport(answer)) as http:
            manager = ClientSessionManager(SERVER, storage=storage, http=http)
            manager.update_signed_in_user(ada())
            assert manager.sign_out_device() is True
        assert manager.auth_info == storage.read() == bob()

    async def test_signing_out_clears_a_storage_that_cannot_be_read(
        self, program: Program, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The session is forgotten in any case."""

        def fail(_storage: MemoryStorage) -> None:
            raise StorageError("session.json holds no session; delete it and sign in again")

        await program.sign_in()
        with monkeypatch.context() as patch:
            patch.setattr(MemoryStorage, "read", fail)
            assert await program.do("sign_out_device") is True
        assert server.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
        assert program.manager.auth_info is program.storage.read() is None

    async def test_a_cancelled_sign_out_still_forgets_the_session(self, server: FaultyServer) -> None:
        program = Program("async", server.url)
        await program.sign_in()
        await server.fail(Fault.TIMEOUT)
        leaving = asyncio.create_task(program.do("sign_out_device"))
        await server.has_been_asked.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert program.manager.auth_info is program.storage.read() is None
        assert program.reasons == ["signed-out"]
        await program.close()

    async def test_an_interrupted_sign_out_still_forgets_the_session(
        self, server: FaultyServer, library: ModuleType
    ) -> None:
        def interrupt(_request: httpx2.Request) -> object:
            raise KeyboardInterrupt

        with library.Client(transport=library.MockTransport(interrupt)) as http:
            manager = ClientSessionManager(server.url, http=http)
            manager.update_signed_in_user(ada())
            with pytest.raises(KeyboardInterrupt):
                manager.sign_out_device()
            assert manager.auth_info is None

    def test_a_sign_out_interrupted_while_streams_are_closed_still_forgets_the_session(self) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        manager = ClientSessionManager(SERVER)
        manager.update_signed_in_user(ada())
        with manager.closing(interrupt), pytest.raises(KeyboardInterrupt):
            manager.sign_out_device()
        assert manager.auth_info is None

    def test_signing_out_does_not_wait_for_a_network_that_is_down(
        self, unreachable: Unreachable, monkeypatch: pytest.MonkeyPatch, library: ModuleType
    ) -> None:
        monkeypatch.setattr("coatcheck.client.flows.SIGN_OUT_SECONDS", 0.01)
        with library.Client(transport=unreachable) as http:
            manager = ClientSessionManager(SERVER, http=http)
            manager.update_signed_in_user(ada())
            assert manager.sign_out_device() is False
        assert manager.auth_info is None


class TestRequests:
    async def test_the_token_is_in_the_header_only_while_somebody_is_signed_in(
        self, program: Program, server: FaultyServer
    ) -> None:
        """Requests have `Authorization: Bearer <token>`, and no such header after the sign-out."""
        await program.get()
        assert "authorization" not in server.requests[-1].headers
        await program.sign_in()
        await program.get()
        assert server.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
        assert TOKEN not in server.requests[-1].path

    @pytest.mark.parametrize("options", [{"extensions": ANONYMOUS}, {"auth": None}], ids=["extension", "no auth"])
    async def test_calls_marked_unauthenticated_never_carry_it(
        self, program: Program, server: FaultyServer, options: dict[str, Any]
    ) -> None:
        """The server's 401 to such a request does not end the session either."""
        await program.sign_in()
        await program.get(**options)
        assert "authorization" not in server.requests[-1].headers
        await server.fail(Fault.OURS_401)
        await program.get(**options)
        assert program.manager.is_authenticated

    async def test_a_header_of_the_program_s_own_is_left_alone(self, program: Program, server: FaultyServer) -> None:
        await program.sign_in()
        await server.fail(Fault.OURS_401)
        await program.get(headers={"Authorization": "Bearer another"})
        assert server.requests[-1].headers["authorization"] == "Bearer another"
        assert program.manager.is_authenticated

    async def test_the_client_sends_its_label(self, new_program: NewProgram, server: FaultyServer) -> None:
        program = new_program(client_label="notes on Ada\u2019s laptop")
        await program.get()
        assert server.requests[-1].headers["coatcheck-client"] == "notes%20on%20Ada%E2%80%99s%20laptop"

    async def test_another_origin_does_not_get_the_token_and_cannot_end_the_session(
        self, program: Program, server: FaultyServer
    ) -> None:
        await program.sign_in()
        assert server.elsewhere is not None
        await server.elsewhere.fail(Fault.OURS_401)
        for url in (server.elsewhere.url, server.url.replace("127.0.0.1", "localhost")):
            await program.get(f"{url}/notes", headers={"Host": "127.0.0.1"})
            recorded = server.elsewhere.requests if url == server.elsewhere.url else server.requests
            assert "authorization" not in recorded[-1].headers
        assert program.manager.is_authenticated

    async def test_the_token_does_not_follow_a_redirect_to_another_origin(
        self, program: Program, server: FaultyServer
    ) -> None:
        await program.sign_in()
        await server.fail(Fault.REDIRECT_AWAY)
        await program.get()
        assert server.elsewhere is not None
        assert [("authorization" in request.headers) for request in server.requests] == [True]
        assert [("authorization" in request.headers) for request in server.elsewhere.requests] == [False]

    async def test_the_token_is_not_added_to_a_redirect_from_another_origin(
        self, program: Program, server: FaultyServer
    ) -> None:
        """Another origin must not be able to choose a request that carries the token."""
        await program.sign_in()
        elsewhere = server.elsewhere
        assert elsewhere is not None
        elsewhere.elsewhere = server
        await elsewhere.fail(Fault.REDIRECT_AWAY)
        await program.get(f"{elsewhere.url}/notes")
        assert "authorization" not in server.requests[-1].headers

    async def test_the_token_is_not_added_to_a_redirect_that_went_to_another_origin_and_back(
        self, program: Program, server: FaultyServer, library: ModuleType
    ) -> None:
        await program.sign_in()
        assert server.elsewhere is not None
        server.elsewhere.elsewhere = server
        await server.fail(Fault.REDIRECT_AWAY)
        await server.elsewhere.fail(Fault.REDIRECT_AWAY)
        with pytest.raises(library.TooManyRedirects):
            await program.get()
        sent = ["authorization" in request.headers for request in server.requests]
        assert sent == [True] + [False] * (len(sent) - 1)
        assert not any("authorization" in request.headers for request in server.elsewhere.requests)

    async def test_the_reason_of_the_end_is_told_although_the_storage_fails(
        self, new_program: NewProgram, server: FaultyServer
    ) -> None:
        storage = BrokenStorage()
        program = new_program(storage=storage)
        await program.sign_in()
        await server.fail(Fault.OURS_401)
        storage.is_broken = True
        with pytest.raises(StorageError):
            await program.get()
        assert program.reasons == ["revoked"]
        assert len(program.required) == 1
        assert (await program.get()).status_code == 401, "and the next request has nothing to delete"
        assert program.reasons == ["revoked"]

    async def test_two_hundred_refusals_at_once_are_one_sign_out(self, program: Program, server: FaultyServer) -> None:
        await program.sign_in()
        await server.fail(Fault.OURS_401)
        answers = await asyncio.gather(*(program.get() for _ in range(200)), return_exceptions=True)
        assert {answer.status_code for answer in answers if hasattr(answer, "status_code")} == {401}
        assert program.reasons == ["revoked"]
        assert len(program.required) == 1

    def test_a_refusal_of_an_earlier_token_is_ignored(self, library: ModuleType) -> None:
        storage = MemoryStorage()
        manager = ClientSessionManager(SERVER, storage=storage)
        manager.update_signed_in_user(ada())
        changes: list[AuthChange] = []
        manager.listen(changes.append)

        def refuse(_request: httpx2.Request) -> object:
            storage.write(ada("c2Fz-newer"))  # while this refusal is under way, somebody signs in again
            headers = {"Content-Type": "application/problem+json"}
            return library.Response(401, json={"code": "invalid_token"}, headers=headers)

        with library.Client(transport=library.MockTransport(refuse), auth=manager.auth) as http:
            assert http.get(f"{SERVER}/notes").status_code == 401
        assert changes == [AuthChange(ada("c2Fz-newer"))]
        assert manager.auth_info == storage.read() == ada("c2Fz-newer")

    async def test_a_streamed_refusal_can_still_be_read(self, server: FaultyServer, library: ModuleType) -> None:
        await server.fail(Fault.OURS_401)
        program = Program("async", server.url)
        await program.sign_in()
        assert isinstance(program.http, library.AsyncClient)
        async with program.http.stream("GET", "/notes") as answer:
            assert b"".join([part async for part in answer.aiter_bytes()]).startswith(b'{"title"')
        assert program.reasons == ["revoked"]
        await program.close()

    @pytest.mark.parametrize(
        ("headers", "body"),
        [
            ({"Content-Type": "application/json"}, b'{"code": "invalid_token"}'),
            ({"Content-Type": "application/problem+json"}, b'{"code": "authentication_required"}'),
            ({"Content-Type": "application/problem+json"}, b'["invalid_token"]'),
            ({"Content-Type": "application/problem+json"}, b"\xff\xfe"),
            ({"Content-Type": "application/problem+json"}, b"[" * 60_000),
            ({"Content-Type": "application/problem+json"}, b'{"code": "invalid_token"}' + b" " * 70_000),
            ({"Content-Type": "text/html"}, b"<html>invalid_token</html>"),
        ],
    )
    def test_a_401_without_the_servers_problem_ends_no_session(
        self, headers: dict[str, str], body: bytes, library: ModuleType
    ) -> None:
        transport = library.MockTransport(lambda _request: library.Response(401, content=body, headers=headers))
        manager = ClientSessionManager(SERVER)
        manager.update_signed_in_user(ada())
        with library.Client(transport=transport, auth=manager.auth) as http:
            assert http.get(SERVER).content == body
        assert manager.is_authenticated


@pytest.mark.any_library
class TestSharing:
    async def test_a_change_of_the_storage_by_another_program_is_seen_by_the_next_request(
        self, new_program: NewProgram, server: FaultyServer
    ) -> None:
        here, there = new_program(), None
        there = new_program(storage=here.storage)
        await there.do("update_signed_in_user", ada())
        await here.get()
        assert here.changes == [AuthChange(ada())]
        assert server.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
        await there.do("sign_out_device")
        await here.get()
        assert "authorization" not in server.requests[-1].headers
        assert here.reasons == ["elsewhere"]
        assert here.required == [], "the other one leads to the login page"

    async def test_of_two_programs_one_hears_the_end_from_the_server_and_one_from_the_storage(
        self, new_program: NewProgram, server: FaultyServer
    ) -> None:
        here = new_program()
        there = new_program(storage=here.storage)
        await here.sign_in()
        await there.do("restore")
        await server.fail(Fault.OURS_401)
        await here.get()
        await there.get()
        assert (here.reasons, there.reasons[-1:]) == (["revoked"], ["elsewhere"])


@pytest.mark.any_library
class TestStreams:
    async def test_streams_are_closed_when_the_user_changes_and_kept_otherwise(self, program: Program) -> None:
        """Another user closes the open streams without an error; an update of the same user keeps them."""
        await program.sign_in()
        closed: list[str] = []
        with program.manager.closing(lambda: closed.append("first")):
            await program.do("update_signed_in_user", ada("c2Fz-renewed"))
            assert closed == []
            await program.do("update_signed_in_user", bob())
            assert closed == ["first"]
            await program.do("update_signed_in_user", None)
            assert closed == ["first"], "a stream is closed once"
        with program.manager.closing(lambda: closed.append("second")):
            pass
        await program.do("update_signed_in_user", ada())
        assert closed == ["first"]

    def test_streams_are_closed_when_the_user_changes_during_a_sign_in(self) -> None:
        """The user who is replaced decides, not the user who was seen before."""
        flows = Flows(
            SERVER,
            library=installed(),
            session_path="/session",
            storage=MemoryStorage(),
            mode="header",
            client_label=None,
        )
        flows.local.sign_in(ada())
        update = flows.update(ada("c2Fz-renewed"))
        call = next(update)
        flows.local.sign_in(bob())
        assert isinstance(call, Call)
        told = update.send(call.function())
        assert isinstance(told, Tell)
        assert told.closes_streams

    async def test_a_refusal_of_the_server_closes_the_streams(self, program: Program, server: FaultyServer) -> None:
        await program.sign_in()
        closed: list[bool] = []
        await server.fail(Fault.OURS_401)
        with program.manager.closing(lambda: closed.append(True)):
            await program.get()
        assert closed == [True]


@pytest.mark.any_library
class TestCallbacks:
    async def test_a_callback_that_raises_does_not_stop_the_others(
        self, program: Program, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_change: AuthChange) -> None:
            raise RuntimeError("a mistake in the program")

        program.manager.listen(fail)
        heard: list[AuthChange] = []
        program.manager.listen(heard.append)
        with caplog.at_level(logging.ERROR), program.manager.closing(lambda: fail(AuthChange(None))):
            await program.sign_in()
        assert len(heard) == 1
        assert "a mistake in the program" in caplog.text
        assert TOKEN not in caplog.text

    async def test_a_callback_that_has_unsubscribed_is_not_called(self, program: Program) -> None:
        heard: list[AuthChange] = []
        unsubscribe = program.manager.listen(heard.append)
        unsubscribe()
        unsubscribe()
        await program.sign_in()
        assert heard == []

    async def test_asynchronous_callbacks_are_awaited(self, server: FaultyServer) -> None:
        async with AsyncClientSessionManager(server.url) as manager:
            heard: list[str] = []

            async def listen(change: AuthChange) -> None:
                await asyncio.sleep(0)
                heard.append("signed in" if change.auth_info else "signed out")

            async def close() -> None:
                await asyncio.sleep(0)
                heard.append("closed")

            manager.listen(listen)
            await manager.update_signed_in_user(ada())
            with manager.closing(close):
                await manager.update_signed_in_user(None)
            assert heard == ["signed in", "closed", "signed out"]

    def test_the_login_page_opens_in_the_browser_or_is_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        opened: list[str] = []

        def open_once(url: str) -> bool:
            opened.append(url)
            return len(opened) == 1

        monkeypatch.setattr("webbrowser.open", open_once)
        required = SignInRequired(SignOutReason.EXPIRED, "https://notes.example/sign-in?reason=expired")
        with caplog.at_level(logging.WARNING):
            open_login_page(required)
            assert (opened, caplog.text) == ([required.login_url], "")
            open_login_page(required)
            assert "sign in again at https://notes.example/sign-in" in caplog.text
            open_login_page(SignInRequired(SignOutReason.REVOKED, None))
            assert "revoked" in caplog.text


class TestCookieMode:
    async def test_cookie_mode_asks_for_the_cookie_and_sends_no_token(
        self, new_program: NewProgram, server: FaultyServer
    ) -> None:
        program = new_program(mode="cookie")
        await program.sign_in(ada(""))
        await program.get()
        assert server.requests[-1].headers["coatcheck-mode"] == "cookie"
        assert "authorization" not in server.requests[-1].headers

    async def test_a_token_in_the_body_is_a_configuration_error_and_is_not_stored(
        self, new_program: NewProgram
    ) -> None:
        """The client does not store that token."""
        program = new_program(mode="cookie")
        with pytest.raises(ConfigurationError, match=r"the server sent a token .*mode=\"cookie\"") as error:
            await program.do("update_signed_in_user", ada())
        assert TOKEN not in str(error.value)
        assert program.storage.read() is program.manager.auth_info is None
        assert program.changes == []

    async def test_a_missing_token_in_header_mode_is_a_configuration_error(self, program: Program) -> None:
        with pytest.raises(ConfigurationError, match=r"the server sent no token .*mode=\"header\""):
            await program.do("update_signed_in_user", ada(""))
        assert program.storage.read() is None

    @pytest.mark.parametrize(
        ("refusal", "reason"),
        [
            ({"code": "invalid_token", "reason": "expired"}, SignOutReason.EXPIRED),
            ({"code": "invalid_token"}, SignOutReason.REVOKED),
            ({"code": "authentication_required"}, SignOutReason.UNKNOWN),  # no cookie was sent
        ],
        ids=["expired", "refused", "gone"],
    )
    @pytest.mark.parametrize(
        ("status", "is_kept"),
        [
            ({"status_code": 200, "json": {"signed_in": False, "reason": None}}, False),
            ({"status_code": 401, "json": {"code": "invalid_token"}, "headers": PROBLEM}, False),
            ({"status_code": 200, "json": {"signed_in": True, "reason": None}}, True),
            ({"status_code": 200, "html": "<h1>Welcome to our network</h1>"}, True),
            ({"status_code": 503, "json": {"code": "store_unavailable"}, "headers": PROBLEM}, True),
            (None, True),
        ],
        ids=["signed out", "refused", "signed in", "captive portal", "unavailable", "no network"],
    )
    def test_in_cookie_mode_the_server_is_asked_again_before_the_session_ends(
        self,
        refusal: dict[str, str],
        reason: SignOutReason,
        status: dict[str, Any] | None,
        is_kept: bool,
        library: ModuleType,
    ) -> None:
        """The client cannot see which cookie was sent: it may be that of an earlier sign-in."""
        asked: list[str] = []

        def answer(request: httpx2.Request) -> object:
            asked.append(request.url.path)
            if request.url.path == "/notes":
                return library.Response(401, json=refusal, headers=PROBLEM)
            if status is None:
                raise library.ConnectError("no network")
            return library.Response(**status)

        with library.Client(transport=library.MockTransport(answer)) as http:
            manager = ClientSessionManager(SERVER, mode="cookie", http=http)
            manager.update_signed_in_user(ada(""))
            changes: list[AuthChange] = []
            manager.listen(changes.append)
            assert http.get(f"{SERVER}/notes", auth=manager.auth).status_code == 401
        assert asked == ["/notes", "/session/status"]
        assert changes == ([] if is_kept else [AuthChange(None, reason)])


@pytest.mark.any_library
class TestSettings:
    @pytest.mark.parametrize(
        "server_url",
        ["", "example.org", "ftp://example.org", "https://", "https://u:p@example.org", "https://example.org/api",
         "https://example.org?x=1", "https://example.org#x", "https://[bad", 5],
    )  # fmt: skip
    def test_a_server_url_that_is_not_an_origin_is_refused(self, server_url: str) -> None:
        with pytest.raises(ConfigurationError, match="server_url must be"):
            ClientSessionManager(server_url)

    @pytest.mark.parametrize("server_url", ["http://example.org", "http://10.0.0.1", "http://localhost.example.org"])
    def test_plain_http_to_another_machine_is_refused(self, server_url: str) -> None:
        with pytest.raises(ConfigurationError, match="https"):
            ClientSessionManager(server_url)

    @pytest.mark.parametrize(
        "server_url", ["http://localhost:8000", "http://[::1]", "http://127.9.9.9", "https://e.org/"]
    )
    def test_https_and_plain_http_to_this_machine_are_accepted(self, server_url: str) -> None:
        ClientSessionManager(server_url).close()

    def test_an_unknown_mode_and_a_label_that_is_too_long_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="mode must be"):
            ClientSessionManager("https://e.org", mode="jwt")  # type: ignore[arg-type]  # that is the mistake
        with pytest.raises(InvalidArgumentError, match="label must be"):
            ClientSessionManager("https://e.org", client_label="x" * 65)


class TestTheWrongKindOfClient:
    async def test_an_asynchronous_client_refuses_the_auth_of_a_blocking_manager(self, library: ModuleType) -> None:
        async with library.AsyncClient(auth=ClientSessionManager(SERVER).auth) as http:
            with pytest.raises(RuntimeError, match="AsyncClientSessionManager"):
                await http.get(SERVER)

    def test_a_blocking_client_refuses_the_auth_of_an_asynchronous_manager(self, library: ModuleType) -> None:
        auth = AsyncClientSessionManager(SERVER).auth
        with library.Client(auth=auth) as http, pytest.raises(RuntimeError, match="ClientSessionManager"):
            http.get(SERVER)


@pytest.mark.any_library
@pytest.mark.parametrize("error", [StorageError, LookupError, OSError])
async def test_the_server_is_told_of_a_sign_out_although_the_storage_cannot_be_read(
    new_program: NewProgram, server: FaultyServer, error: type[Exception]
) -> None:
    class Unreadable(MemoryStorage):
        is_broken = False

        def read(self) -> AuthSuccess | None:
            if self.is_broken:
                raise error("gone")
            return super().read()

        def stamp(self) -> object:
            return object()

    storage = Unreadable()
    program = new_program(storage=storage)
    await program.sign_in()
    storage.is_broken = True
    assert await program.do("sign_out_device") is True
    assert server.requests[-1].path == "/session/sign-out"
    assert program.manager.auth_info is None


@pytest.mark.any_library
@pytest.mark.parametrize("bad", ["\nX: y", "\r", "\0", "\x7f", " ", "ö", "\ud800"])
async def test_a_token_that_http_libraries_would_show_in_an_error_is_refused(program: Program, bad: str) -> None:
    with pytest.raises(InvalidArgumentError, match="visible ASCII") as error:
        await program.do("update_signed_in_user", ada(TOKEN + bad))
    assert TOKEN not in repr(error.value)
    assert program.storage.read() is program.manager.auth_info is None
    assert program.changes == []


def test_the_client_imports_nothing_of_the_server() -> None:
    program = """
import sys
import coatcheck.client
servers = {"sqlalchemy", "alembic", "aiosqlite", "asyncpg", "yaml", "starlette", "fastapi"}
print(sorted(servers & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
