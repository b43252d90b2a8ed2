"""Listening in a thread of its own, for programs that do not await."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING, Any

from coatcheck.client.flow_runner import run
from coatcheck.client.flows import Tell
from coatcheck.client.listening import (
    Attend,
    CloseStream,
    Interrupted,
    OpenStream,
    Pause,
    ReadStream,
    allow_silence,
    listening,
    opening_timeout,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    import httpx2

    from coatcheck.client.callbacks import Callbacks
    from coatcheck.client.flows import Flows, Need
    from coatcheck.client.listening import ListeningNeed

STOP_SECONDS = 5.0
"""The longest time for which leaving the block waits for the thread.

The thread ends at once while it reads a stream or pauses. Nothing wakes it up while it connects or waits for the head
of an answer: it then ends by itself, after at most `OPEN_SECONDS` for each of these steps. A thread that looks up a
name, or is in the storage or a callback, ends when that returns.
"""


class _Stopped(BaseException):
    """The block was left."""


class ListeningThread:
    """The context manager behind `ClientSessionManager.listening`."""

    def __init__(self, flows: Flows, callbacks: Callbacks, http: httpx2.Client, fulfil: Callable[[Need], Any]) -> None:
        """`fulfil` is the manager's own function. It fulfils the needs that do not concern the stream."""
        self._flows = flows
        self._callbacks = callbacks
        self._http = http
        self._fulfil_other = fulfil
        self._has_changed = Event()
        self._is_stopped = False
        self._socket: socket.socket | None = None
        self._parts: Iterator[bytes] = iter(())
        self._unsubscribe: Callable[[], None] = lambda: None
        self._thread = Thread(target=self._run, name="coatcheck-listening", daemon=True)

    def __enter__(self) -> None:
        """Begin to listen."""
        self._unsubscribe = self._callbacks.listen(lambda _: self._interrupt())
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and wait for the thread, unless it is this thread that leaves the block."""
        self._unsubscribe()
        self._is_stopped = True
        self._interrupt()
        if self._thread is not current_thread():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        with suppress(_Stopped):
            run(listening(self._flows), self._fulfil)

    def _interrupt(self) -> None:
        """End the current wait now. Any thread may call this."""
        self._has_changed.set()
        opened = self._socket
        if opened is not None:
            with suppress(OSError):
                # Closing the socket would not wake up the thread that reads. TLS would first wait for its goodbye.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)

    def _fulfil(self, need: ListeningNeed) -> Any:  # noqa: ANN401 (each need has its own kind of result)
        if isinstance(need, Attend):
            self._has_changed.clear()
            if self._is_stopped:
                raise _Stopped
            return None
        if isinstance(need, CloseStream):
            self._socket = None
            return need.response.close()
        if isinstance(need, OpenStream):
            return self._open(need)
        if isinstance(need, ReadStream):
            return self._read()
        if isinstance(need, Pause):
            self._has_changed.wait(need.seconds)
            return self._check()
        # After the stop, a late answer is ignored: the next request finds out. A change is still told.
        if self._is_stopped and not isinstance(need, Tell):
            raise _Stopped
        return self._fulfil_other(need)

    def _open(self, need: OpenStream) -> httpx2.Response:
        self._check()
        wanted = need.request
        request = self._http.build_request(wanted.method, wanted.url, headers=wanted.headers, timeout=opening_timeout())
        self._flows.loopback.guard(request)
        # An interruption shuts the socket down. A connection that is kept alive could serve another request by then.
        request.headers["Connection"] = "close"
        response = self._http.send(request, auth=None, follow_redirects=False, stream=True)
        allow_silence(response)
        self._parts = response.iter_bytes()
        network = response.extensions.get("network_stream")
        # Over HTTP/2 other requests share the connection; then the wait ends with the server's next comment.
        if network is not None and response.http_version != "HTTP/2":
            self._socket = network.get_extra_info("socket")
        return response

    def _read(self) -> bytes | None:
        self._check()
        try:
            return next(self._parts, None)
        finally:
            self._check()  # replaces the error of a socket that was shut down

    def _check(self) -> None:
        if self._is_stopped:
            raise _Stopped
        if self._has_changed.is_set():
            raise Interrupted
