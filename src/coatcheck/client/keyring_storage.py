"""The session in the system's keyring: GNOME Keyring, KWallet, macOS Keychain, Windows Credential Locker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.client.text_storage import TextStorage
from coatcheck.errors import ConfigurationError, StorageError
from coatcheck.hidden import Hidden, HiddenText, shown_when_made

if TYPE_CHECKING:
    from types import ModuleType


class KeyringStorage(TextStorage):
    """Keeps the session in the keyring, through the `keyring` package (`coatcheck[keyring]`).

    A keyring that is locked, missing or keeps nothing raises `StorageError`; it is never taken for an empty one.
    Keyrings have no locks and do not tell of changes: each request reads the keyring, and if two processes write at
    once, one wins.
    """

    def __init__(self, service: str, account: str) -> None:
        """Keep the session under these two names, for example the program's and the server's.

        Raises:
            ConfigurationError: the `keyring` package is not installed, or this system has no keyring that it can load.
        """
        self._keyring = _keyring()
        self._service = service
        self._account = account

    @shown_when_made
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
            return self._kept()
        except Exception as error:  # noqa: BLE001 (backends raise errors of D-Bus, of Windows and of their own)
            kind = type(error).__name__
        raise self._cannot_use("read", kind)

    def save(self, text: str | None) -> None:
        """See `TextStorage.save`. It reads back, because some backends take the text and keep nothing."""
        try:
            if text is not None:
                self._keyring.set_password(self._service, self._account, str(text))  # plain: backends want no subclass
            elif self._kept() is not None:
                self._keyring.delete_password(self._service, self._account)
            if self._kept() == text:
                return
            kind = None
        except Exception as error:  # noqa: BLE001 (as above)
            kind = type(error).__name__
        if kind is None:
            done = "delete" if text is None else "keep"
            raise StorageError(
                f"the keyring {_name_of_backend(self._keyring)} did not {done} the session; choose another keyring, "
                "or use FileStorage"
            )
        raise self._cannot_use("write", kind)

    def _kept(self) -> str | None:
        text = Hidden[str | None](self._keyring.get_password(self._service, self._account))
        return None if text.reveal() is None else HiddenText(text.reveal())


def _keyring() -> ModuleType:
    try:
        import keyring  # noqa: PLC0415 (optional)
        from keyring.backends import fail  # noqa: PLC0415 (as above)
    except ImportError:
        raise ConfigurationError("KeyringStorage needs the keyring package: pip install 'coatcheck[keyring]'") from None
    try:
        backend = keyring.get_keyring()
    except Exception as error:
        raise ConfigurationError(
            f"KeyringStorage cannot load the keyring ({type(error).__name__}); PYTHON_KEYRING_BACKEND and "
            "keyringrc.cfg must name one that is installed"
        ) from error
    if isinstance(backend, fail.Keyring):
        raise ConfigurationError("KeyringStorage found no keyring on this system; use FileStorage instead")
    return keyring


def _name_of_backend(keyring: ModuleType) -> str:
    kind = type(keyring.get_keyring())
    return f"{kind.__module__}.{kind.__qualname__}"
