"""The words for certificates that were refused, on either side of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

# X509_V_ERR_... of OpenSSL. Python names none of them.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)  # a host name, an address

_CLIENT_WANTED = "CERTIFICATE_REQUIRED"  # TLS 1.3
_NO_AGREEMENT = "HANDSHAKE_FAILURE"  # TLS 1.2 has this word for a missing certificate, and for ciphers too
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
    files = f"name its file and its key's in the store URL, {certificate} and {key}"
    if reason.endswith(_CLIENT_REFUSED):
        return (
            f"the server refuses the client certificate ({reason}); {certificate} in the store URL must name one that "
            "is signed by an authority that the server trusts, and is valid"
        )
    if reason.endswith(_CLIENT_WANTED):
        return f"the server wants a client certificate ({reason}); {files}"
    if reason.endswith(_NO_AGREEMENT):
        return (
            f"the server refuses the TLS handshake ({reason}); it may have no version or cipher of this machine's, or "
            f"want a client certificate: {files}"
        )
    return None
