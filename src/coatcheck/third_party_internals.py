"""The places where we rely on something that another library does not promise. Each has a test of its name.

`tests/test_third_party_internals.py` fails by name when an upgrade takes one of them away. No library is imported
here: a function takes an object of the library, or looks at what the library has left behind, so that the module works
whichever of them are installed.
"""

from __future__ import annotations

import signal
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from redis.asyncio import SSLConnection as RedisSSLConnection
    from redis.asyncio.connection import AbstractConnection as RedisConnection
    from sqlalchemy import Connection as SqlConnection

STARLETTE_HANDLED_TOO_LATE = "Caught handled exception, but response already started."
"""The text of Starlette's RuntimeError about an exception that has a handler, after a response has begun (1.x)."""


_ANSWER_WHAT_THEY_CATCH = {("quart.app", "handle_request"), ("django.core.handlers.exception", "inner")}
_STARLETTE_ANSWERS = ("starlette.middleware.errors", "__call__")
_ANSWER_WHILE_THEY_HANDLE = {
    ("litestar.middleware._internal.exceptions.middleware", "__call__"),
    ("litestar.middleware.exceptions.middleware", "__call__"),  # earlier releases of Litestar 2
    _STARLETTE_ANSWERS,
}


def error_handled_too_late(error: BaseException) -> BaseException | None:
    """The error that Starlette has a handler for and met too late, after a response had begun; None if it is no such.

    Starlette raises a RuntimeError of its own in its place, which only its text tells from others.
    """
    if isinstance(error, RuntimeError) and error.args == (STARLETTE_HANDLED_TOO_LATE,):
        return error.__cause__
    return None


def answers_while_it_handles(trace: TracebackType | None) -> bool:
    """Whether an exception is handled where Litestar or Starlette sends a 500 for whatever it catches.

    `trace` is that of the exception then, from the frame that handles it inwards.
    """
    return trace is not None and _place_of(trace) in _ANSWER_WHILE_THEY_HANDLE


def was_answered_by_starlette(error: BaseException) -> bool:
    """Whether Starlette has answered an exception with a 500 where it was caught, before it raised it again.

    It does not where a response had begun: a variable of that function says so. Where `BaseHTTPMiddleware` is around
    it, the response reaches us from another task, so that the exception cannot be seen then.
    """
    trace = error.__traceback__
    while trace is not None:
        if _place_of(trace) == _STARLETTE_ANSWERS and trace.tb_frame.f_locals.get("response_started") is False:
            return True
        trace = trace.tb_next
    return False


def was_answered_by_its_framework(error: BaseException) -> bool:
    """Whether an exception was caught where Quart or Django makes a 500 of whatever it catches.

    Both send the response after they have handled the exception, so that it cannot be seen then. Functions of theirs
    that catch exceptions for something else, handlers of the application for one, do not count.
    """
    trace = error.__traceback__  # from the frame that caught it inwards
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == "asgiref.sync":
        trace = trace.tb_next  # a thread in which it was raised again, so that Django's functions there can see it
    return trace is not None and _place_of(trace) in _ANSWER_WHAT_THEY_CATCH


def _place_of(trace: TracebackType) -> tuple[object, str]:
    """The module and the function of a traceback's first frame."""
    return trace.tb_frame.f_globals.get("__name__"), trace.tb_frame.f_code.co_name


def is_uvicorn_exiting() -> bool:
    """Whether uvicorn has been told to stop. False for servers that say nothing, of which most cancel what is open.

    ASGI has no event for it: the lifespan's shutdown comes after the last response. uvicorn waits for that as long as
    it takes, unless it was given `--timeout-graceful-shutdown`, and a stream without an end would keep it for ever.
    Its handler for SIGTERM is a method of the server (`uvicorn.server.Server.capture_signals`); looking is all we do.
    """
    handler = signal.getsignal(signal.SIGTERM)
    return getattr(getattr(handler, "__self__", None), "should_exit", False) is True


def redis_stream_writer(connection: RedisConnection) -> asyncio.StreamWriter:
    """The stream that a connected `redis.asyncio.Connection` writes to, for its socket and its state.

    redis-py can say what the event loop has noticed (`can_read`), but not what the system knows already.
    """
    writer: asyncio.StreamWriter | None = connection._writer  # noqa: SLF001 (redis-py has no public name for it)
    if writer is None:
        raise ConnectionError("the connection is not connected")
    return writer


def use_ssl_context(connection: RedisSSLConnection, context: ssl.SSLContext) -> None:
    """Let a `redis.asyncio.SSLConnection` encrypt with `context`.

    redis-py makes its own only where there is none yet. Its own believes the system's certificates beside those of the
    file that it is given.
    """
    connection.ssl_context.context = context


def sqlalchemy_isolation_level(connection: SqlConnection) -> str | None:
    """The isolation level that a connection was given by its options or else by its engine; None: the database's own.

    The public `get_isolation_level` asks the database, which knows no AUTOCOMMIT. `detect_autocommit_setting` asks the
    driver, and takes SQLite connections for autocommitting whose BEGIN is sent by an event handler.
    """
    of_the_engine: str | None = connection.engine.dialect._on_connect_isolation_level  # noqa: SLF001 (SQLAlchemy has no public name for it)
    level: str | None = connection.get_execution_options().get("isolation_level", of_the_engine)
    return level


def sqlalchemy_begin_has_listeners(connection: SqlConnection) -> bool:
    """Whether SQLAlchemy calls a listener when a transaction of this connection begins.

    The public `event.contains` knows one listener at a time, and has to be given its function.
    """
    return bool(connection.dispatch.begin)


async def aiosqlite_autocommit(connection: object) -> bool | None:
    """The attribute `autocommit` of the `sqlite3.Connection` beneath one of aiosqlite's, which does not hand it on.

    None: there is none (before Python 3.12), or it leaves BEGIN to `isolation_level` as ever. Only the connection's own
    thread may ask for it, unless it was made with `check_same_thread=False`, as SQLAlchemy makes those of files.
    """
    beneath = getattr(connection, "_conn", None)
    try:
        autocommit = getattr(beneath, "autocommit", None)
    except sqlite3.ProgrammingError:
        in_its_thread: Callable[..., Awaitable[object]] = connection._execute  # type: ignore[attr-defined]  # noqa: SLF001 (aiosqlite has no public name for it)
        autocommit = await in_its_thread(getattr, beneath, "autocommit")
    return autocommit if isinstance(autocommit, bool) else None
