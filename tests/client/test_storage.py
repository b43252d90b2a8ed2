"""The storages of a program's session: the promises of all of them, and the particular ones of each."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import subprocess
import sys
import threading
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.errors
import pytest
from filelock import FileLock

from coatcheck import ConfigurationError, StorageError
from coatcheck.client import (
    CachedStorage,
    ClientSessionManager,
    FileStorage,
    KeyringStorage,
    KeyValueStorage,
    MemoryStorage,
    SessionStorage,
)
from tests.client.programs import TOKEN, ada, bob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coatcheck import AuthSuccess

SERVER = "https://notes.example"


class Drawer(keyring.backend.KeyringBackend):
    """A keyring in memory, which can be locked."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring's
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def _look(self) -> None:
        if self.is_locked:
            raise keyring.errors.KeyringLocked(f"cannot unlock the item with {self.kept}")

    def get_password(self, service: str, username: str) -> str | None:
        self._look()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._look()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._look()
        del self.kept[service, username]


@pytest.fixture
def drawer() -> Iterator[Drawer]:
    """The system's keyring, for the test."""
    before = keyring.get_keyring()
    drawer = Drawer()
    keyring.set_keyring(drawer)
    yield drawer
    keyring.set_keyring(before)


class Settings(dict[str, str]):
    """An application's own settings."""

    def set(self, key: str, value: str | None) -> None:
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value


Reopen = Callable[[], SessionStorage]


