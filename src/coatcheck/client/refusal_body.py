"""Reading the body of a refusal so that the caller can still read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MAX_BYTES = 64 * 1024
"""The longest body that is read, so that an endless one does not hold a request up. Refusals have about 200 bytes."""


def peek(response: httpx.Response) -> bytes | None:
    """The body; None if it is longer than MAX_BYTES or cannot be decoded. The caller can still read or stream it.

    Raises:
        httpx.RequestError: the connection broke.
    """
    if response.is_stream_consumed:
        return _decoded(response, response.content)
    stream = cast("httpx.SyncByteStream", response.stream)
    parts: list[bytes] = []
    rest = iter(stream)
    try:
        for part in rest:
            parts.append(part)
            if _is_too_long(parts):
                break
    except httpx.RequestError as error:
        error.request = response.request  # as httpx does where it reads
        raise
    response.stream = _Rejoined(parts, rest, stream)
    return _decoded(response, b"".join(parts))


async def apeek(response: httpx.Response) -> bytes | None:
    """See `peek`."""
    if response.is_stream_consumed:
        return _decoded(response, response.content)
    stream = cast("httpx.AsyncByteStream", response.stream)
    parts: list[bytes] = []
    rest = aiter(stream)
    try:
        async for part in rest:
            parts.append(part)
            if _is_too_long(parts):
                break
    except httpx.RequestError as error:
        error.request = response.request
        raise
    response.stream = _AsyncRejoined(parts, rest, stream)
    return _decoded(response, b"".join(parts))


class _Rejoined(httpx.SyncByteStream):
    """The parts of a stream that were read, and then the rest of it."""

    def __init__(self, parts: list[bytes], rest: Iterator[bytes], stream: httpx.SyncByteStream) -> None:
        self._parts, self._rest, self._stream = parts, rest, stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        yield from self._rest

    def close(self) -> None:
        self._stream.close()


class _AsyncRejoined(httpx.AsyncByteStream):
    """The parts of a stream that were read, and then the rest of it."""

    def __init__(self, parts: list[bytes], rest: AsyncIterator[bytes], stream: httpx.AsyncByteStream) -> None:
        self._parts, self._rest, self._stream = parts, rest, stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        async for part in self._rest:
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def _is_too_long(parts: list[bytes]) -> bool:
    return sum(map(len, parts)) > MAX_BYTES


def _decoded(response: httpx.Response, body: bytes) -> bytes | None:
    if len(body) > MAX_BYTES:
        return None
    if response.is_stream_consumed:
        return body
    try:
        return httpx.Response(response.status_code, headers=response.headers, content=body).content
    except httpx.DecodingError:
        return None  # the caller gets this error when it reads the body
