"""The device that a session is made on: its label, its User-Agent and the address it called from."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from coatcheck.client_info import MAX_LABEL_LENGTH, MAX_USER_AGENT_LENGTH, ClientInfo
from coatcheck.errors import ConfigurationError
from coatcheck.web.http.user_agents import label_of

if TYPE_CHECKING:
    from coatcheck.web.http.request_facts import RequestFacts

Labeller: TypeAlias = Callable[[str], str | None]

LABEL_HEADER = b"coatcheck-client"
"""The header in which a client says what it calls itself, percent-encoded UTF-8."""

_PREFIX_LENGTHS = {4: 24, 6: 48}
_MAX_HEADER_LENGTH = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCapture:
    """Which facts about a client are kept with its session: `SessionMiddleware(..., clients=ClientCapture(...))`.

    They are personal data, shown to the user in lists of their devices and deleted with the session.

    `trusted_proxies` is the number of reverse proxies in front of the application, each of which adds the address it
    was called from to X-Forwarded-For. With 0 (the default) that header is not looked at: anybody can send it. Leave
    it at 0 as well where the server itself already does this (uvicorn with --proxy-headers).

    `ip_address` is "truncated" by default, to the /24 of an IPv4 and the /48 of an IPv6 address: enough to recognise
    a network, too little to find a person. "full" keeps all of it, "off" nothing.

    `user_agent` False keeps no User-Agent header; the label is still made from it.

    `label` makes the label out of a User-Agent where the client does not send one of its own in `Coatcheck-Client`;
    None: no label is made.

    Raises:
        ConfigurationError: a setting is wrong; the message names it and what is allowed.
    """

    trusted_proxies: int = 0
    """The number of proxies of your own that requests come through."""
    ip_address: Literal["full", "truncated", "off"] = "truncated"
    """How much of the address is kept."""
    user_agent: bool = True
    """Whether the User-Agent header is kept."""
    label: Labeller | None = label_of
    """Makes the label out of a User-Agent; None: no label is made."""

    def __post_init__(self) -> None:
        """Check the settings."""
        hops: object = self.trusted_proxies
        if not isinstance(hops, int) or isinstance(hops, bool) or not 0 <= hops <= 16:
            raise ConfigurationError("ClientCapture trusted_proxies must be a whole number from 0 to 16")
        if self.ip_address not in {"full", "truncated", "off"}:
            raise ConfigurationError('ClientCapture ip_address must be "full", "truncated" or "off"')
        if not isinstance(self.user_agent, bool):
            raise ConfigurationError("ClientCapture user_agent must be True or False")

    def of(self, facts: RequestFacts) -> ClientInfo:
        """The facts that are kept of the client behind this request. Never raises on anything a client can send."""
        user_agent = facts.only_value_of(b"user-agent") or ""
        label = _own_label(facts.only_value_of(LABEL_HEADER))
        if label is None and self.label is not None and user_agent:
            label = self.label(user_agent[:MAX_USER_AGENT_LENGTH])
        return ClientInfo(
            label=_printable(label or "", MAX_LABEL_LENGTH),
            user_agent=_printable(user_agent, MAX_USER_AGENT_LENGTH) if self.user_agent else None,
            ip_address=self._ip_address(facts),
        )

    def _ip_address(self, facts: RequestFacts) -> str | None:
        if self.ip_address == "off":
            return None
        address = client_address(facts, self.trusted_proxies)
        if address is None or self.ip_address == "full":
            return None if address is None else str(address)
        return str(ipaddress.ip_network((address, _PREFIX_LENGTHS[address.version]), strict=False))


def client_address(
    facts: RequestFacts, trusted_proxies: int = 0
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that the client called from, behind this many proxies; None where that is not known.

    Of the addresses in X-Forwarded-For the last is what the nearest proxy saw, and so on leftwards; what stands before
    those our own proxies added is the client's invention. Where there are fewer than proxies, the request came another
    way, and nothing is known.
    """
    if trusted_proxies == 0:
        return None if facts.client is None else _address(facts.client)
    hops = [hop for line in facts.values_of(b"x-forwarded-for") for hop in line.split(",")]
    return _address(hops[-trusted_proxies]) if len(hops) >= trusted_proxies else None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, which some proxies write with a port, and IPv6 in brackets."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _own_label(value: str | None) -> str | None:
    if value is None or len(value) > _MAX_HEADER_LENGTH:
        return None
    try:
        return unquote_to_bytes(value).decode("utf-8").strip() or None
    except UnicodeDecodeError:
        return None


def _printable(text: str, max_length: int) -> str | None:
    """The text as it can be stored, logged and shown: what cannot be printed is replaced, what is too long is cut."""
    cleaned = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return cleaned[:max_length].strip() or None
