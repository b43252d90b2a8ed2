"""Whether a server refuses our certificate, which a connection that just breaks does not tell.

With TLS 1.3 the server looks at it after our side of the handshake has ended, says what is wrong, and hangs up. By then
the driver has sent its first message, which makes the system throw the server's words away.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import asyncpg

from coatcheck.hidden import Hidden
from coatcheck.stores.certificates import why_the_clients_is_refused

if TYPE_CHECKING:
    from coatcheck.stores.sql.postgresql.dsn import Dsn

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_ALERT_SECONDS = 0.5
_BROKEN = (ConnectionError, asyncpg.ConnectionDoesNotExistError)


async def refused_certificate(error: BaseException, dsn: Dsn, timeout_seconds: float) -> str | None:
    """The server's reason, and what to do, if that is behind this error; else None."""
    options = Hidden(parse_qs(urlsplit(str(dsn.without_hosts)).query))
    if "sslcert" not in options.reveal() or not isinstance(error, _BROKEN):
        return None
    for host, port in dsn.hosts:
        try:
            await asyncio.wait_for(_shake_hands(host, port or 5432, options), timeout_seconds)
        except ssl.SSLError as alert:
            refusal = why_the_clients_is_refused(alert, certificate="sslcert", key="sslkey")
            if refusal is not None:
                return refusal
        except OSError:  # of another kind, or TimeoutError
            continue
    return None


async def _shake_hands(host: str, port: int, options: Hidden[dict[str, list[str]]]) -> None:
    """Make a TLS connection without a word, and wait for an alert.

    Raises:
        OSError: it cannot be made, or there was one (ssl.SSLError).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing secret is sent
    (certificate,), (key,) = options.reveal()["sslcert"], options.reveal().get("sslkey", [None])
    context.load_cert_chain(certificate, key, lambda: options.reveal().get("sslpassword", [""])[0])
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_SSL_REQUEST)
        if await reader.read(1) == b"S":
            await writer.start_tls(context)
            await asyncio.wait_for(reader.read(1), _ALERT_SECONDS)
    finally:
        writer.transport.abort()