@pytest.fixture(params=["memory", "file", "keyring", "key-value", "cached file"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, drawer: Drawer) -> Reopen:
    """Opens one storage several times, as other programs would."""
    assert drawer is not None
    memory, settings = MemoryStorage(), Settings()
    kinds: dict[str, Reopen] = {
        "memory": lambda: memory,
        "file": lambda: FileStorage(tmp_path / "deep" / "session.json"),
        "keyring": lambda: KeyringStorage("notes", "notes.example"),
        "key-value": lambda: KeyValueStorage(settings),
        "cached file": lambda: CachedStorage(FileStorage(tmp_path / "session.json")),
    }
    return kinds[request.param]


class TestEveryStorage:
    def test_a_new_storage_is_empty(self, reopen: Reopen) -> None:
        """Get."""
        assert reopen().read() is None
        assert reopen().remove(ada()) is False

    @pytest.mark.parametrize("session", [ada(), bob(), ada("")])
    def test_a_session_is_read_back_with_every_field(self, reopen: Reopen, session: AuthSuccess) -> None:
        """Round-trips every field."""
        reopen().write(session)
        assert reopen().read() == session

    def test_a_second_session_replaces_the_first(self, reopen: Reopen) -> None:
        """Set."""
        reopen().write(ada())
        reopen().write(bob())
        assert reopen().read() == bob()

    def test_writing_none_deletes_the_session(self, reopen: Reopen) -> None:
        """None deletes."""
        for _ in range(2):
            reopen().write(None)
            assert reopen().read() is None
            reopen().write(ada())

    def test_only_the_session_that_is_still_kept_is_removed(self, reopen: Reopen) -> None:
        reopen().write(ada())
        assert reopen().remove(bob()) is False
        assert reopen().remove(ada("c2Fz-an-earlier-token")) is False
        assert reopen().read() == ada()
        assert reopen().remove(ada()) is True
        assert reopen().read() is None

    def test_the_stamp_changes_with_every_write_of_another(self, reopen: Reopen) -> None:
        here, there = reopen(), reopen()
        for session in (ada(), bob(), None, ada()):
            before = here.stamp()
            there.write(session)
            assert here.stamp() != before
        before = here.stamp()
        assert there.remove(ada())
        assert here.stamp() != before

    def test_the_repr_of_a_storage_shows_no_token(self, reopen: Reopen) -> None:
        storage = reopen()
        storage.write(ada())
        assert TOKEN not in repr(storage)


class Counted(MemoryStorage):
    """Counts its reads."""

    reads = 0

    def read(self) -> AuthSuccess | None:
        self.reads += 1
        return super().read()


def test_the_lowest_filelock_that_is_allowed_does_not_follow_a_planted_link() -> None:
    """3.20.0 opens the target of a link for writing and empties it, 3.20.1 on Windows too; 3.20.3 follows none."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    (lowest,) = [one for one in project["project"]["optional-dependencies"]["client"] if one.startswith("filelock")]
    assert tuple(map(int, lowest.removeprefix("filelock>=").split("."))) >= (3, 20, 3)


def test_the_cache_reads_through_once_until_it_is_cleared_or_another_writes() -> None:
    """The cache reads the storage once until it is cleared."""
    inner = Counted()
    cached = CachedStorage(inner)
    assert [cached.read() for _ in range(3)] == [None] * 3
    assert inner.reads == 1
    cached.clear()
    cached.read()
    assert inner.reads == 2
    inner.write(ada())
    assert [cached.read() for _ in range(3)] == [ada()] * 3
    assert inner.reads == 3
    cached.write(bob())
    assert cached.read() == bob()


def test_the_cache_may_be_cleared_by_another_thread_at_any_moment() -> None:
    class Stamp:
        """A stamp that does not change; the cache is cleared while it is compared."""

        __hash__ = None  # type: ignore[assignment]  # only compared

        def __eq__(self, _other: object) -> bool:
            cached.clear()
            return True

    stamp = Stamp()
    inner = MemoryStorage()
    inner.stamp = lambda: stamp  # type: ignore[method-assign]  # in place of the storage's own
    inner.write(ada())
    cached = CachedStorage(inner)
    assert [cached.read(), cached.read()] == [ada(), ada()]


class TestFile:
    def test_the_file_is_never_readable_by_other_users(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        modes: list[int] = []
        replace = Path.replace

        def look(new: Path, target: Path) -> Path:
            modes.append(stat.S_IMODE(new.stat().st_mode))
            return replace(new, target)

        monkeypatch.setattr(Path, "replace", look)
        old_mask = os.umask(0)
        try:
            path = tmp_path / "folder" / "session.json"
            FileStorage(path).write(ada())
        finally:
            os.umask(old_mask)
        assert modes == [0o600]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}

    def test_a_crash_between_writing_and_replacing_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "session.json"
        FileStorage(path).write(ada())

        def crash(_new: Path, _target: Path) -> Path:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", crash)
            with pytest.raises(KeyboardInterrupt):
                FileStorage(path).write(bob())
        assert FileStorage(path).read() == ada()
        assert {file.name for file in tmp_path.iterdir()} == {"session.json", "session.json.lock"}

    def test_a_file_that_others_can_read_is_made_private_with_a_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "session.json"
        FileStorage(path).write(ada())
        path.chmod(0o644)
        with caplog.at_level(logging.WARNING):
            assert FileStorage(path).read() == ada()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "was readable by other users" in caplog.text
        assert TOKEN not in caplog.text

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[" * 60_000, b"[]", b"\xff\xfe", b'{"token": "c2Fz-the-token-of-the-tests"}', b"null"]
    )
    def test_a_damaged_file_is_an_error_that_names_it_and_signs_nobody_out(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "session.json"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(
            StorageError, match=r"session\.json does not hold a session; delete it and sign in again"
        ) as error:
            FileStorage(path).read()
        assert TOKEN not in str(error.value)
        assert error.value.__cause__ is None
        assert path.read_bytes() == content

    def test_a_file_that_cannot_be_read_is_an_error_and_signs_nobody_out(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way", encoding="utf-8")
        storage = FileStorage(tmp_path / "file" / "session.json")
        for use in (storage.read, storage.stamp, lambda: storage.write(ada())):
            with pytest.raises(StorageError, match=r"cannot read .*session\.json: Not a directory"):
                use()

    @pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077, 0o277, 0o777])
    def test_created_folders_are_for_the_owner_only_whatever_the_umask(self, tmp_path: Path, umask: int) -> None:
        there = tmp_path / "there"
        there.mkdir()
        there.chmod(0o755)
        path = there / "a" / "b" / "c" / "session.json"
        old = os.umask(umask)
        try:
            FileStorage(path).write(ada())
        finally:
            os.umask(old)
        created = [path.parent, path.parent.parent, path.parent.parent.parent]
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in created] == [0o700] * 3
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(there.stat().st_mode) == 0o755, "a folder that was there is left alone"

    @pytest.mark.parametrize("link", ["session.json", "session.json.lock"])
    @pytest.mark.parametrize("target", ["file", "nothing", "folder"])
    def test_a_symbolic_link_is_neither_followed_nor_replaced(self, tmp_path: Path, link: str, target: str) -> None:
        victim = tmp_path / "victim"
        if target == "file":
            victim.write_text("precious", encoding="utf-8")
            victim.chmod(0o644)
        elif target == "folder":
            victim.mkdir(mode=0o755)
        before = victim.lstat().st_mode if victim.exists() else None
        folder = tmp_path / "shared"
        folder.mkdir()
        (folder / link).symlink_to(victim)
        storage = FileStorage(folder / "session.json")
        uses: list[Callable[[], object]] = [lambda: storage.write(ada()), lambda: storage.remove(ada())]
        if link == "session.json":
            uses += [storage.read, storage.stamp, lambda: storage.write(None)]
        for use in uses:
            with pytest.raises(StorageError, match="is a symbolic link, which is neither followed nor replaced"):
                use()
        assert [file.name for file in folder.iterdir()] == [link], "nothing was written"
        assert (folder / link).is_symlink()
        assert (victim.lstat().st_mode if victim.exists() else None) == before
        if target == "file":
            assert victim.read_text(encoding="utf-8") == "precious"

    def test_a_link_that_is_planted_after_the_check_is_not_followed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        victim = tmp_path / "victim"
        victim.write_text("precious", encoding="utf-8")
        victim.chmod(0o644)
        for name in ("session.json", "session.json.lock"):
            (tmp_path / name).symlink_to(victim)
        for module in ("file_storage", "private_files"):
            monkeypatch.setattr(f"coatcheck.client.{module}.look_at", lambda _path, **_: None)
        storage = FileStorage(tmp_path / "session.json")
        for use in (storage.read, lambda: storage.write(ada())):
            with pytest.raises(StorageError, match=r"cannot (read|lock) .*session\.json: Too many levels of symbolic"):
                use()
        assert victim.read_text(encoding="utf-8") == "precious"
        assert stat.S_IMODE(victim.stat().st_mode) == 0o644

    def test_a_lock_file_that_is_a_hard_link_is_refused(self, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.write_text("precious", encoding="utf-8")
        victim.chmod(0o644)
        (tmp_path / "session.json.lock").hardlink_to(victim)
        with pytest.raises(StorageError, match=r"session\.json\.lock is a hard link; delete it"):
            FileStorage(tmp_path / "session.json").write(ada())
        assert victim.read_text(encoding="utf-8") == "precious"
        assert stat.S_IMODE(victim.stat().st_mode) == 0o644

    @pytest.mark.parametrize("name", ["session.json", "session.json.lock"])
    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
    def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused(
        self, tmp_path: Path, name: str, make: Callable[[Path], None]
    ) -> None:
        make(tmp_path / name)
        with pytest.raises(StorageError, match="is not a regular file"):
            FileStorage(tmp_path / "session.json").write(ada())
        assert [file.name for file in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("home", [None, "", "relative"])
    def test_a_program_without_a_home_directory_gets_a_clear_error(
        self, monkeypatch: pytest.MonkeyPatch, home: str | None
    ) -> None:
        def unknown(_user: int) -> object:
            raise KeyError("this user is in no list")

        monkeypatch.setattr("pwd.getpwuid", unknown)
        if home is None:
            monkeypatch.delenv("HOME", raising=False)
        else:
            monkeypatch.setenv("HOME", home)
        with pytest.raises(StorageError, match=r"needs a home directory; .*HOME"):
            FileStorage("~/.config/notes/session.json")

    @pytest.mark.parametrize("path", ["/", "/a/\0", "~nobody-of-this-name/session.json"])
    def test_a_path_that_names_no_file_is_refused_before_anything_is_written(self, path: str) -> None:
        with pytest.raises(StorageError, match="FileStorage"):
            FileStorage(path)

    def test_a_program_whose_working_directory_is_gone_gets_a_clear_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        with pytest.raises(StorageError, match="give an absolute path"):
            FileStorage("session.json")

    def test_a_folder_that_cannot_be_created_is_an_error_that_names_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_folder: Path, **_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(StorageError, match=r"cannot create the folder .*notes: Permission denied; .*write in"):
            FileStorage(tmp_path / "notes" / "session.json").write(ada())

    @pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV])
    def test_a_file_that_is_a_mount_is_a_clear_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        path = tmp_path / "session.json"
        FileStorage(path).write(ada())

        def refuse(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(Path, "replace", refuse)
        with pytest.raises(StorageError, match=r"cannot write .*session\.json: it is a mount .*; mount its folder"):
            FileStorage(path).write(bob())
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", refuse)
            with pytest.raises(StorageError, match=r"cannot write .*session\.json: it is a mount .*; mount its folder"):
                FileStorage(path).write(None)
        assert FileStorage(path).read() == ada()
        assert {file.name for file in tmp_path.iterdir()} == {"session.json", "session.json.lock"}

    def test_a_file_system_without_locks_is_a_clear_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_lock: FileLock) -> None:
            raise NotImplementedError("FileSystem does not appear to support flock; use SoftFileLock instead")

        monkeypatch.setattr(FileLock, "acquire", refuse)
        with pytest.raises(StorageError, match=r"cannot lock .*session\.json: NotImplementedError"):
            FileStorage(tmp_path / "session.json").write(ada())

    def test_a_lock_that_is_never_released_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("coatcheck.client.file_storage._LOCK_SECONDS", 0)
        path = tmp_path / "session.json"
        with FileLock(f"{path}.lock"), pytest.raises(StorageError, match="locked by another process"):
            FileStorage(path).write(ada())

    def test_of_many_threads_only_one_removes_the_session(self, tmp_path: Path) -> None:
        """Of many threads whose session is refused, one removes it."""
        path = tmp_path / "session.json"
        FileStorage(path).write(ada())
        start = threading.Barrier(8)
        removed: list[bool] = []

        def refuse() -> None:
            start.wait()
            removed.append(FileStorage(path).remove(ada()))

        threads = [threading.Thread(target=refuse) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(removed) == [False] * 7 + [True]

    def test_processes_see_each_other_sign_in_and_out(self, tmp_path: Path) -> None:
        path = tmp_path / "session.json"
        manager = ClientSessionManager(SERVER, storage=FileStorage(path))
        reasons: list[str | None] = []
        manager.listen(lambda change: reasons.append(change.reason and change.reason.value))
        other = """
import json, sys
from coatcheck.client import ClientSessionManager, FileStorage
from coatcheck.wire import auth_success_of
manager = ClientSessionManager("https://notes.example", storage=FileStorage(sys.argv[1]))
manager.update_signed_in_user(auth_success_of(json.loads(sys.argv[2])))
"""
        body = {"auth_strategy": "session", "token": "c2Fz-of-bob", "auth_user_id": "bob", "scope_names": []}
        for session, expected in ((body, bob()), ("null", None)):
            program = other if session is body else other.replace("auth_success_of(json.loads(sys.argv[2]))", "None")
            subprocess.run([sys.executable, "-c", program, str(path), json.dumps(session)], check=True)
            manager.restore()
            assert manager.auth_info == expected
        assert reasons == [None, "elsewhere"]


class Null(Drawer):
    """Takes everything and keeps nothing, as `keyring.backends.null` in containers does."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class Keeping(Drawer):
    """Deletes nothing."""

    def delete_password(self, service: str, username: str) -> None:
        pass


class Broken(Drawer):
    """Raises an error that is none of keyring's, and that shows the token."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error = error

    def _look(self) -> None:
        if self.is_locked:
            raise self.error(f"1783 CredWrite {TOKEN}")


class TestKeyring:
    def test_a_keyring_that_keeps_nothing_is_an_error_at_the_sign_in(self) -> None:
        before = keyring.get_keyring()
        keyring.set_keyring(Null())
        try:
            manager = ClientSessionManager(SERVER, storage=KeyringStorage("notes", "notes.example"))
            told: list[object] = []
            manager.listen(told.append)
            with pytest.raises(StorageError, match=r"test_storage\.Null did not keep the session; .*FileStorage"):
                manager.update_signed_in_user(ada())
            assert (manager.auth_info, told) == (None, [])
        finally:
            keyring.set_keyring(before)

    def test_a_keyring_that_does_not_delete_the_token_is_an_error_at_the_sign_out(self) -> None:
        before = keyring.get_keyring()
        keyring.set_keyring(Keeping())
        try:
            storage = KeyringStorage("notes", "notes.example")
            storage.write(ada())
            with pytest.raises(StorageError, match=r"test_storage\.Keeping did not delete the session"):
                storage.write(None)
        finally:
            keyring.set_keyring(before)

    @pytest.mark.parametrize("kind", [ConnectionResetError, RuntimeError, OSError, ValueError, KeyError])
    def test_every_error_of_a_keyring_is_a_storage_error_without_its_text(self, kind: type[Exception]) -> None:
        before = keyring.get_keyring()
        broken = Broken(kind)
        keyring.set_keyring(broken)
        try:
            storage = KeyringStorage("notes", "notes.example")
            storage.write(ada())
            broken.is_locked = True
            for use in (storage.read, lambda: storage.write(bob()), lambda: storage.write(None)):
                with pytest.raises(StorageError, match=f"entry 'notes', 'notes\\.example': {kind.__name__}$") as raised:
                    use()
                assert TOKEN not in "".join(traceback.format_exception(raised.value))
        finally:
            keyring.set_keyring(before)

    def test_a_keyring_that_cannot_be_loaded_is_a_configuration_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> object:
            raise ModuleNotFoundError("No module named 'nonsense'")

        monkeypatch.setattr(keyring, "get_keyring", fail)
        with pytest.raises(ConfigurationError, match=r"cannot load the keyring .*PYTHON_KEYRING_BACKEND"):
            KeyringStorage("notes", "notes.example")

    def test_a_locked_keyring_is_an_error_and_signs_nobody_out(self, drawer: Drawer) -> None:
        storage = KeyringStorage("notes", "notes.example")
        storage.write(ada())
        drawer.is_locked = True
        for use in (storage.read, lambda: storage.write(bob()), lambda: storage.write(None)):
            with pytest.raises(StorageError, match=r"entry 'notes', 'notes\.example': KeyringLocked") as error:
                use()
            assert TOKEN not in str(error.value)
            assert error.value.__cause__ is None
        drawer.is_locked = False
        assert storage.read() == ada()

    def test_a_system_without_a_keyring_gets_a_clear_error(self, drawer: Drawer) -> None:
        assert drawer is not None
        keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]  # keyring's
        with pytest.raises(ConfigurationError, match="use FileStorage instead"):
            KeyringStorage("notes", "notes.example")

    def test_a_missing_keyring_package_is_a_clear_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "keyring", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'coatcheck\[keyring\]'"):
            KeyringStorage("notes", "notes.example")


class TestKeyValues:
    def test_a_planted_token_that_cannot_be_sent_is_a_storage_error_that_does_not_show_it(self) -> None:
        settings = Settings()
        KeyValueStorage(settings).write(ada(TOKEN + "\n"))
        with pytest.raises(StorageError, match="does not hold a session") as error:
            KeyValueStorage(settings).read()
        assert TOKEN not in str(error.value)

    def test_every_error_of_the_applications_settings_is_a_storage_error_without_its_text(self) -> None:
        class Unreachable(Settings):
            def get(self, key: str, default: object = None) -> str:
                raise LookupError(f"{key} {default} {TOKEN}")

            def set(self, key: str, value: str | None) -> None:
                raise LookupError(f"{key} {value}")

        storage = KeyValueStorage(Unreachable())
        for use in (storage.read, lambda: storage.write(ada()), lambda: storage.write(None)):
            with pytest.raises(
                StorageError, match=r"cannot (read|write) the value 'coatcheck\.session': LookupError$"
            ) as raised:
                use()
            assert TOKEN not in "".join(traceback.format_exception(raised.value))

    def test_the_settings_are_given_plain_text(self) -> None:
        settings = Settings()
        KeyValueStorage(settings).write(ada())
        assert [type(text) for text in settings.values()] == [str]

    def test_a_value_that_is_no_text_is_a_storage_error(self) -> None:
        settings = Settings()
        settings["coatcheck.session"] = {"token": TOKEN}  # type: ignore[assignment]  # as a settings file may hold it
        with pytest.raises(StorageError, match="does not hold a session"):
            KeyValueStorage(settings).read()
