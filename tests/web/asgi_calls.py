"""Raw ASGI calls: what an HTTP client library would refuse to send, and WebSockets in the test's own event loop."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiApp, AsgiMessage

Headers = list[tuple[bytes, bytes]]


@dataclass
class Answer:
    """What an application sent over HTTP, or in denial of a WebSocket."""

    status: int
    headers: Headers
    body: bytes

    def values(self, name: str) -> list[str]:
        """All values of a header."""
        return [value.decode() for found, value in self.headers if found.decode().lower() == name]

    def header(self, name: str) -> str | None:
        """The only value of a header, None if it is not there."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable code of a problem."""
        assert self.header("content-type") == "application/problem+json"
        code: str = self.json["code"]
        return code


def bearer(token: str) -> Headers:
    """The header that shows a token."""
    return [(b"authorization", b"Bearer " + token.encode())]


def scope_of(type_: str, path: str = "/", **more: object) -> dict[str, Any]:
    """A minimal scope of an HTTP request or a WebSocket connection."""
    return {
        "type": type_,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http" if type_ == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        **({"method": "GET"} if type_ == "http" else {"subprotocols": []}),
        **more,
    }


async def request(app: AsgiApp, path: str = "/", *, headers: Headers | None = None, **more: object) -> Answer:
    """One HTTP request without a body."""
    sent: list[AsgiMessage] = []
    events: list[AsgiMessage] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> AsgiMessage:
        if events:
            return events.pop()
        return await asyncio.Future()  # the client waits

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    await app(scope_of("http", path, query_string=query.encode(), headers=headers or [], **more), receive, send)
    return answer_in(sent)


def answer_in(sent: list[AsgiMessage], prefix: str = "http.response") -> Answer:
    """The messages of one response, put together."""
    start, *rest = sent
    assert start["type"] == f"{prefix}.start", sent
    assert all(message["type"] == f"{prefix}.body" for message in rest), sent
    return Answer(start["status"], list(start.get("headers", [])), b"".join(m.get("body", b"") for m in rest))


@dataclass
class WebSocketCall:
    """What an application sent over a WebSocket connection."""

    sent: list[AsgiMessage] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        """The kinds of messages, in order."""
        return [message["type"].removeprefix("websocket.") for message in self.sent]

    @property
    def denial(self) -> Answer:
        """The HTTP response in place of a connection."""
        return answer_in(self.sent, "websocket.http.response")

    @property
    def close_code(self) -> int:
        """The code the connection was closed with, by the last message."""
        assert self.sent[-1]["type"] == "websocket.close", self.sent
        code: int = self.sent[-1]["code"]
        return code


async def websocket(
    app: AsgiApp,
    path: str = "/",
    *,
    headers: Headers | None = None,
    can_deny: bool = True,
    texts: tuple[str, ...] = (),
    **more: object,
) -> WebSocketCall:
    """One WebSocket connection: it sends `texts` and leaves."""
    call = WebSocketCall()
    events: list[AsgiMessage] = [
        {"type": "websocket.connect"},
        *({"type": "websocket.receive", "text": text} for text in texts),
        {"type": "websocket.disconnect", "code": 1000},
    ]

    async def receive() -> AsgiMessage:
        return events.pop(0)

    async def send(message: AsgiMessage) -> None:
        call.sent.append(message)

    extensions: dict[str, dict[str, str]] = {"websocket.http.response": {}} if can_deny else {}
    await app(scope_of("websocket", path, headers=headers or [], extensions=extensions, **more), receive, send)
    return call
