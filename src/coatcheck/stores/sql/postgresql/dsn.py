"""Parses a connection URI of PostgreSQL: hosts, database and options."""

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

# The only @ allowed is before the hosts: another one has cut a password that is not percent-encoded in two.
_URI = re.compile(
    r"postgres(?:ql)?://(?:[^@/?#\[\]]*@)?(?P<hosts>[^@/?#]*)(?:/(?P<database>[^@/?#]*))?(?:\?(?P<options>[^@#]*))?"
)
_PORT = re.compile(r"[0-9]{1,5}")
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\s\[\]]+)\]|(?P<name>[^\s:\[\]]+))(?::(?P<port>.*))?")


class Host(NamedTuple):
    """A host that the URI names. `port` None: an option or `PGPORT` may name it."""

    host: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Dsn:
    """A parsed URI. `hosts` empty: its options or `PGHOST` may name hosts."""

    hosts: tuple[Host, ...]
    database: str
    without_hosts: str = field(repr=False)
    """The URI without the hosts."""

    def __str__(self) -> str:
        """Show hosts and database, and nothing else."""
        return f"{','.join(host for host, _ in self.hosts)}/{self.database}"


def parse_dsn(uri: str) -> Dsn:
    """Parse `uri`.

    Raises:
        ConfigurationError: it is no URI of a PostgreSQL database. The error repeats no part of it: where a password was
            not percent-encoded, any part may hold a piece of it.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise ConfigurationError(f"the store URL cannot be read; allowed are {_ALLOWED}")
    # asyncpg is not given the hosts in the URI: newer Pythons refuse an IPv6 address behind another host.
    without_hosts = uri[: found.start("hosts")] + uri[found.end("hosts") :]
    try:
        urlsplit(without_hosts)  # as asyncpg does, with errors that repeat parts of the URI
        options = parse_qs(found["options"], strict_parsing=True) if found["options"] else {}
    except ValueError:
        raise ConfigurationError(f"the store URL cannot be read; allowed are {_ALLOWED}") from None
    for names in options.get("host", ()):
        for one in names.split(","):
            _host(one)
    for ports in options.get("port", ()):
        for one in ports.split(","):
            _port(one)
    hosts = tuple(_host(one) for one in found["hosts"].split(",")) if found["hosts"] else ()
    if len(hosts) > 1:
        hosts = tuple(Host(host, port or _DEFAULT_PORT) for host, port in hosts)
    return Dsn(hosts, found["database"] or "", without_hosts)


def _host(text: str) -> Host:
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"the store URL has an invalid host; allowed are {_ALLOWED}")
    return Host(found["ipv6"] or unquote(found["name"]), _port(found["port"]) if found["port"] else None)


def _port(text: str) -> int:
    if _PORT.fullmatch(text) is None or not 1 <= int(text) <= _HIGHEST_PORT:
        raise ConfigurationError(f"a port in the store URL must be a whole number from 1 to {_HIGHEST_PORT}")
    return int(text)
