"""Who is signed in here: the storage and what is known of it, in step, for any number of threads."""

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
    """The session of a program. Each call may block on the storage, and returns what it changed, None for nothing.

    Nobody is told under the lock: telling is the manager's.
    """

    def __init__(self, storage: SessionStorage) -> None:
        """Begin with nobody, whatever is stored."""
        self._storage = CachedStorage(storage)
        self._lock = threading.RLock()
        self._info: AuthSuccess | None = None
        self._undeleted: AuthSuccess | None = None  # ended, but the storage has failed to delete it

    @property
    def info(self) -> AuthSuccess | None:
        """Who is signed in, as far as is known without looking."""
        return self._info

    def observe(self, change: Callable[[], AuthChange | None]) -> tuple[AuthSuccess | None, AuthChange | None]:
        """Who is signed in right before `change`, one of the calls below, and what it has changed."""
        with self._lock:
            return self._info, change()

    def restore(self) -> AuthChange:
        """Read the storage anew; always something to tell (row K2)."""
        with self._lock:
            self._storage.clear()
            return self._know(self._storage.read()) or AuthChange(self._info)

    def refresh(self) -> AuthChange | None:
        """Notice what another process or thread has stored."""
        with self._lock:
            return self._know(self._storage.read())

    def sign_in(self, info: AuthSuccess) -> AuthChange:
        """Keep `info`: the storage first, then memory (row K3)."""
        with self._lock:
            self._storage.write(info)
            self._info, self._undeleted = info, None
            return AuthChange(info)

    def sign_out(self, reason: SignOutReason) -> AuthChange:
        """Forget whoever is signed in, in memory even where the storage fails."""
        with self._lock:
            self._forget()
            self._storage.write(None)
            self._undeleted = None
            return AuthChange(None, reason)

    def end(self, info: AuthSuccess, reason: SignOutReason) -> AuthChange | None:
        """Forget `info`, whose session is over, unless somebody has signed in since or this is known already."""
        with self._lock:
            if self._info != info:
                return None
            self._forget()
            was_removed = self._storage.remove(info)
            self._undeleted = None
            if was_removed:
                return AuthChange(None, reason)
            known = self._know(self._storage.read())  # another process has written: a new sign-in, or the same end
            return known or AuthChange(None, reason)

    def _forget(self) -> None:
        """Nobody is signed in. Until the storage has deleted the session, finding it there does not bring it back."""
        self._undeleted = self._info or self._undeleted
        self._info = None

    def _know(self, stored: AuthSuccess | None) -> AuthChange | None:
        if stored == self._undeleted:
            stored = None
        if stored == self._info:
            return None
        self._info = stored
        return AuthChange(stored, SignOutReason.ELSEWHERE if stored is None else None)
