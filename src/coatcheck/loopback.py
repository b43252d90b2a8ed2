"""Names of this machine to itself."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host, in lower case and without a port or brackets, is this very machine.

    Browsers resolve `*.localhost` to loopback (RFC 6761).
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
