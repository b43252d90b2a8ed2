"""The options of a connection URI, as hosters and other drivers print them: taken, left out, or refused by name.

asyncpg hands every option that it does not know to the server, which then refuses the connection.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from coatcheck.errors import ConfigurationError
from coatcheck.hidden import Hidden, HiddenText
from coatcheck.stores.sql.postgresql.connection_shares import LEAST_CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

_NUMBER = re.compile(r"[0-9]{1,6}")
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")

OURS = frozenset({"connect_timeout", "connections", "listen", "pgbouncer", "pooler"})
"""Options for the store itself."""

_OF_THE_DRIVER = frozenset(
    {
        "host", "port", "dbname", "database", "user", "password", "passfile", "service", "servicefile",
        "sslmode", "sslcert", "sslkey", "sslrootcert", "sslnegotiation", "sslcrl", "sslpassword",
        "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib",
    }
)  # fmt: skip
"""The options that asyncpg takes for itself. It sends all others to the server, as settings."""

_KEPT_BY_POOLERS = frozenset({"application_name"})

_POOLER: Mapping[str, str] = {"pooler": "transaction", "pgbouncer": "true"}
"""The options that name a pooler, each with the value that it may have. The second is that of Prisma and Supabase."""

LEFT_OUT: Mapping[str, tuple[str, ...]] = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": ("disable",),
    "sslcompression": ("0",),
    "uselibpqcompat": ("true", "false"),
}
"""Options without which the connection is the same, and the values for which that is so."""

_LEAVE_OUT = "leave it out"

REFUSED: Mapping[str, str] = {
    "channel_binding": "the driver has no channel binding; leave it out, and use sslmode=verify-full with sslrootcert",
    "connection_limit": "use the store's own option, connections",
    "fallback_application_name": "use application_name",
    "gssencmode": "the driver has no GSS encryption; leave it out, and use sslmode",
    "keepalives": f"the driver leaves keepalives to the operating system; {_LEAVE_OUT}",
    "keepalives_count": f"the driver leaves keepalives to the operating system; {_LEAVE_OUT}",
    "keepalives_idle": f"the driver leaves keepalives to the operating system; {_LEAVE_OUT}",
    "keepalives_interval": f"the driver leaves keepalives to the operating system; {_LEAVE_OUT}",
    "load_balance_hosts": "the store connects to the primary, whichever host that is; leave it out",
    "pool_timeout": f"the store has a time limit of its own; {_LEAVE_OUT}",
    "require_auth": f"the driver does not have it; {_LEAVE_OUT}",
    "schema": "PostgreSQL has search_path for that: search_path=name",
    "currentSchema": "PostgreSQL has search_path for that: search_path=name",
    "socketTimeout": f"the store has a time limit of its own; {_LEAVE_OUT}",
    "ssl": "use sslmode=require, or sslmode=verify-full with sslrootcert",
    "sslaccept": "use sslmode=require, or sslmode=verify-full with sslrootcert",
    "sslcompression": f"the driver compresses nothing; {_LEAVE_OUT}",
    "sslrootcert=system": "name the file of the authorities: sslrootcert=/etc/ssl/certs/ca-certificates.crt",
    "statement_cache_mode": f"it is another driver's; {_LEAVE_OUT}",
    "supa": f"it is another driver's; {_LEAVE_OUT}",
    "uselibpqcompat": f"it is another driver's; {_LEAVE_OUT}",
}
"""Options of libpq and of other drivers that would have no effect, or not the one they promise, and what to write."""


def checked_query(options: Hidden[dict[str, list[str]]]) -> HiddenText:
    """The options for the driver, as the query of a URI.

    Raises:
        ConfigurationError: an option cannot be used. The message names it, and says what is allowed.
    """
    kept = Hidden(dict[str, list[str]]())
    for name in options.reveal():
        for value in map(HiddenText, options.reveal()[name]):
            if _is_kept(name, value):
                kept.reveal().setdefault(name, []).append(value)
    return HiddenText(urlencode(kept.reveal(), doseq=True))


def server_settings(names: AbstractSet[str]) -> list[str]:
    """The options among `names` that are settings of the server, which a pooler does not keep for us."""
    return sorted(names - OURS - _OF_THE_DRIVER - LEFT_OUT.keys() - _KEPT_BY_POOLERS)


def is_pooled(options: Hidden[dict[str, list[str]]]) -> bool:
    """Whether the URI says that it leads through a pooler in transaction mode.

    Raises:
        ConfigurationError: it says something else of a pooler.
    """
    for name, allowed in _POOLER.items():
        if any(value != allowed for value in options.reveal().get(name, ())):
            raise ConfigurationError(f"{name} in the store URL must be {allowed}; without a pooler, leave it out")
    return any(name in options.reveal() for name in _POOLER)


def connections(options: Hidden[dict[str, list[str]]]) -> int | None:
    """How many connections the store may have; None where the URI does not say.

    Raises:
        ConfigurationError: it is no whole number, or given twice.
    """
    given = options.reveal().get("connections", [])
    if not given:
        return None
    if len(given) > 1 or _NUMBER.fullmatch(given[0]) is None:
        raise ConfigurationError(
            f"connections in the store URL must be a whole number of {LEAST_CONNECTIONS} or more, given once"
        )
    return int(given[0])


def connect_timeout_seconds(options: Hidden[dict[str, list[str]]]) -> float | None:
    """The seconds that `connect_timeout` allows; None where it is not given, or is 0, which means no limit.

    Raises:
        ConfigurationError: it is no whole number.
    """
    for value in options.reveal().get("connect_timeout", ()):
        if not value.isascii() or not value.isdigit():
            raise ConfigurationError(
                "connect_timeout in the store URL must be a whole number of seconds; 0 is no limit"
            )
        return float(value) or None
    return None


def _is_kept(name: str, value: HiddenText) -> bool:
    """Whether the driver gets this option.

    Raises:
        ConfigurationError: it cannot be used.
    """
    if name in OURS or value in LEFT_OUT.get(name, ()):
        return False
    refusal = REFUSED.get(name) or (REFUSED.get(f"{name}=system") if value == "system" else None)
    if refusal is not None:
        raise ConfigurationError(f"the store URL has the option {name}, which cannot be used: {refusal}")
    if name in _CHECKS:
        _CHECKS[name](name, value)
    return True


def _check_tls_mode(name: str, value: HiddenText) -> None:
    if value not in _TLS_MODES:
        raise ConfigurationError(f"{name} in the store URL must be one of {', '.join(_TLS_MODES)}")


def _check_file(name: str, value: HiddenText) -> None:
    try:
        with Path(str(value)).open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(f"the file that {name} in the store URL names: {error.strerror}") from None


def _check_target(name: str, value: HiddenText) -> None:
    if value not in {"any", "primary", "read-write"}:
        raise ConfigurationError(
            f"{name} in the store URL must be primary, read-write or any: sessions are read from the primary, as a "
            "standby may still have those that were revoked"
        )


_CHECKS: Mapping[str, Callable[[str, HiddenText], None]] = {
    "sslmode": _check_tls_mode,
    "target_session_attrs": _check_target,
    **dict.fromkeys(_FILES, _check_file),
}
