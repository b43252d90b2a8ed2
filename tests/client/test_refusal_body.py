"""The body of a refusal is read before the caller reads it, and the caller does not notice."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import httpx
import httpx2
import pytest

from coatcheck.client import AsyncClientSessionManager, ClientSessionManager
from coatcheck.client.http_library import installed
from coatcheck.client.refusal_body import MAX_BYTES
from tests.client.programs import ada

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import ModuleType

pytestmark = pytest.mark.usefixtures("library")
SERVER = "https://notes.example"
PROBLEM = {"Content-Type": "application/problem+json"}
OURS = b'{"code": "invalid_token"}'


class Parts(httpx2.SyncByteStream, httpx2.AsyncByteStream, httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that arrives in parts, without a known length, and may break off."""

    def __init__(self, *parts: bytes, breaks_off: bool = False) -> None:
        self.parts = parts
        self.breaks_off = breaks_off
        self.taken = 0
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            self.taken += 1
            yield part
        if self.breaks_off:
            raise installed().ReadError("reset by the peer")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


class Caller:
    """A signed-in caller that streams the answers, raw or decoded."""

    def __init__(self, kind: str, body: Parts, headers: dict[str, str]) -> None:
        library = installed()
        self.transport = library.MockTransport(lambda _request: library.Response(401, headers=headers, stream=body))
        self.manager = ClientSessionManager(SERVER) if kind == "sync" else AsyncClientSessionManager(SERVER)

    async def stream(self, *, raw: bool = False) -> bytes:
        if isinstance(self.manager, ClientSessionManager):
            return _stream(self.manager, self.transport, raw=raw)
        await self.manager.update_signed_in_user(ada())
        async with (
            installed().AsyncClient(transport=self.transport, auth=self.manager.auth) as http,
            http.stream("GET", SERVER) as answer,
        ):
            return b"".join([part async for part in (answer.aiter_raw() if raw else answer.aiter_bytes())])


def _stream(manager: ClientSessionManager, transport: httpx2.MockTransport, *, raw: bool) -> bytes:
    manager.update_signed_in_user(ada())
    with installed().Client(transport=transport, auth=manager.auth) as http, http.stream("GET", SERVER) as answer:
        return b"".join(answer.iter_raw() if raw else answer.iter_bytes())


@pytest.mark.parametrize("raw", [False, True])
async def test_a_streamed_refusal_ends_the_session_and_can_still_be_streamed(kind: str, raw: bool) -> None:
    body = Parts(OURS[:5], OURS[5:])
    caller = Caller(kind, body, PROBLEM)
    assert await caller.stream(raw=raw) == OURS
    assert not caller.manager.is_authenticated
    assert body.is_closed


async def test_a_compressed_refusal_ends_the_session(kind: str) -> None:
    caller = Caller(kind, Parts(gzip.compress(OURS)), {**PROBLEM, "Content-Encoding": "gzip"})
    assert await caller.stream() == OURS
    assert not caller.manager.is_authenticated


async def test_a_refusal_that_cannot_be_decoded_ends_no_session_and_raises_in_the_caller(
    kind: str, library: ModuleType
) -> None:
    caller = Caller(kind, Parts(OURS), {**PROBLEM, "Content-Encoding": "gzip"})
    with pytest.raises(library.DecodingError):
        await caller.stream()
    assert caller.manager.is_authenticated


async def test_a_refusal_that_is_too_long_ends_no_session_and_arrives_complete(kind: str) -> None:
    body = Parts(OURS, *[b" " * 1024] * 100)
    caller = Caller(kind, body, PROBLEM)
    assert await caller.stream() == b"".join(body.parts)
    assert caller.manager.is_authenticated
    assert body.is_closed


def test_a_refusal_without_an_end_is_not_waited_for(library: ModuleType) -> None:
    body = Parts(OURS, *[b" " * 1024] * 1000)
    manager = ClientSessionManager(SERVER)
    manager.update_signed_in_user(ada())
    steps = manager.auth.sync_auth_flow(library.Request("GET", SERVER))
    response = library.Response(401, headers=PROBLEM, stream=body, request=next(steps))
    with pytest.raises(StopIteration):
        steps.send(response)
    assert body.taken == MAX_BYTES // 1024 + 1


async def test_a_refusal_that_breaks_off_ends_no_session(kind: str, library: ModuleType) -> None:
    caller = Caller(kind, Parts(OURS, breaks_off=True), PROBLEM)
    with pytest.raises(library.ReadError) as error:
        await caller.stream()
    assert error.value.request.url == SERVER
    assert caller.manager.is_authenticated
