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
# has ports of its own: pytest-xdist calls them gw0, gw1, ... A process without such a name is the only one of its run,
# and uses the whole range, where it meets the processes of other runs less often.
_WORKER = re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", ""))
_PROCESSES = 10 if _WORKER else 1
_PROCESS = int(_WORKER or 0) % _PROCESSES


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


def why_it_did_not_start(program: str, port: int, log: str) -> str:
    """The message for a server that ended or did not answer; `log` is what it said since it was started."""
    said = f"{program} did not start:\n{log[-4000:]}"
    if "address already in use" not in log.lower():
        return said
    return f"port {port} of 127.0.0.1 is taken by another program; run again, which chooses other ports\n{said}"


def free_ports(count: int) -> list[int]:
    """As many, each another."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)
