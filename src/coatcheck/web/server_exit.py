"""Whether the server is about to exit, as far as it lets anybody know."""

from __future__ import annotations

import signal


def is_server_exiting() -> bool:
    """Whether uvicorn has been told to stop. False for servers that say nothing, of which most cancel what is open.

    ASGI has no event for it: the lifespan's shutdown comes after the last response. uvicorn waits for that as long as
    it takes, unless it was given `--timeout-graceful-shutdown`, and a stream without an end would keep it for ever.
    Its handler for SIGTERM is a method of the server (`uvicorn.server.Server.capture_signals`); looking is all we do.
    """
    handler = signal.getsignal(signal.SIGTERM)
    return getattr(getattr(handler, "__self__", None), "should_exit", False) is True
