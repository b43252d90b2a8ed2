"""A TCP proxy on loopback that fails when it is told to: what a network does, at moments the test chooses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.servers.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Proxy:
    """Forwards to a port of 127.0.0.1 until it is cut. Used as `async with Proxy(server.port) as proxy`."""

    def __init__(self, target_port: int) -> None:
        """Set up; entering the context starts it."""
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._is_black_hole = False
        self._keeps_answers = False
        self.has_kept_an_answer = asyncio.Event()
        self.port = free_port()

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.heal()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop everything."""
        await self.cut()

    def through(self, url: str) -> str:
        """The same URL, by way of this proxy."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()

    async def cut(self) -> None:
        """Drop every connection and refuse new ones: the server's machine has crashed."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        connections = dict(self._connections)
        for connection, writer in connections.items():
            connection.cancel()
            writer.transport.abort()  # a task that is cancelled before its first step does not come to its end
        await asyncio.gather(*connections, return_exceptions=True)

    def black_hole(self) -> None:
        """Keep connections and take new ones, but let nothing through any more: packets are lost."""
        self._is_black_hole = True

    def lead_to(self, target_port: int) -> None:
        """Take new connections to another port, as when an address is given to another server. The old ones stay."""
        self._target_port = target_port

    def keep_answers(self) -> None:
        """Let everything through to the server and nothing back. `has_kept_an_answer` is set once it has answered."""
        self._keeps_answers = True
        self.has_kept_an_answer.clear()

    async def heal(self) -> None:
        """Forward again, on the same port."""
        if self._is_black_hole or self._keeps_answers:
            await self.cut()  # what was swallowed is lost; nobody should wait for it
            self._is_black_hole = self._keeps_answers = False
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            writer.transport.abort()  # taken from the queue a moment before the cut
            return
        # Kept from the first moment, so that cut() finds connections that have not reached the server yet.
        connection = asyncio.create_task(self._connect(reader, writer))
        self._connections[connection] = writer
        connection.add_done_callback(self._connections.pop)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._forward(reader, there_writer, is_answer=False))
                    both.create_task(self._forward(there_reader, writer, is_answer=True))
            finally:
                there_writer.transport.abort()
        except* OSError:
            pass  # either side is gone, and now the other is too
        finally:
            writer.transport.abort()  # not close(), which would first wait for a reader that may never read

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        while data := await reader.read(65536):
            if is_answer and self._keeps_answers:
                self.has_kept_an_answer.set()
            elif not self._is_black_hole:
                writer.write(data)
                await writer.drain()
        if not self._is_black_hole:
            writer.write_eof()
