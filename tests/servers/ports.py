"""Free loopback ports."""

from __future__ import annotations

import random
import socket

# Below the range that Linux and macOS give to outgoing connections. A server that is stopped and started again needs
# its port back; in that range a client's connection may have taken it meanwhile, even one that was looking for the
# server itself (TCP lets a connection to an unused loopback port of its own choosing succeed).
_FIRST, _LAST = 20_000, 29_999


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    for _ in range(100):
        port = random.randint(_FIRST, _LAST)  # noqa: S311 (a port is no secret)
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
