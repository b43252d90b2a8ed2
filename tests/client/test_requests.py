"""requests with a session: the same promises as with httpx2, over real servers."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
import requests

from coatcheck import ConfigurationError, StorageError
from coatcheck.client import ClientSessionManager, MemoryStorage
from coatcheck.client.refusal_body import MAX_BYTES
from coatcheck.wire import auth_success_of
from tests.client.programs import PATIENCE_SECONDS, TOKEN, ada, bob
from tests.examples.notes_server import PEPPER, no_errors_in
from tests.servers.app import AppServer
from tests.servers.faults import Fault
from tests.servers.origin import Origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.servers.faults import FaultyServer

OURS = b'{"code": "invalid_token", "reason": "expired"}'
VARIABLES = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]


class Requesting:
    """A program that uses requests; each call is made in a thread, since the server is in this loop."""

    def __init__(self, server_url: str, **options: Any) -> None:
        self.storage = MemoryStorage()
        self.sessions = ClientSessionManager(server_url, storage=self.storage, **options)
        self.http = requests.Session()
        self.http.auth = self.sessions.requests_auth
        self.url = server_url
        self.reasons: list[str] = []
        self.sessions.listen(lambda change: self.reasons.append(change.reason.value) if change.reason else None)

    async def sign_in(self) -> None:
        await anyio.to_thread.run_sync(self.sessions.update_signed_in_user, ada())

    async def get(self, url: str = "/notes", **options: Any) -> requests.Response:
        whole = self.url + url if url.startswith("/") else url
        return await anyio.to_thread.run_sync(partial(self.http.get, whole, timeout=PATIENCE_SECONDS, **options))

    def close(self) -> None:
        self.http.close()
        self.sessions.close()


@pytest.fixture(autouse=True)
def no_proxy_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def program(server: FaultyServer) -> AsyncIterator[Requesting]:
    """A program that is signed in."""
    program = Requesting(server.url, client_label="a laptop")
    await program.sign_in()
    yield program
    program.close()


@pytest.fixture
def proxy() -> Iterator[Origin]:
    with Origin() as proxy:
        yield proxy


def test_a_program_signs_in_is_refused_after_the_end_and_signs_out(tmp_path: Path) -> None:
    env = {**PEPPER, "COATCHECK_STORE": f"sqlite:///{tmp_path / 'sessions.db'}"}
    with no_errors_in(AppServer.uvicorn("tests.browser.spa:create_app", "--factory", env=env)) as app:
        program = Requesting(app.url)
        http, sessions = program.http, program.sessions
        assert http.get(f"{app.url}/api/secret").status_code == 401
        assert program.reasons == [], "nobody was signed in"
        sessions.update_signed_in_user(auth_success_of(http.post(f"{app.url}/api/sign-in?user=ada").json()))
        assert http.get(f"{app.url}/api/secret").text.startswith("the secret of ")
        other = Requesting(app.url)
        other.sessions.update_signed_in_user(sessions.auth_info)
        assert other.sessions.sign_out_device() is True
        assert http.get(f"{app.url}/api/secret").status_code == 401
        assert program.reasons == ["revoked"]
        assert program.storage.read() is sessions.auth_info is None
        sessions.update_signed_in_user(auth_success_of(http.post(f"{app.url}/api/sign-in?user=ada").json()))
        assert http.get(f"{app.url}/api/secret").status_code == 200
        assert sessions.sign_out_all_devices() is True
        assert http.get(f"{app.url}/api/secret").status_code == 401
        program.close()
        other.close()


async def test_requests_carry_the_token_and_the_label_while_somebody_is_signed_in(
    program: Requesting, server: FaultyServer
) -> None:
    await program.get()
    headers = server.requests[-1].headers
    assert (headers["authorization"], headers["coatcheck-client"]) == (f"Bearer {TOKEN}", "a%20laptop")
    program.storage.write(bob())
    await program.get()
    assert server.requests[-1].headers["authorization"] == f"Bearer {bob().token}", "another process has signed in"
    await anyio.to_thread.run_sync(program.sessions.update_signed_in_user, None)
    await program.get()
    assert "authorization" not in server.requests[-1].headers


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
async def test_only_the_servers_own_refusal_ends_the_session(
    program: Requesting, server: FaultyServer, fault: Fault
) -> None:
    assert server.elsewhere is not None
    await server.elsewhere.fail(Fault.OURS_401)
    await server.fail(fault)
    raised = {
        Fault.TIMEOUT: requests.Timeout,
        Fault.REFUSED: requests.ConnectionError,
        Fault.RESET_MID_BODY: requests.RequestException,
    }
    if fault in raised:
        patience = 0.2 if fault is Fault.TIMEOUT else PATIENCE_SECONDS
        with pytest.raises(raised[fault]) as error:
            await anyio.to_thread.run_sync(partial(program.http.get, f"{server.url}/notes", timeout=patience))
        assert TOKEN not in str(error.value)
    else:
        assert (await program.get()).content, "the answer is the caller's to read"
    assert program.sessions.is_authenticated == (not fault.ends_session)
    assert program.reasons == (["revoked"] if fault.ends_session else [])
    assert all("authorization" not in request.headers for request in server.elsewhere.requests)


async def test_a_request_that_another_auth_or_header_was_given_is_left_alone(
    program: Requesting, server: FaultyServer
) -> None:
    await server.fail(Fault.OURS_401)
    await program.get(auth=lambda request: request)
    assert "authorization" not in server.requests[-1].headers
    await program.get(headers={"Authorization": "Bearer another"})
    assert server.requests[-1].headers["authorization"] == "Bearer another"
    assert program.sessions.is_authenticated


async def test_a_refusal_of_an_earlier_token_is_ignored(program: Requesting, server: FaultyServer) -> None:
    await server.fail(Fault.OURS_401)
    newer = ada("c2Fz-newer")
    adapter = program.http.get_adapter(server.url)
    send = adapter.send

    def send_then_sign_in(*arguments: Any, **options: Any) -> requests.Response:
        answer = send(*arguments, **options)
        program.sessions.update_signed_in_user(newer)  # while the refusal is under way
        return answer

    adapter.send = send_then_sign_in  # type: ignore[method-assign]  # the moment that the test needs
    assert (await program.get()).status_code == 401
    assert program.sessions.auth_info == program.storage.read() == newer


async def test_a_storage_that_fails_is_reported_and_nothing_is_sent(
    program: Requesting, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_storage: MemoryStorage) -> None:
        raise StorageError("cannot read the disk")

    monkeypatch.setattr(MemoryStorage, "stamp", lambda _: object())
    monkeypatch.setattr(MemoryStorage, "read", fail)
    with pytest.raises(StorageError):
        await program.get()
    assert server.requests == []


class Refusing:
    """A server that refuses with one body, in chunks of unknown number, compressed or broken off.

    The body ends when `may_end` is set, and breaks off if that does not come.
    """

    def __init__(
        self, body: bytes, *, encoding: str = "", breaks_off: bool = False, may_end: threading.Event | None = None
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(401)
                self.send_header("content-type", "application/problem+json")
                self.send_header("transfer-encoding", "chunked")
                self.send_header("set-cookie", "visit=1")
                if encoding:
                    self.send_header("content-encoding", encoding)
                self.end_headers()
                for start in range(0, len(body), 1000):
                    part = body[start : start + 1000]
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                if breaks_off or not (may_end is None or may_end.wait(PATIENCE_SECONDS)):
                    self.close_connection = True
                else:
                    self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Requesting:
        self._thread.start()
        self.program = Requesting(self.url)
        self.program.sessions.update_signed_in_user(ada())
        return self.program

    def __exit__(self, *_: object) -> None:
        self.program.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.mark.parametrize("encoding", ["", "gzip"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_ends_the_session_and_can_still_be_read(stream: bool, encoding: str) -> None:
    with Refusing(gzip.compress(OURS) if encoding else OURS, encoding=encoding) as program:
        answer = program.http.get(program.url, stream=stream)
        assert program.reasons == ["expired"]
        assert b"".join(answer.iter_content(7)) == OURS
        assert answer.json()["code"] == "invalid_token" if not stream else answer.raw.closed
        assert program.http.cookies["visit"] == "1", "the other parts of the answer are as they were"


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_that_is_too_long_ends_no_session_and_arrives_complete(stream: bool) -> None:
    body = OURS + b" " * MAX_BYTES
    with Refusing(body) as program:
        with program.http.get(program.url, stream=stream) as answer:
            assert b"".join(answer.iter_content(5000)) == body
        assert program.sessions.is_authenticated


def test_the_end_of_a_streamed_refusal_that_is_too_long_is_not_waited_for() -> None:
    body, may_end = OURS + b" " * (MAX_BYTES + 5000), threading.Event()
    with Refusing(body, may_end=may_end) as program:
        with program.http.get(program.url, stream=True, timeout=PATIENCE_SECONDS) as answer:
            may_end.set()
            assert b"".join(answer.iter_content(5000)) == body
        assert program.sessions.is_authenticated


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_that_cannot_be_decoded_ends_no_session_and_raises_in_the_caller(stream: bool) -> None:
    with Refusing(OURS, encoding="gzip") as program:
        with pytest.raises(requests.exceptions.ContentDecodingError):
            _ = program.http.get(program.url, stream=stream).content
        assert program.sessions.is_authenticated


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_that_breaks_off_ends_no_session(stream: bool) -> None:
    with Refusing(OURS, breaks_off=True) as program:
        with pytest.raises(requests.RequestException):
            program.http.get(program.url, stream=stream)
        assert program.sessions.is_authenticated


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("host", ["localhost", "[::1]", "notes.localhost"])
def test_a_proxy_of_the_environment_gets_no_token_for_this_machine(
    variable: str, host: str, proxy: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    program = Requesting(f"http://{host}:9")
    program.sessions.update_signed_in_user(ada())
    with pytest.raises(ConfigurationError, match="through a proxy") as error:
        program.http.get(f"{program.url}/notes")
    assert TOKEN not in str(error.value)
    assert program.http.get("http://elsewhere.example/notes").status_code == 200, "by the proxy"
    assert (proxy.targets, proxy.authorizations) == (["http://elsewhere.example/notes"], [None])
    program.close()


def test_a_proxy_that_the_program_has_set_itself_is_reported_with_the_first_answer(proxy: Origin) -> None:
    """An `AuthBase` is not shown it before."""
    program = Requesting("http://localhost:9")
    program.http.proxies["http"] = proxy.url
    with pytest.raises(ConfigurationError, match="through a proxy"):
        program.http.get(f"{program.url}/notes")
    program.close()


def test_no_proxy_is_heeded(proxy: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Origin() as origin:
        program = Requesting(origin.url)
        program.sessions.update_signed_in_user(ada())
        assert program.http.get(f"{origin.url}/notes").status_code == 200
        assert (origin.authorizations, proxy.targets) == ([f"Bearer {TOKEN}"], [])
        program.close()


def test_in_cookie_mode_the_managers_own_client_is_the_one_to_use() -> None:
    with (
        ClientSessionManager("https://notes.example", mode="cookie") as sessions,
        pytest.raises(ConfigurationError, match=r"sessions\.http"),
    ):
        _ = sessions.requests_auth


def test_without_requests_the_extra_is_named() -> None:
    program = """
import sys
sys.modules["requests"] = None
from coatcheck.client import ClientSessionManager
try:
    ClientSessionManager("https://notes.example").requests_auth
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    expected = "coatcheck.client.requests_auth needs the package requests; install coatcheck[requests]\n"
    assert done.stdout == expected
