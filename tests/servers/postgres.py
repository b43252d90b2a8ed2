"""A private PostgreSQL server on a free loopback port, stopped by its process id."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

_START_SECONDS = 30


class _Account(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


class PostgresServer:
    """A cluster of its own in a temporary folder. Every call blocks until it is done, also within an event loop."""

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None) -> None:
        """Make the cluster and start it, with the server's defaults but for `settings`.

        Without `durable`, `fsync` is off: what was committed outlives the server's processes, killed ones too, but not
        the machine. Tests of the former are as good, and faster.
        """
        self.port = free_port()
        self._durable = durable
        self._settings = {"max_connections": "200", **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _account()
        self._folder = Path(tempfile.mkdtemp(prefix="coatcheck-postgres-"))
        atexit.register(self.remove)  # a run that was interrupted leaves nothing behind either
        if self._account:
            os.chown(self._folder, self._account["user"], self._account["group"])
        # The locale is not the machine's: text sorts the same way everywhere.
        command = [_program("initdb"), "-D", str(self._data), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
        made = subprocess.run(
            [*command, "--locale=C", "--no-sync"],
            cwd=self._folder,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **self._account,
        )
        if made.returncode != 0:
            raise RuntimeError("initdb failed:\n" + made.stdout.decode(errors="replace"))
        self.start()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def dsn(self, database: str = "postgres", *, port: int | None = None) -> str:
        """The connection URI of a database, by way of another port if there is a proxy in front."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers. Its port stays the same."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
            "fsync": "on" if self._durable else "off",
            **self._settings,
        }
        command = [_program("postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._account)
        self._wait_until_it_answers()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT at once but in order, SIGQUIT as in a crash. Does nothing if it does not run."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_START_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Stop the server and remove its data."""
        atexit.unregister(self.remove)
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start_program(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of PostgreSQL's own programs, by the server's account and in an empty folder beside its data."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        if self._account:
            os.chown(folder, self._account["user"], self._account["group"])
        with self._log.open("ab") as log:
            return subprocess.Popen([_program(name), *arguments], cwd=folder, stdout=log, stderr=log, **self._account)

    def _wait_until_it_answers(self) -> None:
        ask = [_program("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self.port}"]
        give_up = time.monotonic() + _START_SECONDS
        while subprocess.run(ask, check=False).returncode != 0:
            has_ended = self._process is None or self._process.poll() is not None
            if has_ended or time.monotonic() > give_up:
                raise RuntimeError("PostgreSQL did not start:\n" + self._log.read_text(errors="replace")[-4000:])
            time.sleep(0.05)


def missing() -> str | None:
    """Why no server can be started here, or None."""
    try:
        _program("initdb")
    except FileNotFoundError as error:
        return str(error)
    return None


def _account() -> _Account:
    # PostgreSQL refuses to run as root, so root hands it to another account; `nobody` owns no files either.
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("root cannot run PostgreSQL, and there is no account 'postgres' or 'nobody' to run it")


def _program(name: str) -> str:
    # Debian keeps the server's programs out of the PATH, one folder a version.
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"PostgreSQL is not installed (no {name})")
    return found
