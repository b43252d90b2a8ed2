"""Reading the body of a refusal so that the caller can still read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from coatcheck.client.http_library import library_of, of_kinds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import timedelta
    from types import ModuleType

    import httpx2
    from httpx2 import AsyncByteStream, SyncByteStream
else:  # made with these as their second base, by `of_kinds`
    SyncByteStream = AsyncByteStream = object

MAX_BYTES = 64 * 1024
"""The longest body that is read, so that an endless one does not hold a request up. Refusals have about 200 bytes."""


def peek(response: httpx2.Response) -> bytes | None:
    """The body; None if it is longer than MAX_BYTES or cannot be decoded. The caller can still read or stream it.

    Raises:
        httpx2.RequestError: the connection broke.
    """
    if response.is_stream_consumed:
        return response.content if len(response.content) <= MAX_BYTES else None
    library = library_of(response, "Response")
    stream = cast("httpx2.SyncByteStream", response.stream)
    parts: list[bytes] = []
    rest = iter(stream)
    try:
        for part in rest:
            parts.append(part)
            if _is_too_long(parts):
                break
    except library.RequestError as error:
        error.request = response.request  # as httpx2 does where it reads
        raise
    response.stream = of_kinds(_Rejoined, library.SyncByteStream)(parts, rest, stream)
    return _decoded(response, b"".join(parts), library)


async def apeek(response: httpx2.Response) -> bytes | None:
    """See `peek`."""
    if response.is_stream_consumed:
        return response.content if len(response.content) <= MAX_BYTES else None
    library = library_of(response, "Response")
    stream = cast("httpx2.AsyncByteStream", response.stream)
    parts: list[bytes] = []
    rest = aiter(stream)
    try:
        async for part in rest:
            parts.append(part)
            if _is_too_long(parts):
                break
    except library.RequestError as error:
        error.request = response.request
        raise
    response.stream = of_kinds(_AsyncRejoined, library.AsyncByteStream)(parts, rest, stream)
    return _decoded(response, b"".join(parts), library)


class _Rejoined(SyncByteStream):
    """The parts of a stream that were read, and then the rest of it."""

    def __init__(self, parts: list[bytes], rest: Iterator[bytes], stream: httpx2.SyncByteStream) -> None:
        self._parts, self._rest, self._stream = parts, rest, stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        yield from self._rest

    @property
    def elapsed(self) -> timedelta | None:
        """For `response.elapsed`: httpx2 asks the stream."""
        elapsed: timedelta | None = getattr(self._stream, "elapsed", None)
        return elapsed

    def close(self) -> None:
        self._stream.close()


class _AsyncRejoined(AsyncByteStream):
    """The parts of a stream that were read, and then the rest of it."""

    def __init__(self, parts: list[bytes], rest: AsyncIterator[bytes], stream: httpx2.AsyncByteStream) -> None:
        self._parts, self._rest, self._stream = parts, rest, stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        async for part in self._rest:
            yield part

    @property
    def elapsed(self) -> timedelta | None:
        """See `_Rejoined.elapsed`."""
        elapsed: timedelta | None = getattr(self._stream, "elapsed", None)
        return elapsed

    async def aclose(self) -> None:
        await self._stream.aclose()


def _is_too_long(parts: list[bytes]) -> bool:
    return sum(map(len, parts)) > MAX_BYTES


def _decoded(response: httpx2.Response, body: bytes, library: ModuleType) -> bytes | None:
    if len(body) > MAX_BYTES:
        return None
    try:
        whole: httpx2.Response = library.Response(response.status_code, headers=response.headers, content=body)
    except library.DecodingError:
        return None  # the caller gets this error when it reads the body
    return whole.content
