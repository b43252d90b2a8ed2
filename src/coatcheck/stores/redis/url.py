"""Parses a URL of Redis, Valkey, a Cluster or sentinels, and makes connections as it says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from coatcheck import third_party_internals
from coatcheck.errors import ConfigurationError
from coatcheck.hidden import Hidden, HiddenText
from coatcheck.stores.redis.encryption import Encryption
from coatcheck.stores.redis.url_options import checks_hostname, options_in

if TYPE_CHECKING:
    from typing import Any

    from redis.asyncio.connection import AbstractConnection

ALLOWED = (
    "redis://user:password@host:6379/0, redis+cluster://host:6379,host:6379, "
    "redis+sentinel://host:26379,host:26379/service, the same with rediss (TLS), valkey or valkeys, and "
    "unix:///path/to/socket; after a ? prefix=..., replicas=... and ca_certs=FILE"
)

_ENCRYPTED = frozenset(("rediss", "valkeys"))
_SCHEMES = _ENCRYPTED.union(("redis", "valkey"))
_CLUSTER, _SENTINEL, _SOCKET = "cluster", "sentinel", "unix"
_KINDS = {"": "", "cluster": _CLUSTER, "sentinel": _SENTINEL, "unix": _SOCKET, "socket": _SOCKET}
_DEFAULT_PORT = 6379
_DEFAULT_SENTINEL_PORT = 26379
_MAX_PREFIX = 64
_MOST_DIGITS = 7
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:\[\]@%]+))(?::(?P<port>[^:]*))?")
_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,100}")  # what a sentinel takes for a name


class Address(NamedTuple):
    """A server's host and port; the port is 0 where the host is the path of a Unix socket."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as in a URL."""
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The part of a URL that is about sentinels: they are at the addresses of the URL."""

    service: str
    believes_any: bool
    """Whether the word of a sentinel counts that does not see most of the others."""
    username: str | None
    password: HiddenText | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL. `replicas` None: it does not say how many replicas must have a revocation."""

    addresses: tuple[Address, ...]
    is_cluster: bool
    sentinels: Sentinels | None
    database: int
    prefix: str
    replicas: int | None
    encryption: Encryption | None
    username: str | None
    password: HiddenText | None = field(repr=False)

    @property
    def waits_for(self) -> int:
        """How many replicas must have a revocation before it returns; with sentinels it is the least number."""
        has_replicas = self.is_cluster or self.sentinels is not None
        return int(has_replicas) if self.replicas is None else self.replicas

    def connection(self, address: Address, *, timeout_seconds: float) -> AbstractConnection:
        """A connection, not connected yet, that tries once and does not limit the time for replies.

        Raises:
            OSError: a file with certificates cannot be read.
        """
        return self._connection(address, self.username, self.password, self.database, timeout_seconds)

    def sentinel_connection(
        self, address: Address, sentinels: Sentinels, *, timeout_seconds: float
    ) -> AbstractConnection:
        """The same to a sentinel, which has a user and a password of its own and no databases."""
        return self._connection(address, sentinels.username, sentinels.password, 0, timeout_seconds)

    def _connection(
        self,
        address: Address,
        username: str | None,
        password: HiddenText | None,
        database: int,
        timeout_seconds: float,
    ) -> AbstractConnection:
        options: dict[str, Any] = {
            "db": database,
            "username": username,
            "protocol": 2,  # replies without attributes, and no pushed messages in between
            "client_name": "coatcheck",
            "driver_info": None,  # Redis 7.0 does not know CLIENT SETINFO
            "socket_timeout": None,
            "socket_connect_timeout": timeout_seconds,
            "retry": Retry(NoBackoff(), 0),
        }
        if not address.port:
            return UnixDomainSocketConnection(path=address.host, password=_plain(password), **options)
        options |= {"host": address.host, "port": address.port}
        if self.encryption is None:
            return Connection(password=_plain(password), **options)
        connection = SSLConnection(password=_plain(password), **options)
        third_party_internals.use_ssl_context(connection, self.encryption.context())
        return connection


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
    scheme, kind = _scheme_and_kind(HiddenText(parts.reveal().scheme))
    if "#" in url:
        raise ConfigurationError("the store URL has a #; in a user name or a password write %23")
    credentials, _, hosts = HiddenText(parts.reveal().netloc).rpartition("@")
    username, _, password = credentials.partition(":")
    options = options_in(
        HiddenText(parts.reveal().query), is_encrypted=scheme in _ENCRYPTED, has_sentinels=kind == _SENTINEL
    )
    path = HiddenText(parts.reveal().path)
    sentinels = None
    if kind == _SENTINEL:
        service, _, path = path.removeprefix("/").partition("/")
        sentinels = _sentinels(service, options)
    if kind == _SOCKET:
        addresses, path = _socket(hosts, path), HiddenText()
    else:
        port = _DEFAULT_SENTINEL_PORT if kind == _SENTINEL else _DEFAULT_PORT
        addresses = tuple(_address(text, port) for text in hosts.split(","))
    if len(addresses) > 1 and not kind:
        raise ConfigurationError(
            "the store URL has several hosts; that is for a Cluster, redis+cluster://host:6379,host:6379, or for "
            "sentinels, redis+sentinel://host:26379,host:26379/service"
        )
    database = _given_once("the database", HiddenText(path.strip("/")), options.get("db"))
    return RedisUrl(
        addresses,
        kind == _CLUSTER,
        sentinels,
        _number("the database", database or HiddenText("0"), 0, 0 if kind == _CLUSTER else 1_000_000),
        str(_prefix(options.get("prefix", "coatcheck"))),
        None if "replicas" not in options else _number("replicas", options["replicas"], 0, 100),
        _encryption(options) if scheme in _ENCRYPTED else None,
        str(_given_once("the user", HiddenText(unquote(str(username))), options.get("username"))) or None,
        _given_once("the password", HiddenText(unquote(str(password))), options.get("password")) or None,
    )


