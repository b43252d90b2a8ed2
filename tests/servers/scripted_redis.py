"""A server that speaks Redis's protocol and says what a test wrote down: states that real ones only pass through."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

OK = b"+OK\r\n"
_INFO = (
    "redis_version:7.0.15\r\nrole:master\r\nconnected_slaves:0\r\ncluster_enabled:0\r\nmaxmemory_policy:noeviction\r\n"
)
_HEALTHY = {
    b"CLIENT": OK,
    b"INFO": f"${len(_INFO)}\r\n{_INFO}\r\n".encode(),
    b"CONFIG": b"*0\r\n",
    b"ROLE": b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
    b"TIME": b"*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n",
    b"WAIT": b":0\r\n",
}


class ScriptedRedis:
    """On a loopback port. `answers` has the bytes for a command by its name; the others get those of a healthy server.

    An answer None closes the connection instead. A function is called with the command each time.
    """

    def __init__(self, **answers: bytes | Callable[[list[bytes]], bytes | None] | None) -> None:
        """Set up; entering the context starts it."""
        self.port = free_port()
        self.answers = answers
        self.commands: list[list[bytes]] = []
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """Its address for a client."""
        return f"redis://127.0.0.1:{self.port}/0"

    def times_asked(self, name: bytes) -> int:
        """How many commands of this name have arrived."""
        return sum(command[0] == name for command in self.commands)

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop everything."""
        assert self._server is not None
        self._server.close()
        connections = dict(self._connections)
        for connection, writer in connections.items():
            connection.cancel()
            writer.transport.abort()
        await asyncio.gather(*connections, return_exceptions=True)

    def reset(self) -> None:
        """Break every connection off (RST), as a machine does that has forgotten them, or a firewall between."""
        for writer in self._connections.values():
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections[connection] = writer
        connection.add_done_callback(self._connections.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (answer := self._answer_to(await _command(reader))) is not None:
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.transport.abort()

    def _answer_to(self, command: list[bytes]) -> bytes | None:
        self.commands.append(command)
        name = command[0].decode()
        answer = self.answers.get(name, _HEALTHY.get(command[0], b"$-1\r\n"))
        return answer(command) if callable(answer) else answer


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    """An array of strings, which is how commands are sent."""
    parts = []
    for _ in range(int((await reader.readuntil(b"\r\n"))[1:])):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        parts.append((await reader.readexactly(size + 2))[:-2])
    return parts
