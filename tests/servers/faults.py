"""A web server that goes wrong in the way it is told to: what clients of sessions must live through."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tests.servers.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Fault(Enum):
    """What can go wrong between a client and its server, in the words of the tables in tests and docs."""

    TIMEOUT = "timeout"
    REFUSED = "connection refused"
    RESET_MID_BODY = "reset mid-body"
    OURS_401 = "401 ours"
    FOREIGN_401 = "401 foreign"
    FORBIDDEN_403 = "403"
    PROXY_AUTH_407 = "407"
    TOO_MANY_429 = "429"
    ERROR_500 = "500"
    BAD_GATEWAY_502 = "502"
    UNAVAILABLE_503 = "503"
    HTML_200 = "HTML instead of JSON"
    REDIRECT_AWAY = "redirect to another host"

    @property
    def ends_session(self) -> bool:
        """Whether a client may take this for the end of its session."""
        return self is Fault.OURS_401


@dataclass(frozen=True)
class Request:
    """What a client has sent. Names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class _Answer:
    status: str
    media_type: str
    body: bytes
    headers: tuple[str, ...] = ()


class FaultyServer:
    """An origin of its own on loopback: answers well until it is told to fail, and again when it is healed.

    Healthy, `GET /session/status` answers `status`, the sign-outs `{"ended": 1}` and every other path `{"ok": true}`.
    `files` are always served well: pages and scripts have arrived before things go wrong.
    """

    def __init__(self) -> None:
        """Set up; entering the context starts it."""
        self.port = free_port()
        self.requests: list[Request] = []
        self.has_been_asked = asyncio.Event()
        self.status: dict[str, object] = {
            "signed_in": True,
            "user_id": "ada",
            "session_id": "0198c0de-0000-7000-8000-000000000001",
            "scopes": ["notes:read"],
            "reason": None,
        }
        self.files: dict[str, tuple[str, bytes]] = {}
        self.elsewhere: FaultyServer | None = None
        self._fault: Fault | None = None
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """The origin, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop everything."""
        await self._cut()

    async def fail(self, fault: Fault) -> None:
        """Go wrong from now on."""
        self._fault = fault
        if fault is Fault.REFUSED:
            await self._cut()

    async def heal(self) -> None:
        """Answer well again, on the same port."""
        self._fault = None
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _cut(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        connections = dict(self._connections)
        for connection, writer in connections.items():
            connection.cancel()
            writer.transport.abort()  # a task that is cancelled before its first step does not come to its end
        await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            writer.transport.abort()  # taken from the queue a moment before the cut
            return
        # Kept from the first moment, so that _cut() finds connections on which nothing has arrived yet.
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections[connection] = writer
        connection.add_done_callback(self._connections.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; every connection is closed afterwards, so that the next one meets the next fault."""
        try:
            request = await _read(reader)
            if request is None:
                return
            self.requests.append(request)
            self.has_been_asked.set()
            fault = None if request.path.split("?")[0] in self.files or request.method == "OPTIONS" else self._fault
            if fault is Fault.TIMEOUT:
                await reader.read()  # until the client gives up
            elif fault is Fault.RESET_MID_BODY:
                head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
                writer.write(head.encode() + b'{"ok": tr')
                await writer.drain()
                # Closed like this, TCP sends a reset and no proper end. How much arrives before it varies.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            else:
                writer.write(self._bytes_of(self._answer_to(request, fault), request))
                await writer.drain()
                writer.write_eof()
                await reader.read()
        except OSError:
            pass  # the client has gone
        finally:
            writer.transport.abort()

    def _answer_to(self, request: Request, fault: Fault | None) -> _Answer:
        path = request.path.split("?")[0]
        if fault is Fault.REDIRECT_AWAY:
            assert self.elsewhere is not None, "set `elsewhere` to where the redirect leads"
            return _Answer("302 Found", "text/plain", b"", (f"Location: {self.elsewhere.url}{request.path}",))
        if fault is not None:
            return _FAULTS[fault]
        if path in self.files:
            media_type, content = self.files[path]
            return _Answer("200 OK", media_type, content)
        if path == "/session/status":
            return _json(self.status)
        if path in {"/session/sign-out", "/session/sign-out-all"}:
            return _json({"ended": 1})
        return _json({"ok": True})

    def _bytes_of(self, answer: _Answer, request: Request) -> bytes:
        # Pages of other origins may read every answer: what keeps a session alive must not be the browser's CORS check.
        origin = request.headers.get("origin", "*")
        lines = [
            f"HTTP/1.1 {answer.status}",
            f"Content-Type: {answer.media_type}",
            f"Content-Length: {len(answer.body)}",
            f"Access-Control-Allow-Origin: {'*' if origin == 'null' else origin}",
            "Access-Control-Allow-Credentials: true",
            "Access-Control-Allow-Headers: authorization, coatcheck-mode, coatcheck-client, content-type",
            "Access-Control-Allow-Methods: GET, POST, DELETE",
            "Connection: close",
            *answer.headers,
        ]
        body = b"" if request.method == "HEAD" else answer.body
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers)


def _json(content: object, status: str = "200 OK") -> _Answer:
    return _Answer(status, "application/json", json.dumps(content).encode())


def _problem(status: str, code: str, *headers: str) -> _Answer:
    content = {"title": status[4:], "status": int(status[:3]), "detail": "", "code": code}
    return _Answer(status, "application/problem+json", json.dumps(content).encode(), headers)


def _page(status: str, *headers: str) -> _Answer:
    return _Answer(status, "text/html; charset=utf-8", f"<!doctype html><h1>{status}</h1>".encode(), headers)


_FAULTS = {
    Fault.OURS_401: _problem(
        "401 Unauthorized", "invalid_token", 'WWW-Authenticate: Bearer realm="session", error="invalid_token"'
    ),
    Fault.FOREIGN_401: _page("401 Unauthorized", "WWW-Authenticate: Negotiate"),
    Fault.FORBIDDEN_403: _problem("403 Forbidden", "insufficient_scope"),
    Fault.PROXY_AUTH_407: _page("407 Proxy Authentication Required"),
    Fault.TOO_MANY_429: _page("429 Too Many Requests", "Retry-After: 1"),
    Fault.ERROR_500: _page("500 Internal Server Error"),
    Fault.BAD_GATEWAY_502: _page("502 Bad Gateway"),
    Fault.UNAVAILABLE_503: _problem("503 Service Unavailable", "store_unavailable", "Retry-After: 1"),
    Fault.HTML_200: _page("200 OK"),
}