def _scheme_and_kind(scheme: HiddenText) -> tuple[HiddenText, str]:
    """The scheme without its kind of addresses, and the kind."""
    if scheme == "unix":
        return HiddenText("redis"), _SOCKET
    base, _, kind = scheme.partition("+")
    if base not in _SCHEMES or kind not in _KINDS:
        raise ConfigurationError(f"the store URL is not one of Redis or Valkey; allowed are {ALLOWED}")
    if _KINDS[kind] == _SOCKET and base in _ENCRYPTED:
        raise ConfigurationError("the store URL has TLS and a Unix socket; a socket is unix:///path/to/socket")
    return base, _KINDS[kind]


def _sentinels(service: HiddenText, options: dict[str, HiddenText]) -> Sentinels:
    if not _SERVICE.fullmatch(service):
        raise ConfigurationError(
            "the store URL has no service, or an invalid one; it is the name by which the sentinels monitor the "
            "primary: redis+sentinel://host:26379,host:26379/service"
        )
    believes = options.get("sentinels", "most")
    if believes not in {"most", "any"}:
        raise ConfigurationError("sentinels in the store URL must be most or any")
    return Sentinels(
        str(service),
        believes == "any",
        str(options.get("sentinel_username", "")) or None,
        options.get("sentinel_password") or None,
    )


def _socket(hosts: str, path: HiddenText) -> tuple[Address, ...]:
    if hosts or not path.strip("/"):
        raise ConfigurationError(
            "the store URL must have three slashes and a path for a Unix socket: unix:///path/to/socket, or "
            "unix://user:password@/path/to/socket; the database is ?db=0"
        )
    return (Address(unquote(str(path)), 0),)


def _encryption(options: dict[str, HiddenText]) -> Encryption:
    def file(name: str) -> str | None:
        return str(options[name]) if name in options else None

    return Encryption(
        file("ca_certs"),
        file("ssl_certfile"),
        file("ssl_keyfile"),
        options.get("ssl_password"),
        checks_hostname(options),
    )


def _given_once(what: str, before: HiddenText, option: HiddenText | None) -> HiddenText:
    if before and option and before != option:
        raise ConfigurationError(f"the store URL gives {what} twice, before the ? and after it")
    return before or option or HiddenText()


def _plain(text: HiddenText | None) -> str | None:
    return None if text is None else str(text)


def _parts(url: HiddenText) -> Hidden[SplitResult] | None:
    """The parts of the URL; None if it cannot be read."""
    try:
        return Hidden(urlsplit(str(url)))
    except ValueError:  # which may repeat some of the URL
        return None


def _address(text: str, default_port: int) -> Address:
    text = HiddenText(text)
    found = Hidden(_ADDRESS.fullmatch(text))
    if found.reveal() is None:
        raise ConfigurationError(f"the store URL has no host, or an invalid one; allowed are {ALLOWED}")
    port = _group(found, "port")
    number = default_port if port is None else _number("the port", port, 1, 65535)
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
