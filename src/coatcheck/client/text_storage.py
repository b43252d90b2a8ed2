"""Storages that keep the session as JSON text."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Protocol

from coatcheck.errors import InvalidArgumentError, StorageError
from coatcheck.hidden import Hidden, HiddenText, shown_when_made
from coatcheck.wire import auth_success_json, auth_success_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from coatcheck.tokens import AuthSuccess


class TextStorage(ABC):
    """A `SessionStorage` that keeps one text. Subclasses load and save it."""

    def read(self) -> AuthSuccess | None:
        """See `SessionStorage.read`."""
        text = Hidden(self.load())
        if text.reveal() is None:
            return None
        # TypeError: the place gave no text. The parser's error has the text, so that ours is raised after it, and is
        # not chained to it.
        with suppress(ValueError, TypeError, RecursionError, InvalidArgumentError):
            return auth_success_of(json.loads(text.reveal() or ""))
        raise self._holds_no_session()

    def write(self, session: AuthSuccess | None) -> None:
        """See `SessionStorage.write`."""
        with self.exclusively():
            self.save(_text_of(session))

    def remove(self, session: AuthSuccess) -> bool:
        """See `SessionStorage.remove`."""
        with self.exclusively():
            if self.read() != session:
                return False
            self.save(None)
            return True

    def stamp(self) -> object:
        """See `SessionStorage.stamp`. Without a cheap stamp, each call returns a new one."""
        return object()

    def exclusively(self) -> AbstractContextManager[object]:
        """Keep other writers away during the block, as far as the place allows."""
        return nullcontext()

    @property
    @abstractmethod
    def place(self) -> str:
        """The name of the place of the text, for messages."""

    @abstractmethod
    def load(self) -> str | None:
        """The text; None if there is none.

        Raises:
            StorageError: the text cannot be read.
        """

    @abstractmethod
    def save(self, text: str | None) -> None:
        """Replace the text in one step; None deletes it.

        Raises:
            StorageError: the text cannot be written; the earlier text is still there.
        """

    def _holds_no_session(self) -> StorageError:
        """The error for a text that is damaged."""
        return StorageError(f"{self.place} does not hold a session; delete it and sign in again")

    def _cannot_use(self, do: str, kind_of_error: str) -> StorageError:
        """The error for one of another library, to be raised after its `except` block.

        The other error may contain the text that was to be written: only its kind is told, and neither a chain nor a
        local variable has it.
        """
        return StorageError(f"cannot {do} {self.place}: {kind_of_error}")


class KeyValues(Protocol):
    """An object that keeps text under keys."""

    def get(self, key: str) -> str | None:
        """The text under this key; None if there is none."""
        ...

    def set(self, key: str, value: str | None) -> None:
        """Put a text under this key; None deletes it."""
        ...


class KeyValueStorage(TextStorage):
    """Keeps the session in an application's own settings or database, through `get(key)` and `set(key, text)`."""

    def __init__(self, values: KeyValues, key: str = "coatcheck.session") -> None:
        """Keep the session in `values` under `key`."""
        self._values = values
        self._key = key

    @shown_when_made
    def __repr__(self) -> str:
        """Name the key."""
        return f"KeyValueStorage({self._key!r})"

    @property
    def place(self) -> str:
        """See `TextStorage.place`."""
        return f"the value {self._key!r}"

    def load(self) -> str | None:
        """See `TextStorage.load`."""
        try:
            return self._values.get(self._key)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 (the application's own kinds of errors)
            kind = type(error).__name__
        raise self._cannot_use("read", kind)

    def save(self, text: str | None) -> None:
        """See `TextStorage.save`."""
        try:
            # Plain text: a database may want no subclass.
            return self._values.set(self._key, None if text is None else str(text))
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 (as above)
            kind = type(error).__name__
        raise self._cannot_use("write", kind)


def _text_of(session: AuthSuccess | None) -> HiddenText | None:
    return None if session is None else HiddenText(json.dumps(auth_success_json(session)))
