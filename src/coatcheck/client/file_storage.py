"""The session in a file that only its owner can read (ASVS 14.3.3)."""

from __future__ import annotations

import logging
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from filelock import Timeout as LockTimeout

from coatcheck.client.text_storage import TextStorage
from coatcheck.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("coatcheck.client")

_OWNER_ONLY = 0o600
_LOCK_SECONDS = 10


class FileStorage(TextStorage):
    """Keeps the session in a file of mode 0600, which is replaced in one step.

    Several processes may share the file: they take turns by a lock file beside it (`<name>.lock`). If other users can
    read the file, for example after it was copied, its mode is set to 0600 again and a warning is logged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Keep the session at `path`; `~` is the home directory. Missing folders are created, for the owner only."""
        self._path = Path(path).expanduser().absolute()

    def __repr__(self) -> str:
        """Name the file."""
        return f"FileStorage({str(self._path)!r})"

    @property
    def place(self) -> str:
        """See `TextStorage.place`."""
        return str(self._path)

    def stamp(self) -> object:
        """See `SessionStorage.stamp`: a replaced file has another inode, time or size."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._cannot("read", error) from None
        return found.st_ino, found.st_mtime_ns, found.st_size

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """See `TextStorage.exclusively`."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(f"{self._path}.lock", timeout=_LOCK_SECONDS, mode=_OWNER_ONLY)
            lock.acquire()
        except LockTimeout:
            raise StorageError(f"{self._path} is locked by another process; try again") from None
        except OSError as error:
            raise self._cannot("lock", error) from None
        try:
            yield
        finally:
            lock.release()

    def load(self) -> str | None:
        """See `TextStorage.load`."""
        try:
            with self._path.open(encoding="utf-8") as file:
                self._keep_private(file.fileno())
                return file.read()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise StorageError(f"{self._path} does not hold a session; delete it and sign in again") from None
        except OSError as error:
            raise self._cannot("read", error) from None

    def save(self, text: str | None) -> None:
        """See `TextStorage.save`."""
        try:
            if text is None:
                self._path.unlink(missing_ok=True)
            else:
                self._replace(text)
        except OSError as error:
            raise self._cannot("write", error) from None

    def _replace(self, text: str) -> None:
        """Replace the file in one step: a reader, and a machine that lost power, finds the old file or the new one."""
        new = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        try:
            with os.fdopen(file, "w", encoding="utf-8") as writer:
                writer.write(text)
                writer.flush()
                os.fsync(writer.fileno())
            new.replace(self._path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    def _keep_private(self, file: int) -> None:
        if os.name == "posix" and stat.S_IMODE(os.fstat(file).st_mode) & 0o077:
            _log.warning("%s was readable by other users; its mode is now set to 0600", self._path)
            with suppress(OSError):  # the file may belong to another user
                os.fchmod(file, _OWNER_ONLY)

    def _cannot(self, do: str, error: OSError) -> StorageError:
        return StorageError(f"cannot {do} {self._path}: {error.strerror or type(error).__name__}")
