"""Which signals end a run, wherever it was started."""

from __future__ import annotations

import signal


def end_in_order() -> None:
    """Let SIGINT and SIGTERM end this process as Ctrl+C does, and let its children have the signals' defaults.

    A script that starts a job with `&`, `nohup` and several CI runners ignore SIGINT, some also SIGCHLD. A process
    inherits what its parent ignores, and Python leaves it ignored: a child could then not be interrupted, and a wait
    for a child would report status 0. A signal with a handler has its default again in a child. `timeout`, CI and
    people end a run with SIGTERM: as with Ctrl+C, the servers that it has started end with it. Call it first in each
    program that starts others, and in its main thread.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
