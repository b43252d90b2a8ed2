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

from coatcheck.client.private_files import (
    FILE_MODE,
    check_lock_file,
    create_to_write,
    look_at,
    make_folder,
    open_to_read,
    reason_of,
)
from coatcheck.client.text_storage import TextStorage
from coatcheck.errors import StorageError
from coatcheck.hidden import HiddenText, shown_when_made

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("coatcheck.client")

_LOCK_SECONDS = 10


class FileStorage(TextStorage):
    """Keeps the session in a file of mode 0600, which is replaced in one step.

    Several processes may share the file: they take turns by a lock file beside it (`<name>.lock`). If other users can
    read the file, for example after it was copied, its mode is set to 0600 again and a warning is logged. A symbolic
    link in place of either file is neither followed nor replaced, because another user may have planted it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Keep the session at `path`; `~` is the home directory. Missing folders are created, for the owner only.

        Raises:
            StorageError: there is no home directory, or `path` names no file.
        """
        self._path = _absolute(path)
        self._lock_path = self._path.with_name(f"{self._path.name}.lock")

    @shown_when_made
    def __repr__(self) -> str:
        """Name the file."""
        return f"FileStorage({str(self._path)!r})"

    @property
    def place(self) -> str:
        """See `TextStorage.place`."""
        return str(self._path)

    def stamp(self) -> object:
        """See `SessionStorage.stamp`: a replaced file has another inode, time or size."""
        found = look_at(self._path)
        return None if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """See `TextStorage.exclusively`."""
        look_at(self._path)  # nothing is written beside a path that is refused
        make_folder(self._path.parent)
        check_lock_file(self._lock_path)
        try:
            lock = FileLock(self._lock_path, timeout=_LOCK_SECONDS, mode=FILE_MODE)
            lock.acquire()
        except LockTimeout:
            raise StorageError(f"{self._path} is locked by another process; try again") from None
        except Exception as error:  # noqa: BLE001 (filelock has errors of its own, for example where there are no locks)
            raise self._cannot("lock", error) from None
        try:
            yield
        finally:
            lock.release()

    def load(self) -> str | None:
        """See `TextStorage.load`."""
        try:
            with suppress(UnicodeDecodeError), os.fdopen(open_to_read(self._path), encoding="utf-8") as file:
                self._keep_private(file.fileno())
                return HiddenText(file.read())
        except FileNotFoundError:
            return None
        except StorageError:
            raise
        except OSError as error:
            raise self._cannot("read", error) from None
        raise self._holds_no_session()  # not chained to the decoder's error, which has what it read

    def save(self, text: str | None) -> None:
        """See `TextStorage.save`."""
        look_at(self._path)
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
        try:
            with os.fdopen(create_to_write(new), "w", encoding="utf-8") as writer:
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
                os.fchmod(file, FILE_MODE)

    def _cannot(self, do: str, error: Exception) -> StorageError:
        return StorageError(f"cannot {do} {self._path}: {reason_of(error)}")


def _absolute(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    # With an empty HOME, `~` would be the root directory, and with a relative one the folder the program started in.
    if Path(text).parts[:1] == ("~",) and os.name == "posix" and not os.environ.get("HOME", "/").startswith("/"):
        raise StorageError(f"FileStorage({text!r}) needs a home directory; HOME must be an absolute path")
    try:
        found = Path(text).expanduser().absolute()
    except RuntimeError:
        raise StorageError(
            f"FileStorage({text!r}) needs a home directory; set HOME, or give a path without ~"
        ) from None
    except OSError:
        raise StorageError(f"FileStorage({text!r}) needs a folder to start from; give an absolute path") from None
    if not found.name or "\0" in text:
        raise StorageError(f"FileStorage({text!r}) must be given the path of a file")
    return found
