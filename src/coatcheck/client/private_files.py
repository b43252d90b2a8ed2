"""Files and folders for their owner only, at paths where other users may have put something."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from coatcheck.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700

# Windows has neither; there the check before opening is all there is. O_NONBLOCK: opening a pipe would wait.
_READ_HERE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_IS_A_MOUNT = frozenset({errno.EBUSY, errno.EXDEV})


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents where they are missing, of mode 0700 whatever the umask.

    `Path.mkdir` gives the mode to the last folder only: under a umask of 002 the others may be written by the group.

    Raises:
        StorageError: a folder cannot be created.
    """
    if folder.is_dir():
        return
    if not folder.parent.exists():
        make_folder(folder.parent)
    try:
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)  # another process may be as fast
        if folder.stat().st_mode & FOLDER_MODE != FOLDER_MODE:  # a umask that takes the owner's own rights
            folder.chmod(FOLDER_MODE)
    except OSError as error:
        raise StorageError(
            f"cannot create the folder {folder}: {reason_of(error)}; FileStorage needs a folder that you may write in"
        ) from None


def look_at(path: Path, *, remedy: str = "give FileStorage the path of the file itself") -> os.stat_result | None:
    """The `lstat` of the regular file at `path`; None if there is nothing. A link is not followed.

    Raises:
        StorageError: there is something else than a regular file, or the path cannot be looked at.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise StorageError(f"cannot read {path}: {reason_of(error)}") from None
    if stat.S_ISLNK(found.st_mode):
        raise StorageError(f"{path} is a symbolic link, which is neither followed nor replaced; {remedy}")
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"{path} is not a regular file; {remedy}")
    return found


def check_lock_file(path: Path) -> None:
    """Refuse a lock file that leads to another file.

    Locking opens the file for writing and sets its mode; earlier versions of filelock also empty it.

    Raises:
        StorageError: it is a link of either kind, or no regular file.
    """
    remedy = "delete it: it would lock another file"
    found = look_at(path, remedy=remedy)
    if found is not None and found.st_nlink > 1:
        raise StorageError(f"{path} is a hard link; {remedy}")


def open_to_read(path: Path) -> int:
    """Open the regular file at `path` without following a link; returns its descriptor.

    Raises:
        FileNotFoundError: there is nothing.
        OSError: it cannot be opened.
        StorageError: there is something else than a regular file.
    """
    look_at(path)
    file = os.open(path, _READ_HERE)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise StorageError(f"{path} is not a regular file; give FileStorage the path of a file")


def create_to_write(path: Path) -> int:
    """Create a file that is not there yet, of mode 0600 whatever the umask; returns its descriptor."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    if os.name == "posix":
        with suppress(OSError):  # a file system without modes
            os.fchmod(file, FILE_MODE)
    return file


def reason_of(error: Exception) -> str:
    """The reason in words, without the path, which may be that of a passing file."""
    if isinstance(error, OSError) and error.errno in _IS_A_MOUNT:
        return "it is a mount of its own and cannot be replaced in one step; mount its folder instead"
    return getattr(error, "strerror", None) or type(error).__name__
