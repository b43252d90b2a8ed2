"""Listening in a task of its own, on asyncio or trio."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from coatcheck.client.flow_runner import run_async
from coatcheck.client.http_library import http_errors, loaded
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
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    import httpx2
    from anyio.abc import TaskGroup

    from coatcheck.client.callbacks import Callbacks
    from coatcheck.client.finishing import Finishing
    from coatcheck.client.flows import Flows, Need
    from coatcheck.client.listening import ListeningNeed

T = TypeVar("T")


class ListeningTask:
    """The context manager behind `AsyncClientSessionManager.listening`."""

    def __init__(
        self,
        flows: Flows,
        callbacks: Callbacks,
        http: httpx2.AsyncClient,
        fulfil: Callable[[Need, Finishing], Awaitable[Any]],
    ) -> None:
        """`fulfil` is the manager's own function. It fulfils the needs that do not concern the stream."""
        self._flows = flows
        self._callbacks = callbacks
        self._http = http
        self._fulfil_other = fulfil
        self._has_changed = False
        self._waiting: anyio.CancelScope | None = None
        self._parts: AsyncIterator[bytes] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> None:
        """Begin to listen."""
        self._unsubscribe = self._callbacks.listen(lambda _: self._interrupt())
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(run_async, listening(self._flows), self._fulfil)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and wait for the task."""
        self._unsubscribe()
        if self._group is not None:
            self._group.cancel_scope.cancel()
            # Without the block's error: the group would wrap it into an ExceptionGroup.
            await self._group.__aexit__(None, None, None)

    def _interrupt(self) -> None:
        """End the current wait now."""
        self._has_changed = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _fulfil(self, need: ListeningNeed, finishing: Finishing) -> Any:  # noqa: ANN401 (each need has its own kind of result)
        if isinstance(need, Attend):
            self._has_changed = False
            return None
        if isinstance(need, CloseStream):
            return await finishing.result_of(self._close(need.response))
        if isinstance(need, OpenStream | ReadStream | Pause):
            finishing.raise_held()
        if isinstance(need, OpenStream):
            return await self._unless_interrupted(lambda: self._open(need))
        if isinstance(need, ReadStream):
            return await self._unless_interrupted(self._read)
        if isinstance(need, Pause):
            return await self._unless_interrupted(lambda: anyio.sleep(need.seconds))
        return await self._fulfil_other(need, finishing)

    async def _unless_interrupted(self, step: Callable[[], Awaitable[T]]) -> T:
        if self._has_changed:
            raise Interrupted
        with anyio.CancelScope() as waiting:
            self._waiting = waiting
            try:
                return await step()
            finally:
                self._waiting = None
        raise Interrupted

    async def _open(self, need: OpenStream) -> httpx2.Response:
        wanted = need.request
        request = self._http.build_request(wanted.method, wanted.url, headers=wanted.headers, timeout=opening_timeout())
        self._flows.loopback.guard_async(request)
        response = await self._http.send(request, auth=None, follow_redirects=False, stream=True)
        allow_silence(response)
        self._parts = aiter(response.aiter_bytes())
        return response

    async def _read(self) -> bytes | None:
        return None if self._parts is None else await anext(self._parts, None)

    async def _close(self, response: httpx2.Response) -> None:
        """Close the response, and end the generators of the HTTP library that read it.

        One that is dropped half-way is a `ResourceWarning` on trio. Each reads another, so that `aclose` of the
        outermost would drop the rest; an error in the innermost, whose connection is closed, ends them all.
        """
        await response.aclose()
        parts, self._parts = self._parts, None
        if parts is not None:
            with suppress(*http_errors(), *(library.StreamError for library in loaded())):
                await anext(parts, None)
