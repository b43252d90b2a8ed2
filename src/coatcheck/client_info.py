"""The device that a session was made on, for lists of devices."""

from __future__ import annotations

from dataclasses import dataclass

from coatcheck.errors import InvalidArgumentError

MAX_LABEL_LENGTH = 64
MAX_USER_AGENT_LENGTH = 256
MAX_IP_ADDRESS_LENGTH = 49
"""The length of an IPv6 address with a prefix length."""


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """The device that a session was made on: its label, its user agent and its address. Each is optional.

    `label` is for people ("Firefox on Linux", 1 to 64 characters), `user_agent` is the header (at most 256 characters),
    `ip_address` is an address or its network ("192.0.2.0/24"). None of them proves anything: the client chooses the
    first two freely. They are personal data, and are deleted with the session.

    Raises:
        InvalidArgumentError: a text is empty or too long, or holds characters that cannot be printed.
    """

    label: str | None = None
    """A name for people, such as "Firefox on Linux"; None: not known."""
    user_agent: str | None = None
    """The User-Agent header; None: not sent, or not kept."""
    ip_address: str | None = None
    """The address of the sign-in; None: not known, or not kept."""

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
"""A device of which nothing is known."""
