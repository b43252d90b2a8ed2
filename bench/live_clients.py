"""The clients of `bench/live.py`: thousands of open connections on bare sockets, in one loop.

A client library takes longer to notice an end than a server takes to send it, on the same two cores. Here an end costs
a read, a time stamp and, for a WebSocket, the answer to the close frame.
"""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

_AT_A_TIME = 50  # handshakes
_PATIENCE_SECONDS = 60
# A client that waits for the socket would be woken by each write of a server, which pays for that. All time stamps are
# late by at most this much.
_LOOKING_SECONDS = 0.001
# By edge: an ended connection need not be unregistered, which would take time from the servers.
_EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_NO_MASK = bytes(4)  # frames of clients carry a masking key (RFC 6455 section 5.3); this one changes nothing
_MOST_BYTES = 65536


class Connection(Protocol):
    """The handling of arriving bytes, for either kind of connection."""

    told_at: float | None
    """`time.monotonic()` when the client was told that the session has ended."""
    ended_at: float | None
    """`time.monotonic()` when the connection was closed."""

    def request(self, host: str, token: str) -> bytes:
        """The request that opens the connection."""
        ...

    def has_opened(self, data: bytes) -> bool:
        """Take the bytes that have arrived. Returns whether the application's first message is among them."""
        ...

    def take(self, data: bytes) -> bytes:
        """Take the bytes that have arrived, none if the server has closed the connection. Returns the answer.

        Raises:
            AssertionError: the connection ended in another way than with its session.
        """
        ...


class EventStream:
    """`GET /events`, until the chunk that ends the response."""

    def __init__(self) -> None:
        """Not opened yet."""
        self.told_at: float | None = None
        self.ended_at: float | None = None
        self._text = b""

    def request(self, host: str, token: str) -> bytes:
        """A GET."""
        return _get("/events", host, token)

    def has_opened(self, data: bytes) -> bool:
        """Whether the first event has arrived."""
        self._text += data
        opened = b"data: " in self._text
        if opened:
            self._text = b""
        return opened

    def take(self, data: bytes) -> bytes:
        """Look for the last event and for the last chunk."""
        now = time.monotonic()
        self._text += data
        if self.told_at is None and b"event: session_ended\n" in self._text:
            self.told_at = now
        if self._text.endswith(b"\r\n0\r\n\r\n"):
            self.ended_at = now
        if (self.ended_at is not None or not data) and self.told_at is None:
            raise AssertionError(f"an event stream ended with {self._text!r}")
        return b""


class WebSocket:
    """`GET /live`, until the server has closed the TCP connection; pings and the close frame are answered."""

    def __init__(self) -> None:
        """Not opened yet."""
        self.told_at: float | None = None
        self.ended_at: float | None = None
        self._unread = b""
        self._is_upgraded = False

    def request(self, host: str, token: str) -> bytes:
        """A handshake."""
        key = "Sec-WebSocket-Key: Y29hdGNoZWNrLWJlbmNoIQ=="
        return _get("/live", host, token, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key)

    def has_opened(self, data: bytes) -> bool:
        """Whether the handshake is done and the first frame has arrived."""
        self._unread += data
        if not self._is_upgraded:
            head, end, rest = self._unread.partition(b"\r\n\r\n")
            if not end:
                return False
            if b" 101 " not in head.partition(b"\r\n")[0]:
                raise AssertionError(f"a handshake was answered with {head!r}")
            self._is_upgraded, self._unread = True, rest
        return bool(self._frames())

    def take(self, data: bytes) -> bytes:
        """Answer pings and the close frame, and note the times of the close frame and the end."""
        now = time.monotonic()
        if not data:
            if self.told_at is None:
                raise AssertionError("a WebSocket ended without a close frame")
            self.ended_at = now
            return b""
        self._unread += data
        answer = b""
        for opcode, payload in self._frames():
            if opcode == 9:  # ping
                answer += bytes((0x8A, 0x80 | len(payload))) + _NO_MASK + payload
            elif opcode == 8:  # close
                self.told_at = now
                code = int.from_bytes(payload[:2], "big")
                if code != 4401:
                    raise AssertionError(f"a WebSocket was closed with {code}")
                answer += bytes((0x88, 0x82)) + _NO_MASK + payload[:2]
        return answer

    def _frames(self) -> list[tuple[int, bytes]]:
        """Opcode and payload of each whole frame; a server's are not masked, and these are all short."""
        frames = []
        while len(self._unread) >= 2 and len(self._unread) >= 2 + self._unread[1]:
            end = 2 + self._unread[1]
            frames.append((self._unread[0] & 15, self._unread[2:end]))
            self._unread = self._unread[end:]
        return frames


class Clients:
    """Open connections, and one loop that reads from all of them."""

    def __init__(self) -> None:
        """Start with none."""
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, Connection]] = {}

    def open(self, wanted: Iterable[tuple[int, str, Connection]]) -> None:
        """Open connections, each to a port with a token."""
        waiting = list(wanted)
        while waiting:
            batch, waiting = waiting[:_AT_A_TIME], waiting[_AT_A_TIME:]
            opening = []
            for port, token, connection in batch:
                sock = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_SECONDS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(connection.request(f"127.0.0.1:{port}", token))
                opening.append((sock, connection))
            for sock, connection in opening:
                self._finish_opening(sock, connection)

    def run_until(self, are_over: Callable[[], bool], *, seconds: float = _PATIENCE_SECONDS) -> None:
        """Read all bytes until `are_over()`, which is called whenever there is nothing to read.

        Raises:
            TimeoutError: that took longer than `seconds`.
        """
        give_up = time.monotonic() + seconds
        while not are_over():
            if time.monotonic() > give_up:
                raise TimeoutError("some connections have not ended")
            while ready := self._poll.poll(0):
                for number, events in ready:
                    self._read(number, has_ended=bool(events & select.EPOLLRDHUP))
            time.sleep(_LOOKING_SECONDS)

    def run_for(self, seconds: float) -> None:
        """Read all bytes that arrive within `seconds`."""
        over = time.monotonic() + seconds
        self.run_until(lambda: time.monotonic() > over)

    def forget(self, connections: Collection[Connection]) -> None:
        """Close these connections."""
        for number, (_, connection) in list(self._open.items()):
            if connection in connections:
                self._close(number)

    def close(self) -> None:
        """Close all connections."""
        for number in list(self._open):
            self._close(number)
        self._poll.close()

    def __len__(self) -> int:
        """The number of connections that the server has not ended."""
        return sum(1 for _, connection in self._open.values() if connection.ended_at is None)

    def _finish_opening(self, sock: socket.socket, connection: Connection) -> None:
        while data := sock.recv(_MOST_BYTES):
            if connection.has_opened(data):
                sock.setblocking(False)
                self._open[sock.fileno()] = (sock, connection)
                self._poll.register(sock, _EVENTS)
                return
        raise AssertionError("a connection ended before it had opened")

    def _read(self, number: int, *, has_ended: bool) -> None:
        sock, connection = self._open[number]
        try:
            data = sock.recv(_MOST_BYTES)
        except ConnectionResetError:
            data = b""
        answer = connection.take(data)
        if data and has_ended:
            connection.take(b"")
        elif answer:
            sock.sendall(answer)

    def _close(self, number: int) -> None:
        self._open.pop(number)[0].close()


def _get(path: str, host: str, token: str, *more: str) -> bytes:
    lines = (f"GET {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}", *more)
    return "\r\n".join([*lines, "", ""]).encode()
