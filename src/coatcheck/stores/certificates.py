"""The words for certificates that were refused, on either side of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

# X509_V_ERR_... of OpenSSL. Python names none of them.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)  # a host name, an address

_CLIENT_WANTED = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")  # as TLS 1.3 and 1.2 say it
_CLIENT_REFUSED = (
    *("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED", "CERTIFICATE_UNKNOWN"),
    *("UNSUPPORTED_CERTIFICATE", "DECRYPT_ERROR", "ACCESS_DENIED"),
)


def why_the_servers_is_refused(error: ssl.SSLCertVerificationError, *, authorities: str) -> str:
    """The reason, and what to do. `authorities` is the option that names the file of the authorities."""
    reason = f"the server's certificate is not trusted ({error.verify_message.rstrip('.')})"
    if error.verify_code in _OTHER_NAME:
        return f"{reason}; write the host in the store URL as the certificate has it, or get one with this name"
    if error.verify_code in {_NOT_YET_VALID, _EXPIRED}:
        return f"{reason}; renew it on the server, or set this machine's clock"
    return f"{reason}; {authorities} in the store URL must name the file of the authority that has signed it"


def why_the_clients_is_refused(error: ssl.SSLError, *, certificate: str, key: str) -> str | None:
    """The server's alert about our certificate, and what to do; None where the error is none.

    `certificate` and `key` are the options that name their files.
    """
    reason = error.reason or ""
    if "ALERT" not in reason:
        return None
    if reason.endswith(_CLIENT_REFUSED):
        return (
            f"the server refuses the client certificate ({reason}); {certificate} in the store URL must name one that "
            "is signed by an authority that the server trusts, and is valid"
        )
    if reason.endswith(_CLIENT_WANTED):
        return (
            f"the server wants a client certificate ({reason}); name its file and its key's in the store URL, "
            f"{certificate} and {key}"
        )
    return None
