"""Mistakes in the set-up, told from outages: what has to be changed before PostgreSQL can be used at all."""

from __future__ import annotations

import re
import ssl

import asyncpg

from coatcheck.stores.certificates import why_the_clients_is_refused, why_the_servers_is_refused
from coatcheck.stores.failures import MISSING_TABLES

_SENTENCES = {
    "0A000": "the server has not what is needed; it must be PostgreSQL 15 or newer",
    "22023": "the server refuses the value of a parameter; correct the option of the store URL",
    "28000": (
        "the server does not let this role connect; check pg_hba.conf on the server, and in the store URL the user "
        "name, TLS (sslmode=require), and the client certificate if it wants one (sslcert and sslkey)"
    ),
    "25006": (
        "the server lets this role only read; ALTER ROLE or ALTER DATABASE ... SET default_transaction_read_only = off"
    ),
    "28P01": "the server refuses the password; check user name and password of the store URL",
    "3D000": "there is no such database; create it (CREATE DATABASE), or correct its name in the store URL",
    "3F000": "there is no schema for the tables; create one that is in the role's search_path (CREATE SCHEMA)",
    "42501": (
        "this role lacks rights; GRANT CREATE, USAGE ON SCHEMA public TO it, or have another role run the migrations, "
        "GRANT SELECT, INSERT, UPDATE, DELETE on the tables to this one, and open the store with migrates=False"
    ),
    "42703": MISSING_TABLES,
    "42704": "the server knows no parameter of that name; an option of the URL is misspelled, or another driver's",
    "42P01": MISSING_TABLES,
    "55P02": "the server does not let a client change this parameter; remove the option from the store URL",
}

_BEHIND = frozenset({"28000", "28P01", "3D000"})

_NO_SUCH_USER = (
    "the pooler refuses user name or password, or the server refuses those that the pooler has; check them in the "
    "store URL, and the pooler's list of users (auth_file)"
)
_NO_SUCH_DATABASE = (
    "the pooler, or the server behind it, has no such database; create it (CREATE DATABASE), name it among the "
    "pooler's databases, or correct its name in the store URL"
)

# PgBouncer has one SQLSTATE for all that it refuses, outages too. Its texts are in English, and those of every version.
_POOLER_SAYS = {
    "unsupported startup parameter": "the pooler does not know an option of the store URL; leave it out",
    'authentication failed|no such user|role ".*" does not exist': _NO_SUCH_USER,
    'no such database|database ".*" does not exist': _NO_SUCH_DATABASE,
    "not allowed in statement pooling mode": "the pooler is in statement mode; set its pool_mode to transaction",
}


def setup_mistake(error: BaseException) -> str | None:
    """The mistake in the set-up that this error shows, and its remedy; None for an outage."""
    if isinstance(error, asyncpg.PostgresError):
        sentence = _of_pooler(error) or _SENTENCES.get(str(error.sqlstate))
        return None if sentence is None else f"{sentence} (SQLSTATE {error.sqlstate}, {type(error).__name__})"
    if isinstance(error, ssl.SSLError):
        return _mistake_of_tls(error)
    if type(error) is ConnectionError:  # asyncpg's, when the server answers that it speaks no TLS
        return "the server speaks no TLS, for which the store URL asks (sslmode); switch it on in the server (ssl = on)"
    if isinstance(error, asyncpg.exceptions.ClientConfigurationError):
        return (
            "the driver refuses the value of an option of the store URL, or of a variable of the environment (PG...); "
            "sslmode=verify-ca and sslmode=verify-full need sslrootcert"
        )
    return None


def may_be_behind(error: BaseException) -> bool:
    """Whether this is a refusal of what a standby does not have yet: a role, its password, a database."""
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate) in _BEHIND


def _mistake_of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return why_the_servers_is_refused(error, authorities="sslrootcert")
    refusal = why_the_clients_is_refused(error, certificate="sslcert", key="sslkey")
    return refusal or (f"TLS fails ({error.reason}); check sslmode, sslcert and sslkey of the store URL")


def _of_pooler(error: asyncpg.PostgresError) -> str | None:
    if not str(error.sqlstate).startswith("08"):
        return None
    return next((sentence for words, sentence in _POOLER_SAYS.items() if re.search(words, str(error))), None)
