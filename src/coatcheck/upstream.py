"""What we lean on that other packages do not promise, in one place; `tests/test_upstream.py` says when it goes away.

Nothing here imports the package it is about: each function looks at what that package has left behind.
"""

from __future__ import annotations

import signal

STARLETTE_HANDLED_TOO_LATE = "Caught handled exception, but response already started."
"""The text of Starlette's RuntimeError about an exception that has a handler, after a response has begun (1.x)."""


def error_handled_too_late(error: BaseException) -> BaseException | None:
    """The error that Starlette has a handler for and met too late, after a response had begun; None if it is no such.

    Starlette raises a RuntimeError of its own in its place, which only its text tells from others.
    """
    if isinstance(error, RuntimeError) and error.args == (STARLETTE_HANDLED_TOO_LATE,):
        return error.__cause__
    return None


def is_uvicorn_exiting() -> bool:
    """Whether uvicorn has been told to stop. False for servers that say nothing, of which most cancel what is open.

    ASGI has no event for it: the lifespan's shutdown comes after the last response. uvicorn waits for that as long as
    it takes, unless it was given `--timeout-graceful-shutdown`, and a stream without an end would keep it for ever.
    Its handler for SIGTERM is a method of the server (`uvicorn.server.Server.capture_signals`); looking is all we do.
    """
    handler = signal.getsignal(signal.SIGTERM)
    return getattr(getattr(handler, "__self__", None), "should_exit", False) is True
