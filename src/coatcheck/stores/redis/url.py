"""Parses a URL of Redis, Valkey or a Cluster, and makes connections as it says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from coatcheck.errors import ConfigurationError
from coatcheck.hidden import Hidden, HiddenText

if TYPE_CHECKING:
    from typing import Any

ALLOWED = (
    "redis://user:password@host:6379/0, redis+cluster://host:6379,host:6379, the same with rediss (TLS), valkey or "
    "valkeys; after a ? prefix=..., replicas=... and ca_certs=FILE"
)

_ENCRYPTED = frozenset(("rediss", "valkeys"))
_SCHEMES = _ENCRYPTED.union(("redis", "valkey"))
_CLUSTER = "+cluster"
_DEFAULT_PORT = 6379
_OPTIONS = ("prefix", "replicas", "ca_certs")
_MAX_PREFIX = 64
_MOST_DIGITS = 7
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:\[\]@%]+))(?::(?P<port>[^:]*))?")


class Address(NamedTuple):
    """A server's host and port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL. `replicas` None: it does not say how many replicas must have a revocation."""

    addresses: tuple[Address, ...]
    is_cluster: bool
    database: int
    prefix: str
    replicas: int | None
    is_encrypted: bool
    ca_certs: str | None
    username: str | None
    password: HiddenText | None = field(repr=False)

    def connection(self, address: Address, *, timeout_seconds: float) -> Connection:
        """A connection, not connected yet, that tries once and does not limit the time for replies."""
        options: dict[str, Any] = {
            "host": address.host,
            "port": address.port,
            "db": self.database,
            "username": self.username,
            "protocol": 2,  # replies without attributes, and no pushed messages in between
            "client_name": "coatcheck",
            "driver_info": None,  # Redis 7.0 does not know CLIENT SETINFO
            "socket_timeout": None,
            "socket_connect_timeout": timeout_seconds,
            "retry": Retry(NoBackoff(), 0),
        }
        if self.is_encrypted:
            return SSLConnection(ssl_ca_certs=self.ca_certs, password=_plain(self.password), **options)
        return Connection(password=_plain(self.password), **options)


def parse_url(url: str) -> RedisUrl:
    """Parse `url`.

    Raises:
        ConfigurationError: it is no URL of a Redis or Valkey store. The error repeats no part of it: where a password
            was not percent-encoded, any part may hold a piece of it.
    """
    url = HiddenText(url)
    parts = _parts(url)
    if parts is None:
        raise ConfigurationError(f"the store URL cannot be read; allowed are {ALLOWED}")
    full_scheme = HiddenText(parts.reveal().scheme)
    is_cluster = full_scheme.endswith(_CLUSTER)
    scheme = full_scheme.removesuffix(_CLUSTER)
    if scheme not in _SCHEMES:
        raise ConfigurationError(f"the store URL is not one of Redis or Valkey; allowed are {ALLOWED}")
    if "#" in url:
        raise ConfigurationError("the store URL has a #; in a user name or a password write %23")
    credentials, _, hosts = HiddenText(parts.reveal().netloc).rpartition("@")
    username, _, password = credentials.partition(":")
    options = _options(parts.reveal().query)
    if not options.keys() <= set(_OPTIONS):
        raise ConfigurationError(f"the store URL has an unknown option; allowed are {', '.join(_OPTIONS)}")
    if "ca_certs" in options and not (scheme in _ENCRYPTED and options["ca_certs"]):
        raise ConfigurationError("ca_certs in the store URL must name a file; it is for rediss:// and valkeys://")
    addresses = tuple(map(_address, hosts.split(",")))
    if len(addresses) > 1 and not is_cluster:
        raise ConfigurationError(
            "the store URL has several hosts; that is for a Cluster: redis+cluster://host:6379,host:6379"
        )
    database = HiddenText(parts.reveal().path.strip("/") or "0")
    return RedisUrl(
        addresses,
        is_cluster,
        _number("the database", database, 0, 0 if is_cluster else 1_000_000),
        str(_prefix(options.get("prefix", "coatcheck"))),
        None if "replicas" not in options else _number("replicas", options["replicas"], 0, 100),
        scheme in _ENCRYPTED,
        str(options["ca_certs"]) if "ca_certs" in options else None,
        unquote(str(username)) or None,
        HiddenText(unquote(str(password))) or None,
    )


def _plain(text: HiddenText | None) -> str | None:
    return None if text is None else str(text)


def _parts(url: HiddenText) -> Hidden[SplitResult] | None:
    """The parts of the URL; None if it cannot be read."""
    try:
        return Hidden(urlsplit(str(url)))
    except ValueError:  # which may repeat some of the URL
        return None


def _options(query: str) -> dict[str, HiddenText]:
    return {
        HiddenText(name): HiddenText(values[-1]) for name, values in parse_qs(query, keep_blank_values=True).items()
    }


def _address(text: str) -> Address:
    text = HiddenText(text)
    found = Hidden(_ADDRESS.fullmatch(text))
    if found.reveal() is None:
        raise ConfigurationError(f"the store URL has no host, or an invalid one; allowed are {ALLOWED}")
    port = _group(found, "port")
    number = _DEFAULT_PORT if port is None else _number("the port", port, 1, 65535)
    return Address(str(_group(found, "ipv6") or _group(found, "name")), number)


def _group(found: Hidden[re.Match[str] | None], name: str) -> HiddenText | None:
    match = found.reveal()
    text = None if match is None else match[name]
    return None if text is None else HiddenText(text)


def _number(what: str, text: HiddenText, lowest: int, highest: int) -> int:
    if len(text) > _MOST_DIGITS or not text.isascii() or not text.isdecimal() or not lowest <= int(text) <= highest:
        raise ConfigurationError(f"{what} in the store URL must be a whole number from {lowest} to {highest}")
    return int(text)


def _prefix(text: str) -> str:
    text = HiddenText(text)
    # Braces would change the slot, and other signs have a meaning in the pattern of an access rule (`~coatcheck:*`).
    if (
        not 1 <= len(text) <= _MAX_PREFIX
        or not text.isascii()
        or not text.replace("-", "a").replace("_", "a").isalnum()
    ):
        raise ConfigurationError(f"prefix in the store URL must be 1 to {_MAX_PREFIX} letters, digits, - and _")
    return text
