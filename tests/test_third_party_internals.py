"""Each place where we rely on something that another library does not promise is still as we expect it.

Each test drives the real library. An upgrade that takes something away fails here, by name: look into
`coatcheck/third_party_internals.py` then and find another way.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import ssl
import sys
from typing import TYPE_CHECKING

import aiosqlite
import pytest
import uvicorn
from redis.asyncio import Connection, SSLConnection
from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from coatcheck import third_party_internals
from tests.servers.scripted_redis import ScriptedRedis
from tests.web.asgi_calls import request

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send


class Trouble(Exception):  # noqa: N818 (an application's own)
    """An error that the application has a handler for."""


class BeginsAndFails(PlainTextResponse):
    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise Trouble


async def begins_and_fails(_request: Request) -> PlainTextResponse:
    return BeginsAndFails()


async def handle(_request: Request, _error: Exception) -> PlainTextResponse:
    return PlainTextResponse("handled")


async def test_starlette_says_in_the_text_we_know_that_an_error_was_handled_too_late() -> None:
    app = Starlette(routes=[Route("/", begins_and_fails)], exception_handlers={Trouble: handle})
    with pytest.raises(RuntimeError) as raised:
        await request(app)
    assert raised.value.args == (third_party_internals.STARLETTE_HANDLED_TOO_LATE,)
    assert isinstance(third_party_internals.error_handled_too_late(raised.value), Trouble)


async def test_starlette_sends_its_500_in_the_function_we_know_while_it_handles_the_error() -> None:
    known: list[bool] = []

    async def fail(_request: Request) -> PlainTextResponse:
        raise Trouble

    app = Starlette(routes=[Route("/", fail)])

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def remember(message: Message) -> None:
            error = sys.exception()
            known.append(error is not None and third_party_internals.answers_while_it_handles(error.__traceback__))
            await send(message)

        await app(scope, receive, remember)

    with pytest.raises(Trouble) as raised:
        await request(watched)
    assert known == [True, True]
    assert third_party_internals.was_answered_by_starlette(raised.value)


async def test_starlette_notes_in_the_variable_we_know_that_a_response_had_begun_before_the_error() -> None:
    with pytest.raises(Trouble) as raised:
        await request(Starlette(routes=[Route("/", begins_and_fails)]))
    assert "response_started" in {name for entry in raised.traceback for name in entry.frame.f_locals}
    assert not third_party_internals.was_answered_by_starlette(raised.value)


def test_another_runtime_error_is_no_word_of_starlettes() -> None:
    trouble = Trouble(third_party_internals.STARLETTE_HANDLED_TOO_LATE)
    for other in (RuntimeError("bug"), trouble):
        assert third_party_internals.error_handled_too_late(other) is None


def test_uvicorns_handler_of_sigterm_is_a_method_of_a_server_that_knows_whether_it_should_exit() -> None:
    server = uvicorn.Server(uvicorn.Config(handle, lifespan="off"))
    assert not third_party_internals.is_uvicorn_exiting()
    with server.capture_signals():
        assert getattr(signal.getsignal(signal.SIGTERM), "__self__", None) is server
        assert not third_party_internals.is_uvicorn_exiting()
        server.should_exit = True
        assert third_party_internals.is_uvicorn_exiting()
    assert not third_party_internals.is_uvicorn_exiting()


def test_uvicorn_that_is_told_to_stop_by_a_signal_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    server = uvicorn.Server(uvicorn.Config(handle, lifespan="off"))
    monkeypatch.setattr(signal, "raise_signal", lambda _: None)  # uvicorn hands the signal on when it has stopped
    with server.capture_signals():
        server.handle_exit(signal.SIGTERM, None)
        assert third_party_internals.is_uvicorn_exiting()


async def test_redis_py_encrypts_with_the_context_that_it_is_given() -> None:
    context = ssl.create_default_context()
    connection = SSLConnection(host="127.0.0.1", port=1)
    third_party_internals.use_ssl_context(connection, context)
    assert connection._connection_arguments()["ssl"] is context  # noqa: SLF001 (what it hands to asyncio)


async def test_redis_py_keeps_the_stream_writer_of_a_connection() -> None:
    async with ScriptedRedis() as server:
        connection = Connection(host="127.0.0.1", port=server.port)
        with pytest.raises(ConnectionError):
            third_party_internals.redis_stream_writer(connection)
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py does not say
        writer = third_party_internals.redis_stream_writer(connection)
        assert isinstance(writer, asyncio.StreamWriter)
        assert writer.get_extra_info("socket").getpeername() == ("127.0.0.1", server.port)
        assert not writer.is_closing()
        await connection.disconnect(nowait=True)
        assert writer.is_closing()


@pytest.mark.parametrize(
    ("of_the_engine", "of_the_connection", "level"),
    [
        (None, None, None),
        ("AUTOCOMMIT", None, "AUTOCOMMIT"),
        (None, "AUTOCOMMIT", "AUTOCOMMIT"),
        ("AUTOCOMMIT", "SERIALIZABLE", "SERIALIZABLE"),
    ],
)
def test_sqlalchemy_keeps_the_isolation_level_of_an_engine_and_of_a_connection(
    of_the_engine: str | None, of_the_connection: str | None, level: str | None
) -> None:
    options = {} if of_the_engine is None else {"isolation_level": of_the_engine}
    engine = create_engine("sqlite://", poolclass=NullPool, **options)
    with engine.connect() as connection:
        if of_the_connection is not None:
            connection.execution_options(isolation_level=of_the_connection)
        assert third_party_internals.sqlalchemy_isolation_level(connection) == level


def test_sqlalchemy_tells_whether_the_beginning_of_a_transaction_has_a_listener() -> None:
    engine, listened_to = (create_engine("sqlite://", poolclass=NullPool) for _ in range(2))
    event.listen(listened_to, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with engine.connect() as connection, listened_to.connect() as other:
        assert not third_party_internals.sqlalchemy_begin_has_listeners(connection)
        assert third_party_internals.sqlalchemy_begin_has_listeners(other)
        event.listen(connection, "begin", lambda _: None)
        assert third_party_internals.sqlalchemy_begin_has_listeners(connection)


@pytest.mark.parametrize("autocommit", [True, False])
async def test_aiosqlite_keeps_the_connection_of_sqlite3(*, autocommit: bool) -> None:
    class Older(sqlite3.Connection):
        """As since Python 3.12 with this argument."""

    Older.autocommit = autocommit  # type: ignore[attr-defined]  # newer than the oldest Python
    async with aiosqlite.connect(":memory:", factory=Older) as connection:
        assert await third_party_internals.aiosqlite_autocommit(connection) is autocommit
    async with aiosqlite.connect(":memory:") as connection:
        assert await third_party_internals.aiosqlite_autocommit(connection) is None
