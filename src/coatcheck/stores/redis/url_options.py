"""The options after the ? of a URL: those that Coatcheck uses, those of other clients, and why some are refused.

A refused option is named. That is safe for the names below only: where a password was not percent-encoded, the name
of an unknown option may be a piece of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from coatcheck.errors import ConfigurationError
from coatcheck.hidden import HiddenText

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN = ("prefix", "replicas")
SENTINEL = ("sentinels", "sentinel_username", "sentinel_password")
TLS = ("ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname")
OF_OTHER_CLIENTS = ("db", "username", "password", "protocol")
ALLOWED = (*OWN, *OF_OTHER_CLIENTS, *TLS, *SENTINEL)

OTHER_NAMES: Mapping[str, str] = {"ssl_ca_certs": "ca_certs", "virtual_host": "db"}
"""The names that other clients have for options of Coatcheck."""

WITHOUT_EFFECT = frozenset(
    (
        *("client_name", "decode_responses", "encoding", "encoding_errors", "family", "health_check_interval"),
        *("max_connections", "retry_on_timeout", "socket_keepalive"),
    )
)
"""Settings of other clients' ways to read, to connect and to retry. They promise nothing that would be missed here."""

_OWN_LIMIT = "Coatcheck has one time limit for all calls, RedisStore(url, timeout_seconds=...)"
_IN_SCHEME = "TLS is chosen by the scheme, rediss:// or valkeys://"
_VERIFIES = (
    "the server's certificate is always verified, because another server would be given the password; name the file "
    "of the certificate, or of the one that has signed it, with ca_certs"
)
_IN_PATH = "the service is in the path, redis+sentinel://host:26379,host:26379/service"
_PYTHONS_OWN = "TLS versions and ciphers are those of Python"
_IN_A_FILE = "certificates are read from a file; name it with ca_certs"
_BY_RETRYING = "Coatcheck decides itself which calls may be sent again"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("socket_timeout", "socket_connect_timeout", "timeout"),
            *("dial_timeout", "read_timeout", "write_timeout", "connectTimeout", "commandTimeout"),
        ),
        _OWN_LIMIT,
    ),
    **dict.fromkeys(("ssl", "tls", "useSsl"), _IN_SCHEME),
    **dict.fromkeys(("skip_verify", "insecure", "verifyPeer", "rejectUnauthorized"), _VERIFIES),
    **dict.fromkeys(("sentinelMasterId", "master_name", "masterName", "master", "service_name"), _IN_PATH),
    **dict.fromkeys(
        ("ssl_min_version", "ssl_ciphers", "ssl_include_verify_flags", "ssl_exclude_verify_flags"), _PYTHONS_OWN
    ),
    **dict.fromkeys(("ssl_ca_data", "ssl_ca_path"), _IN_A_FILE),
    **dict.fromkeys(("retry", "retry_on_error", "max_retries"), _BY_RETRYING),
}
"""Options of other clients that Coatcheck does not follow, each with the reason."""

_TRUE = frozenset(("1", "t", "true", "y", "yes", "on"))
_FALSE = frozenset(("0", "f", "false", "n", "no", "off"))


def options_in(query: str, *, is_encrypted: bool, has_sentinels: bool) -> dict[str, HiddenText]:
    """The options in the query of a URL that is about a connection of this kind, by Coatcheck's names for them.

    Raises:
        ConfigurationError: an option cannot be used.
    """
    options: dict[str, HiddenText] = {}
    for name, value in _pairs(HiddenText(query)):
        if name in WITHOUT_EFFECT:
            continue
        if name in REFUSED:
            raise ConfigurationError(f"{name} in the store URL is refused: {REFUSED[name]}")
        known = OTHER_NAMES.get(name, name)
        if known not in ALLOWED:
            raise ConfigurationError(f"the store URL has an unknown option; allowed are {', '.join(ALLOWED)}")
        if options.setdefault(known, value) != value:
            raise ConfigurationError(f"the store URL gives {known} twice, with different values")
    if not is_encrypted:
        _refuse(options, TLS, "it is for rediss:// and valkeys://")
    if not has_sentinels:
        _refuse(options, SENTINEL, "it is for redis+sentinel://")
    _check_protocol(options)
    _check_certificates(options)
    return options


def checks_hostname(options: Mapping[str, str]) -> bool:
    """Whether the certificate has to be for the name of the server."""
    return options.get("ssl_check_hostname", "true").lower() in _TRUE


def _pairs(query: HiddenText) -> list[tuple[str, HiddenText]]:
    # No frame of ours keeps the value as a plain text, of whatever option it is.
    found = parse_qs(query, keep_blank_values=True)
    return [(HiddenText(name), HiddenText(value)) for name, values in found.items() for value in values]


def _refuse(options: Mapping[str, str], names: tuple[str, ...], why: str) -> None:
    for name in names:
        if name in options:
            raise ConfigurationError(f"{name} in the store URL cannot be used: {why}")


def _check_protocol(options: Mapping[str, str]) -> None:
    # Either is served: Coatcheck speaks version 2, which every server knows, and misses nothing of 3.
    if options.get("protocol", "2") not in {"2", "3"}:
        raise ConfigurationError("protocol in the store URL must be 2 or 3")


def _check_certificates(options: Mapping[str, str]) -> None:
    if options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_") != "required":
        raise ConfigurationError(f"ssl_cert_reqs in the store URL is refused unless it is required: {_VERIFIES}")
    checked = options.get("ssl_check_hostname", "true").lower()
    if checked not in _TRUE | _FALSE:
        raise ConfigurationError("ssl_check_hostname in the store URL must be true or false")
    for name in ("ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in options and not options[name]:
            raise ConfigurationError(f"{name} in the store URL must name a file")
    if checked in _FALSE and "ca_certs" not in options:
        raise ConfigurationError(
            "ssl_check_hostname=false in the store URL is refused without ca_certs: every server that has a "
            "certificate of its own would be believed"
        )
    if not options.keys() >= {"ssl_certfile"} and options.keys() & {"ssl_keyfile", "ssl_password"}:
        raise ConfigurationError("the store URL has ssl_keyfile or ssl_password, and no ssl_certfile")
