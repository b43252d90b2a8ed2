"""A private PgBouncer on a free loopback port, stopped by its process id."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.servers.ports import free_port
from tests.servers.postgres import server_account
from tests.servers.programs import wait_for_end

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_START_SECONDS = 30

IGNORED_PARAMETERS = (
    "extra_float_digits,client_min_messages,default_transaction_isolation,synchronous_commit,search_path"
)
"""What administrators let PgBouncer ignore, so that clients which send such settings can connect."""


class PgBouncer:
    """PgBouncer before one server, for all its databases. Every call blocks until it is done.

    It is in transaction mode, and refuses start-up parameters that it does not track, as by default.
    """

    def __init__(self, server_dsn: str, *, settings: Mapping[str, str] | None = None) -> None:
        """Start it before the server that `server_dsn` names, with PgBouncer's defaults but for `settings`."""
        self.port = free_port()
        self._server = urlsplit(server_dsn)
        self._settings = {"pool_mode": "transaction", "max_client_conn": "500", **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._account = server_account()
        self._folder = Path(tempfile.mkdtemp(prefix="coatcheck-pgbouncer-"))
        atexit.register(self.remove)  # a run that was interrupted leaves nothing behind either
        if self._account:
            os.chown(self._folder, self._account["user"], self._account["group"])
        self.start()

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it and remove its files."""
        self.remove()

    def dsn(self, database: str | None = None) -> str:
        """The connection URI of a database through it; None: of the one that the server's URI names."""
        path = self._server.path if database is None else f"/{database}"
        return f"postgresql://{self._user}@127.0.0.1:{self.port}{path}"

    def through(self, server_dsn: str, options: str = "") -> str:
        """The same database as `server_dsn`, through it."""
        return self.dsn(urlsplit(server_dsn).path.removeprefix("/")) + (f"?{options}" if options else "")

    def stand_before(self, server_dsn: str) -> None:
        """Lead to another server from now on. What is under way comes to its end on the old one."""
        self._server = urlsplit(server_dsn)
        self.configure()

    def log(self) -> str:
        """What it has logged so far."""
        return (self._folder / "log").read_text(errors="replace")

    def configure(self, **settings: str) -> None:
        """Change settings, and have it read them again."""
        self._settings.update(settings)
        self._write_configuration()
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        """Start it and wait until it listens. Its port stays the same."""
        self._write_configuration()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program(), str(self._folder / "ini")], cwd=self._folder, stdout=log, stderr=log, **self._account
            )
        give_up = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError("PgBouncer did not start:\n" + self.log()[-4000:]) from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop it at once (SIGTERM): every connection through it breaks. Does nothing if it does not run."""
        if self._process is not None:
            process, self._process = self._process, None
            process.send_signal(signal.SIGTERM)
            wait_for_end(process)

    def remove(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.remove)

    @property
    def _user(self) -> str:
        return self._server.username or "postgres"

    def _write_configuration(self) -> None:
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(self._folder / "users"),
            "admin_users": self._user,
            **self._settings,
        }
        lines = [
            "[databases]",
            f"* = host={self._server.hostname or '127.0.0.1'} port={self._server.port or 5432}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        (self._folder / "ini").write_text("\n".join(lines) + "\n")
        (self._folder / "users").write_text(f'"{self._user}" "{self._server.password or ""}"\n')
        for name in ("ini", "users"):
            (self._folder / name).chmod(0o644)


def missing() -> str | None:
    """Why it cannot be started here, or None."""
    try:
        _program()
    except FileNotFoundError as error:
        return str(error)
    return None


def _program() -> str:
    # Debian keeps it where only root's PATH looks.
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise FileNotFoundError("PgBouncer is not installed (no pgbouncer)")
    return found
