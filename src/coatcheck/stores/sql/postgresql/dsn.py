"""Where the servers are: what a connection URI says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from coatcheck.errors import ConfigurationError

_ALLOWED = (
    "postgresql://user:password@host:5432/database, with standbys host:5432,host:5432; in a user name or a password "
    "@ / ? # [ ] are written %40 %2F %3F %23 %5B %5D"
)

_DEFAULT_PORT = 5432
_HIGHEST_PORT = 65535

# No @ but the one before the hosts: where there is another, a password that is not percent-encoded has been cut in two.
_URI = re.compile(
    r"postgres(?:ql)?://(?:[^@/?#\[\]]*@)?(?P<hosts>[^@/?#]*)(?:/(?P<database>[^@/?#]*))?(?:\?(?P<options>[^@#]*))?"
)
_PORT = re.compile(r"[0-9]{1,5}")
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\s\[\]]+)\]|(?P<name>[^\s:\[\]]+))(?::(?P<port>.*))?")


class Host(NamedTuple):
    """A server. `port` None: an option or `PGPORT` may name it."""

    host: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Dsn:
    """What a URI says. `addresses` empty: its options or `PGHOST` may name hosts."""

    addresses: tuple[Host, ...]
    database: str
    dsn: str = field(repr=False)
    """The URI without the addresses."""

    def __str__(self) -> str:
        """Hosts and database, and nothing else."""
        return f"{','.join(address.host for address in self.addresses)}/{self.database}"


def parse_dsn(uri: str) -> Dsn:
    """What `uri` says.

    Raises:
        ConfigurationError: it is no URI of a PostgreSQL database. No part of it is repeated: where a password was not
            percent-encoded, any part may hold a piece of it.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise ConfigurationError(f"the store URL cannot be read; allowed are {_ALLOWED}")
    # asyncpg gets no hosts to read: newer Pythons refuse a URI that has several, with an IPv6 address behind another.
    dsn = uri[: found.start("hosts")] + uri[found.end("hosts") :]
    try:
        urlsplit(dsn)  # as asyncpg does, with errors that repeat what they complain about
        options = parse_qs(found["options"], strict_parsing=True) if found["options"] else {}
    except ValueError:
        raise ConfigurationError(f"the store URL cannot be read; allowed are {_ALLOWED}") from None
    for hosts in options.get("host", ()):
        for one in hosts.split(","):
            _address(one)
    for ports in options.get("port", ()):
        for one in ports.split(","):
            _port(one)
    hosts = found["hosts"]
    addresses = tuple(_address(one) for one in hosts.split(",")) if hosts else ()
    if len(addresses) > 1:
        addresses = tuple(Host(host, port or _DEFAULT_PORT) for host, port in addresses)
    return Dsn(addresses, found["database"] or "", dsn)


def _address(text: str) -> Host:
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"the store URL names a host that cannot be; allowed are {_ALLOWED}")
    return Host(found["ipv6"] or unquote(found["name"]), _port(found["port"]) if found["port"] else None)


def _port(text: str) -> int:
    if _PORT.fullmatch(text) is None or not 1 <= int(text) <= _HIGHEST_PORT:
        raise ConfigurationError(f"a port in the store URL must be a whole number from 1 to {_HIGHEST_PORT}")
    return int(text)
