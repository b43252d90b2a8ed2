"""Parses a connection URI of PostgreSQL: hosts, database and options."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from coatcheck.errors import ConfigurationError
from coatcheck.hidden import Hidden, HiddenText
from coatcheck.stores.sql.postgresql.dsn_options import checked_query, connect_timeout_seconds, connections, is_pooled

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
    without_hosts: HiddenText = field(repr=False)
    """The URI without the hosts, and without the options that are not for the driver."""
    option_names: frozenset[str]
    connect_timeout_seconds: float | None
    """The URI's own limit for connecting; None: it has none."""
    connections: int | None = None
    """How many connections the store may have; None: the URI does not say."""
    is_pooled: bool = False
    """Whether the URI says that it leads through a pooler in transaction mode (`pooler=transaction`)."""
    listen: Dsn | None = None
    """Where to listen instead, past a pooler (`listen=`)."""

    def __str__(self) -> str:
        """Show hosts and database, and nothing else."""
        return f"{','.join(host for host, _ in self.hosts)}/{self.database}"


def parse_dsn(uri: str) -> Dsn:
    """Parse `uri`.

    Raises:
        ConfigurationError: it is no URI of a PostgreSQL database. The error repeats no part of it: where a password was
            not percent-encoded, any part may hold a piece of it.
    """
    uri = HiddenText(uri)
    found = Hidden(_URI.fullmatch(uri))
    if found.reveal() is None:
        raise ConfigurationError(f"the store URL cannot be read; allowed are {_ALLOWED}")
    hosts_at = _span(found, "hosts")
    # asyncpg is not given the hosts in the URI: newer Pythons refuse an IPv6 address behind another host.
    without_hosts = uri[: hosts_at[0]] + uri[hosts_at[1] :]
    options = _options(without_hosts, _group(found, "options"))
    if options is None:
        raise ConfigurationError(f"the store URL cannot be read; allowed are {_ALLOWED}")
    for one in _listed(options, "host"):
        if not one.startswith("/"):  # the folder of a socket
            _host(one)
    for one in _listed(options, "port"):
        _port(one)
    query = checked_query(options)
    without_options = without_hosts.partition("?")[0]
    dsn = Dsn(
        _hosts(_group(found, "hosts")),
        str(_group(found, "database") or ""),
        HiddenText(f"{without_options}?{query}" if query else without_options),
        frozenset(options.reveal()),
        connect_timeout_seconds(options),
        connections(options),
    )
    return replace(dsn, is_pooled=is_pooled(options), listen=_listen(dsn, options))


def _hosts(named: HiddenText | None) -> tuple[Host, ...]:
    hosts = tuple(map(_host, named.split(","))) if named else ()
    if len(hosts) > 1:
        hosts = tuple(Host(host, port or _DEFAULT_PORT) for host, port in hosts)
    return hosts


def _listen(dsn: Dsn, options: Hidden[dict[str, list[str]]]) -> Dsn | None:
    """Where to listen: other hosts with everything else as in `dsn`, or a URI by itself."""
    given = options.reveal().get("listen", [])
    if not given:
        return None
    if len(given) > 1:
        raise ConfigurationError("listen must be in the store URL once, with commas between its hosts")
    target = HiddenText(given[0])
    try:
        if "://" not in target:
            # An option `port` is that of the pooler.
            return replace(dsn, hosts=tuple(Host(host, port or _DEFAULT_PORT) for host, port in _hosts(target)))
        other = parse_dsn(target)
    except ConfigurationError as error:
        raise ConfigurationError(
            "listen in the store URL must be host:5432, with standbys host:5432,host:5432, "
            f"or a percent-encoded URL postgresql%3A%2F%2F...: {error}"
        ) from None
    if other.is_pooled or other.listen is not None or other.connections is not None:
        raise ConfigurationError(
            "listen in the store URL must name the server itself, without pooler, listen and connections"
        )
    return other


def _options(without_hosts: HiddenText, query: HiddenText | None) -> Hidden[dict[str, list[str]]] | None:
    """The options of the URI; None if it cannot be read."""
    try:
        urlsplit(without_hosts)  # as asyncpg does, with errors that repeat parts of the URI
        return Hidden(parse_qs(str(query), strict_parsing=True) if query else {})
    except ValueError:
        return None


def _listed(options: Hidden[dict[str, list[str]]], name: str) -> list[str]:
    """The values of an option, each split at its commas."""
    return [part for value in options.reveal().get(name, ()) for part in HiddenText(value).split(",")]


def _host(text: str) -> Host:
    text = HiddenText(text)
    found = Hidden(_ADDRESS.fullmatch(text))
    if found.reveal() is None:
        raise ConfigurationError(f"the store URL has an invalid host; allowed are {_ALLOWED}")
    port = _group(found, "port")
    ipv6, name = _group(found, "ipv6"), _group(found, "name")
    number = _port(port) if port else None
    return Host(str(ipv6) if ipv6 else unquote(str(name)), number)


def _port(text: str) -> int:
    text = HiddenText(text)
    if _PORT.fullmatch(text) is None or not 1 <= int(text) <= _HIGHEST_PORT:
        raise ConfigurationError(f"a port in the store URL must be a whole number from 1 to {_HIGHEST_PORT}")
    return int(text)


def _group(found: Hidden[re.Match[str] | None], name: str) -> HiddenText | None:
    match = found.reveal()
    text = None if match is None else match[name]
    return None if text is None else HiddenText(text)


def _span(found: Hidden[re.Match[str] | None], name: str) -> tuple[int, int]:
    match = found.reveal()
    return (0, 0) if match is None else match.span(name)
