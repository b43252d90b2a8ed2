"""Mistakes in the set-up, told from outages: what has to be changed before Redis can be used at all.

The error of a call says too little. A server without TLS does not answer to a handshake, which looks like one that is
overloaded; a server with TLS hangs up. So when a store cannot be opened, its servers are looked at once more, step by
step, and the step that fails says why. Nothing secret is sent before the server has shown its certificate.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from coatcheck.stores.certificates import why_the_clients_is_refused, why_the_servers_is_refused
from coatcheck.stores.redis.transport.connection import LostError, NotSentError, PipelinedConnection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio.connection import AbstractConnection

    from coatcheck.stores.redis.encryption import Encryption
    from coatcheck.stores.redis.url import Address, RedisUrl, Sentinels

_PING = b"*1\r\n$4\r\nPING\r\n"
_PROTECTED = b"-DENIED"
_OF_MEMBERS = (("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
_FIRST_OF_A_REPLY = b"+-$:*"
_ALERT_SECONDS = 0.5  # with TLS 1.3 the server looks at our certificate after our side of the handshake has ended

NO_MEMBER = "the server is no member of a Cluster; the store URL must begin with redis://"

_NO_RIGHT_TO_ASK = (
    "the store URL's user may not run CLUSTER INFO and CLUSTER SLOTS; docs/how-to/redis.md has the rules that it needs "
    "(ACL SETUSER ... +cluster|info +cluster|slots)"
)


async def setup_mistake(
    url: RedisUrl, seeds: Sequence[Address], found: Iterable[Address], *, limit_seconds: float
) -> str | None:
    """The mistake in the set-up that keeps a store from being opened, and its remedy; None for an outage.

    `seeds` are the servers that the URL names, and `found` those that these have named. Of several each must show a
    mistake: what one that answers says may be long past where others are silent.
    """
    groups = [(seeds, url.sentinels), ([one for one in found if one not in seeds], None)]
    for servers, sentinels in groups:
        looks = (_mistake_at(address, url, sentinels, limit_seconds) for address in servers)
        mistakes = await asyncio.gather(*looks)
        if mistakes and all(mistakes):
            return mistakes[0]
    return None


async def _mistake_at(address: Address, url: RedisUrl, sentinels: Sentinels | None, limit_seconds: float) -> str | None:
    mistake = await _mistake_of_address(address, url.encryption, limit_seconds)
    if mistake is None:
        mistake = await _mistake_in_answers(address, url, sentinels, limit_seconds)
    return mistake and f"{mistake} ({address})"


async def _mistake_of_address(address: Address, encryption: Encryption | None, limit_seconds: float) -> str | None:
    """The mistake about the port, TLS or certificates, and its remedy; None where none is certain."""
    if not address.port:
        return await _mistake_of_socket(address.host, limit_seconds)
    if encryption is None:
        return await _mistake_without_tls(address, limit_seconds)
    return await _mistake_with_tls(address, encryption, limit_seconds)


async def _mistake_in_answers(
    address: Address, url: RedisUrl, sentinels: Sentinels | None, limit_seconds: float
) -> str | None:
    """The mistake about user, password, database or Cluster, and its remedy."""

    def connect() -> AbstractConnection:
        if sentinels is None:
            return url.connection(address, timeout_seconds=limit_seconds)
        return url.sentinel_connection(address, sentinels, timeout_seconds=limit_seconds)

    connection = PipelinedConnection(connect, limit_seconds=limit_seconds)
    try:
        replies = await connection.exchange(_OF_MEMBERS if url.is_cluster else [("PING",)])
        error: BaseException | None = next((reply for reply in replies if isinstance(reply, RedisError)), None)
    except (NotSentError, LostError) as lost:
        error = lost.__cause__
    finally:
        await connection.close()
    if isinstance(error, AuthenticationError):
        if sentinels is not None:
            return (
                "the sentinels want another user or password; theirs are sentinel_username and sentinel_password in "
                "the store URL"
            )
        return "the server refuses the user or the password; check user name and password of the store URL"
    if isinstance(error, NoPermissionError):
        # Of the other rights the checks of a store that is found tell.
        return _NO_RIGHT_TO_ASK if url.is_cluster else None
    if isinstance(error, ResponseError) and "cluster support disabled" in str(error):
        return NO_MEMBER
    # Of an error that passes redis-py makes a subclass, but for BUSY.
    if type(error) is ResponseError and not str(error).startswith("BUSY") and url.database and sentinels is None:
        return (
            f"the server refuses the connection; check that it has a database {url.database} (its setting `databases`)"
        )
    return None


async def _mistake_without_tls(address: Address, limit_seconds: float) -> str | None:
    answer = await _answer_to_ping(address, limit_seconds)
    if answer.startswith(_PROTECTED):
        return (
            "the server is in protected mode: it has no password, and lets nobody in from another machine; give its "
            "users a password (requirepass, or ACL SETUSER), and write it in the store URL"
        )
    if _is_redis(answer):
        return None
    if await _speaks_tls(address, limit_seconds):
        return "the server speaks TLS on this port; the store URL must begin with rediss:// (or valkeys://)"
    return "what answers is no server of Redis; correct host and port of the store URL" if answer else None


async def _mistake_with_tls(address: Address, encryption: Encryption, limit_seconds: float) -> str | None:
    try:
        await _shake_hands(address, encryption.context(), limit_seconds)
    except ssl.SSLCertVerificationError as error:
        return why_the_servers_is_refused(error, authorities="ca_certs")
    except (OSError, EOFError) as error:  # TimeoutError is one of the former
        if isinstance(error, ssl.SSLError):
            refusal = why_the_clients_is_refused(error, certificate="ssl_certfile", key="ssl_keyfile")
            if refusal is not None:
                return refusal
        if _is_redis(await _answer_to_ping(address, limit_seconds)):
            return (
                "the server speaks no TLS on this port; name its port for TLS (tls-port) in the store URL, or, where "
                "nobody else is on the network, begin it with redis://"
            )
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return f"the server refuses TLS ({error.reason}); check its settings tls-protocols and tls-ciphers"
    return None


async def _mistake_of_socket(path: str, limit_seconds: float) -> str | None:
    try:
        async with asyncio.timeout(limit_seconds):
            _, writer = await asyncio.open_unix_connection(path)
    except PermissionError:
        return "this process may not use the socket; let its account do so on the server (unixsocketperm, or its group)"
    except OSError:
        return None
    writer.transport.abort()
    return None


def _is_redis(answer: bytes) -> bool:
    return bool(answer) and answer[:1] in _FIRST_OF_A_REPLY


async def _answer_to_ping(address: Address, limit_seconds: float) -> bytes:
    """What the server answers without TLS; nothing if it hangs up, is silent, or cannot be reached."""
    writer = None
    try:
        async with asyncio.timeout(limit_seconds):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(_PING)
            return await reader.read(100)
    except OSError:  # TimeoutError is one
        return b""
    finally:
        if writer is not None:
            writer.transport.abort()


async def _speaks_tls(address: Address, limit_seconds: float) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent, and nothing believed
    try:
        await _shake_hands(address, context, limit_seconds)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except (OSError, EOFError):
        return False
    return True


async def _shake_hands(address: Address, context: ssl.SSLContext, limit_seconds: float) -> None:
    """Make a TLS connection, wait for an alert, and hang up.

    Raises:
        OSError, EOFError: it cannot be made, or there was one (ssl.SSLError).
    """
    async with asyncio.timeout(limit_seconds):
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_ALERT_SECONDS, limit_seconds)):
                if not await reader.read(1):
                    raise EOFError
    finally:
        writer.transport.abort()
