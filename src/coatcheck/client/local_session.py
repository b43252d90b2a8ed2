"""The session that is kept here: the storage and its copy in memory, in step, for any number of threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from coatcheck.client.changes import AuthChange, SignOutReason
from coatcheck.client.storage import CachedStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from coatcheck.client.storage import SessionStorage
    from coatcheck.tokens import AuthSuccess


class LocalSession:
    """The session of a program. Each call may block on the storage. It returns its change, or None.

    Listeners are not called under the lock: the manager calls them.
    """

    def __init__(self, storage: SessionStorage) -> None:
        """Begin with nobody signed in; the storage is not read yet."""
        self._storage = CachedStorage(storage)
        self._lock = threading.RLock()
        self._info: AuthSuccess | None = None
        self._undeleted: AuthSuccess | None = None  # ended, but the storage has failed to delete it

    @property
    def info(self) -> AuthSuccess | None:
        """The session in memory; None if nobody is signed in. The storage is not read."""
        return self._info

    def observe(self, change: Callable[[], AuthChange | None]) -> tuple[AuthSuccess | None, AuthChange | None]:
        """Make `change`, one of the calls below. Returns the session right before it, and the change."""
        with self._lock:
            return self._info, change()

    def restore(self) -> AuthChange:
        """Read the storage anew. The result is a change even if the session is the same: listeners are always told."""
        with self._lock:
            self._storage.clear()
            return self._take_over(self._storage.read()) or AuthChange(self._info)

    def refresh(self) -> AuthChange | None:
        """Take over a session that another process or thread has stored."""
        with self._lock:
            return self._take_over(self._storage.read())

    def sign_in(self, info: AuthSuccess) -> AuthChange:
        """Keep `info`: first in the storage, then in memory."""
        with self._lock:
            self._storage.write(info)
            self._info, self._undeleted = info, None
            return AuthChange(info)

    def sign_out(self, reason: SignOutReason) -> AuthChange:
        """Forget the session. It is forgotten in memory even if the storage fails."""
        with self._lock:
            self._forget()
            self._storage.write(None)
            self._undeleted = None
            return AuthChange(None, reason)

    def end(self, info: AuthSuccess, reason: SignOutReason) -> AuthChange | None:
        """Forget `info`, whose session has ended, unless it is no longer the session that is kept here."""
        with self._lock:
            if self._info != info:
                return None
            self._forget()
            was_removed = self._storage.remove(info)
            self._undeleted = None
            if was_removed:
                return AuthChange(None, reason)
            # Another process has stored a new sign-in, or has deleted the session.
            return self._take_over(self._storage.read()) or AuthChange(None, reason)

    def _forget(self) -> None:
        """Forget the session in memory. If the storage could not delete it, a later read does not bring it back."""
        self._undeleted = self._info or self._undeleted
        self._info = None

    def _take_over(self, stored: AuthSuccess | None) -> AuthChange | None:
        if stored == self._undeleted:
            stored = None
        if stored == self._info:
            return None
        self._info = stored
        return AuthChange(stored, SignOutReason.ELSEWHERE if stored is None else None)
