"""Free loopback ports."""

from __future__ import annotations

import os
import random
import re
import socket

# Below the range that Linux and macOS give to outgoing connections. A server that is stopped and started again needs
# its port back; in that range a client's connection may have taken it meanwhile, even one that was looking for the
# server itself (TCP lets a connection to an unused loopback port of its own choosing succeed).
_FIRST, _LAST = 20_000, 29_999

# A port that was found free is taken only a moment later. So that two processes of one run never find the same, each
# has ports of its own: pytest-xdist calls them gw0, gw1, ...
_PROCESSES = 10
_PROCESS = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % _PROCESSES


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    for _ in range(100):
        port = random.randrange(_FIRST + _PROCESS, _LAST + 1, _PROCESSES)  # noqa: S311 (a port is no secret)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: ignore what is in TIME_WAIT
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port found between {_FIRST} and {_LAST}")


def free_ports(count: int) -> list[int]:
    """As many, each another."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)
