"""How a connection to Redis is encrypted, and which certificates it believes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from coatcheck.hidden import HiddenText


@dataclass(frozen=True, slots=True)
class Encryption:
    """The files that TLS needs. `ca_certs` None: the system's certificates. `certfile` None: no client certificate."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    key_password: HiddenText | None = field(default=None, repr=False)
    checks_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Read the files. Done for each connection, so that a renewed certificate is used without a restart.

        Raises:
            OSError: a file cannot be read, or has no certificate or key that fits (ssl.SSLError).
        """
        # With a file of its own the system's certificates do not count: `checks_hostname` relies on it.
        context = ssl.create_default_context(cafile=self.ca_certs)
        context.check_hostname = self.checks_hostname
        if self.certfile is not None:
            # A function, because OpenSSL would ask for the password on the terminal if there were none.
            context.load_cert_chain(self.certfile, self.keyfile, lambda: str(self.key_password or ""))
        return context

    def check(self) -> None:
        """Check that the files can be used.

        Raises:
            ConfigurationError: one cannot.
        """
        for name, option in (
            (self.ca_certs, "ca_certs"),
            (self.certfile, "ssl_certfile"),
            (self.keyfile, "ssl_keyfile"),
        ):
            try:
                if name is not None:
                    with open(name, "rb"):  # noqa: PTH123 (as ssl opens it)
                        pass
            except OSError as error:
                raise ConfigurationError(
                    f"{option} in the store URL names a file that cannot be read: {error}"
                ) from None
        try:
            self.context()
        except OSError as error:
            raise ConfigurationError(
                "ca_certs, ssl_certfile or ssl_keyfile in the store URL names a file without what belongs there, or "
                f"ssl_password is not the key's ({error})"
            ) from None
