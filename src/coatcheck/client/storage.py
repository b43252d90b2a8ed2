"""The interface of the storages that keep a program's session, and two storages that need no disk."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from coatcheck.tokens import AuthSuccess


class SessionStorage(Protocol):
    """Keeps one session, or none. Calls may block, and may come from any thread.

    A storage that cannot be read or written raises `StorageError`. It never returns None instead: that would sign the
    user out.
    """

    def read(self) -> AuthSuccess | None:
        """The session that is kept here; None if nobody is signed in."""
        ...

    def write(self, session: AuthSuccess | None) -> None:
        """Replace the kept session by `session`; None deletes it. Either all of it is stored, or nothing changes."""
        ...

    def remove(self, session: AuthSuccess) -> bool:
        """Delete `session` if it is still the one that is kept; False if it is not, for example after a new sign-in."""
        ...

    def stamp(self) -> object:
        """A value that changes whenever another process or thread may have written. It is cheap to get."""
        ...


class MemoryStorage:
    """Keeps the session in memory, until the process ends. Managers and threads may share one."""

    def __init__(self) -> None:
        """Begin with nobody signed in."""
        self._lock = threading.Lock()
        self._session: AuthSuccess | None = None
        self._writes = itertools.count(1)
        self._stamp = 0

    def read(self) -> AuthSuccess | None:
        """See `SessionStorage.read`."""
        return self._session

    def write(self, session: AuthSuccess | None) -> None:
        """See `SessionStorage.write`."""
        with self._lock:
            self._session, self._stamp = session, next(self._writes)

    def remove(self, session: AuthSuccess) -> bool:
        """See `SessionStorage.remove`."""
        with self._lock:
            if self._session != session:
                return False
            self._session, self._stamp = None, next(self._writes)
            return True

    def stamp(self) -> object:
        """See `SessionStorage.stamp`."""
        return self._stamp


class CachedStorage:
    """Reads another storage once, and again when its stamp has changed or after `clear`."""

    def __init__(self, storage: SessionStorage) -> None:
        """Cache what `storage` keeps."""
        self._storage = storage
        self._cached: tuple[object, AuthSuccess | None] | None = None

    def read(self) -> AuthSuccess | None:
        """See `SessionStorage.read`."""
        stamp = self._storage.stamp()  # before reading, so that a write in between is read the next time
        cached = self._cached  # once: another thread may clear it
        if cached is None or cached[0] != stamp:
            self._cached = cached = stamp, self._storage.read()
        return cached[1]

    def write(self, session: AuthSuccess | None) -> None:
        """See `SessionStorage.write`."""
        self._cached = None
        self._storage.write(session)

    def remove(self, session: AuthSuccess) -> bool:
        """See `SessionStorage.remove`."""
        self._cached = None
        return self._storage.remove(session)

    def stamp(self) -> object:
        """See `SessionStorage.stamp`."""
        return self._storage.stamp()

    def clear(self) -> None:
        """Read the other storage the next time."""
        self._cached = None
