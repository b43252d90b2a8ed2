"""What is kept of the client that signed in, for lists of devices."""

from __future__ import annotations

from dataclasses import dataclass

from coatcheck.errors import InvalidArgumentError

MAX_LABEL_LENGTH = 64
MAX_USER_AGENT_LENGTH = 256
MAX_IP_ADDRESS_LENGTH = 49
"""Of an IPv6 address and a prefix length."""


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """On what a session was made: what the client says about itself, and where it called from. All of it is optional.

    `label` is for people ("Firefox on Linux", 1 to 64 characters), `user_agent` the header (at most 256), `ip_address`
    an address or the network it is in ("192.0.2.0/24"). Nothing here is proof of anything: two of the three are the
    client's own words. Personal data all the same: it is deleted with the session.

    Raises:
        InvalidArgumentError: a text is empty, too long, or holds what cannot be printed.
    """

    label: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None

    def __post_init__(self) -> None:
        """Check the texts: they go into a database and onto pages."""
        _check("label", self.label, MAX_LABEL_LENGTH)
        _check("user_agent", self.user_agent, MAX_USER_AGENT_LENGTH)
        _check("ip_address", self.ip_address, MAX_IP_ADDRESS_LENGTH)


def _check(name: str, value: object, max_length: int) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not 1 <= len(value) <= max_length or not value.isprintable():
        raise InvalidArgumentError(f"{name} must be None or text of 1 to {max_length} printable characters")


UNKNOWN_CLIENT = ClientInfo()
"""A client of which nothing is known."""
