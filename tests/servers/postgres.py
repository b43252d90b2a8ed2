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
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from tests.servers.ports import free_port, why_it_did_not_start
from tests.servers.programs import wait_for_end

if TYPE_CHECKING:
    from collections.abc import Mapping

STANDBY = "standby"
"""What a standby is called, in `synchronous_standby_names` for one."""

IMMEDIATE = signal.SIGQUIT
"""`pg_ctl stop -m immediate`: as in a crash."""

OTHER_VERSIONS = ("16", "17", "18")
"""Those that `scripts/install-postgresql-versions` fetches, beside the machine's own."""

OTHERS = Path(__file__).parents[2] / "build/postgresql"
_STATUS_LINE = 7  # of postmaster.pid, where the server says of itself that it is "ready"
_START_SECONDS = 30
_RUN_SECONDS = 100


class _Account(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


class PostgresServer:
    """A cluster of its own in a temporary folder. Every call blocks until it is done, also within an event loop."""

    def __init__(
        self,
        *,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
        primary: PostgresServer | None = None,
        version: str | None = None,
        password: str | None = None,
    ) -> None:
        """Make the cluster and start it, with the server's defaults but for `settings`.

        It is of the machine's own version, or of one of `OTHER_VERSIONS`; a standby is of its primary's.

        Without `durable`, `fsync` is off: what was committed outlives the server's processes, killed ones too, but not
        the machine. Tests of the former are as good, and faster. With `primary` it is a standby that follows that
        server, which knows it as `STANDBY`; its settings are those given here, and not the primary's, but its roles and
        their password are. With `password` nobody is let in without it.
        """
        self.port = free_port()
        self._version: str | None = version if primary is None else primary._version  # noqa: SLF001 (it is one of us)
        self.password: str | None = password if primary is None else primary.password
        self._durable = durable
        self._settings = {"max_connections": "200", **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._account = server_account()
        self._folder = Path(tempfile.mkdtemp(prefix="coatcheck-postgres-"))
        atexit.register(self.remove)  # a run that was interrupted leaves nothing behind either
        if self._account:
            os.chown(self._folder, self._account["user"], self._account["group"])
        if primary is None:
            # The locale is not the machine's: text sorts the same way everywhere.
            options = ["-U", "postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
            self._run("initdb", "-D", str(self._data), *options, *self._authentication())
        else:
            source = f"{primary.dsn()}?application_name={STANDBY}"
            options = ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]
            self._run("pg_basebackup", "--dbname", source, "-D", str(self._data), *options)
        self.start()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _kept(self) -> Path:
        return self._folder / "kept"

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text(errors="replace")

    def dsn(self, database: str = "postgres", *, port: int | None = None) -> str:
        """The connection URI of a database, by way of another port if there is a proxy in front."""
        user = f"postgres:{self.password}" if self.password else "postgres"
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers. Its port stays the same."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
            "fsync": "on" if self._durable else "off",
            **self._settings,
        }
        command = [self._program("postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            said_before = log.tell()
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._account)
        self._wait_until_it_answers(self._process, said_before)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT at once but in order, SIGQUIT as in a crash. Does nothing if it does not run."""
        if self._process is not None:
            self._process.send_signal(how)
            self.resume()  # a paused one would not hear it
            process, self._process = self._process, None
            wait_for_end(process)

    def kill(self) -> None:
        """Kill the server and all its processes (SIGKILL): none of them gets to do or to say anything more."""
        if self._process is None:
            return
        shared_memory = (self._data / "postmaster.pid").read_text().splitlines()[6].split()[1]
        self._signal(signal.SIGKILL)
        process, self._process = self._process, None
        wait_for_end(process)
        # What the kernel would keep until the server is started again, which it may never be.
        subprocess.run(["ipcrm", "-m", shared_memory], check=False, stderr=subprocess.DEVNULL)

    def pause(self) -> None:
        """Stop all its processes where they are (SIGSTOP): for everybody else a server that does not answer."""
        for pid in self._signal(signal.SIGSTOP):
            state = Path(f"/proc/{pid}/stat")
            while state.exists() and state.read_text().rpartition(")")[2].split()[0] not in "TZ":
                time.sleep(0.001)

    def resume(self) -> None:
        """Let its processes go on."""
        self._signal(signal.SIGCONT)

    def allow(self, *rules: str) -> None:
        """Replace the rules of pg_hba.conf, from now on for new connections."""
        (self._data / "pg_hba.conf").write_text("".join(f"{rule}\n" for rule in rules))
        self._run("pg_ctl", "reload", "-D", str(self._data))

    def speak_tls(self, certificate: bytes, key: bytes, *, authorities_of_clients: bytes | None = None) -> None:
        """Restart with a certificate (PEM), and with the authorities whose client certificates are accepted."""
        self.stop()
        files = {"server.crt": certificate, "server.key": key}
        if authorities_of_clients is not None:
            files["clients.crt"] = authorities_of_clients
            self._settings["ssl_ca_file"] = "clients.crt"
        for name, content in files.items():
            path = self._data / name
            path.write_bytes(content)
            path.chmod(0o600)
            if self._account:
                os.chown(path, self._account["user"], self._account["group"])
        self._settings["ssl"] = "on"
        self.start()

    def stop_tls(self) -> None:
        """Restart without TLS."""
        self.stop()
        del self._settings["ssl"]
        self._settings.pop("ssl_ca_file", None)
        self.start()

    def keep_files(self) -> None:
        """Make a copy of its files, for `put_files_back`."""
        self.stop()
        self._copy(self._data, self._kept)
        self.start()

    def put_files_back(self) -> None:
        """Start from the files as they were at `keep_files`; what was written since is gone."""
        self.stop()
        shutil.rmtree(self._data)
        self._copy(self._kept, self._data)
        self.start()

    def promote(self) -> None:
        """Make a primary of a standby, and wait until it is one."""
        self._run("pg_ctl", "promote", "-D", str(self._data), "--wait")

    def remove(self) -> None:
        """Stop the server and remove its data."""
        self.stop(IMMEDIATE)
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.remove)

    def start_program(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of PostgreSQL's own programs, by the server's account and in an empty folder beside its data."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        if self._account:
            os.chown(folder, self._account["user"], self._account["group"])
        with self._log.open("ab") as log:
            command = [self._program(name), *arguments]
            return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **self._account)

    def _program(self, name: str) -> str:
        return _program(name, self._version)

    def _copy(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "--archive", str(source), str(target)], check=True)

    def _signal(self, number: signal.Signals) -> list[int]:
        if self._process is None or self._process.poll() is not None:
            return []
        pid = self._process.pid
        pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        for one in pids:
            with suppress(ProcessLookupError):  # has ended meanwhile
                os.kill(one, number)
        return pids

    def _run(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's own programs to its end, by the server's account."""
        done = subprocess.run(
            [self._program(name), *arguments],
            cwd=self._folder,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_RUN_SECONDS,
            **self._account,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{name} failed:\n" + done.stdout.decode(errors="replace"))

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes], said_before: int) -> None:
        ask = [_program("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self.port}"]
        give_up = time.monotonic() + _START_SECONDS
        while not self._is_ready(process) or subprocess.run(ask, check=False, timeout=_RUN_SECONDS).returncode != 0:
            if process.poll() is not None or time.monotonic() > give_up:
                log_since = self._log.read_bytes()[said_before:].decode(errors="replace")
                raise RuntimeError(why_it_did_not_start("PostgreSQL", self.port, log_since))
            time.sleep(0.05)

    def _is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether this process says so. Another program that has taken the port would answer in its place."""
        with suppress(FileNotFoundError):
            said = (self._data / "postmaster.pid").read_text().splitlines()
            return len(said) > _STATUS_LINE and said[0] == str(process.pid) and said[_STATUS_LINE].strip() == "ready"
        return False

    def _authentication(self) -> list[str]:
        if self.password is None:
            return ["--auth=trust"]
        file = self._folder / "password"
        file.write_text(self.password)
        if self._account:
            os.chown(file, self._account["user"], self._account["group"])
        return ["--auth=scram-sha-256", f"--pwfile={file}"]


def missing(version: str | None = None) -> str | None:
    """Why no server (of one of `OTHER_VERSIONS`) can be started here, or None."""
    try:
        _program("initdb", version)
        _program("pg_isready")
    except FileNotFoundError as error:
        return str(error)
    return None


def server_account() -> _Account:
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


def _program(name: str, version: str | None = None) -> str:
    if version is not None:
        if not (OTHERS / version / "bin" / name).exists():
            raise FileNotFoundError(f"PostgreSQL {version} is not installed (no {name} in build/postgresql/{version})")
        return str(_within_reach(OTHERS) / version / "bin" / name)
    # Debian keeps the server's programs out of the PATH, one folder a version.
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"PostgreSQL is not installed (no {name})")
    return found


@cache
def _within_reach(folder: Path) -> Path:
    """The folder, or a copy of it where the account may not enter the way there, such as the home of root."""
    if subprocess.run(["test", "-x", str(folder)], check=False, **server_account()).returncode == 0:
        return folder
    copy = Path(tempfile.mkdtemp(prefix="coatcheck-postgres-programs-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    copy.chmod(0o755)
    return Path(shutil.copytree(folder, copy / "programs", symlinks=True))
