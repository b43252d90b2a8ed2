"""The session in the system's keyring: GNOME Keyring, KWallet, macOS Keychain, Windows Credential Locker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.client.text_storage import TextStorage
from coatcheck.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from types import ModuleType


class KeyringStorage(TextStorage):
    """Keeps the session in the keyring, through the `keyring` package (`coatcheck[keyring]`).

    A keyring that is locked or missing raises `StorageError`; it is never taken for an empty one. Keyrings have no
    locks and do not tell of changes: each request reads the keyring, and if two processes write at once, one wins.
    """

    def __init__(self, service: str, account: str) -> None:
        """Keep the session under these two names, for example the program's and the server's.

        Raises:
            ConfigurationError: the `keyring` package is not installed, or this system has no keyring.
        """
        self._keyring = _keyring()
        self._service = service
        self._account = account

    def __repr__(self) -> str:
        """Name the entry."""
        return f"KeyringStorage({self._service!r}, {self._account!r})"

    @property
    def place(self) -> str:
        """See `TextStorage.place`."""
        return f"the keyring's entry {self._service!r}, {self._account!r}"

    def load(self) -> str | None:
        """See `TextStorage.load`."""
        try:
            text: str | None = self._keyring.get_password(self._service, self._account)
        except self._keyring.errors.KeyringError as error:
            raise self._cannot("read", error) from None
        return text

    def save(self, text: str | None) -> None:
        """See `TextStorage.save`."""
        try:
            if text is not None:
                self._keyring.set_password(self._service, self._account, text)
            elif self._keyring.get_password(self._service, self._account) is not None:
                self._keyring.delete_password(self._service, self._account)
        except self._keyring.errors.KeyringError as error:
            raise self._cannot("write", error) from None

    def _cannot(self, do: str, error: Exception) -> StorageError:
        # Only the kind of error, because a backend's message may contain the text that was to be written.
        return StorageError(f"cannot {do} {self.place}: {type(error).__name__}")


def _keyring() -> ModuleType:
    try:
        import keyring  # noqa: PLC0415 (optional)
        from keyring.backends import fail  # noqa: PLC0415 (as above)
    except ImportError:
        raise ConfigurationError("KeyringStorage needs the keyring package: pip install 'coatcheck[keyring]'") from None
    if isinstance(keyring.get_keyring(), fail.Keyring):
        raise ConfigurationError("KeyringStorage found no keyring on this system; use FileStorage instead")
    return keyring
