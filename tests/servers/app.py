"""An ASGI application served by a process of its own: what a user starts, and what a test can kill."""

from __future__ import annotations

import http.client
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from tests.servers.ports import free_port
from tests.servers.programs import wait_for_end

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_START_SECONDS = 30
_STOP_SECONDS = 15


class AppServer:
    """One command that serves HTTP on a port of 127.0.0.1, from `with` until the end of the block.

    `{port}` in the command and the variable PORT are the port. The process is stopped by its id. With `certificate`, a
    PEM file of key and chain that the command serves with, it is asked over https.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        port: int | None = None,
        certificate: Path | None = None,
    ) -> None:
        """Set up without starting. `env` is added to the environment of the tests."""
        self.port = port or free_port()
        self._command = [part.replace("{port}", str(self.port)) for part in command]
        self._env = {**os.environ, "PORT": str(self.port), "PYTHONUNBUFFERED": "1", **(env or {})}
        self._cwd = cwd
        self._certificate = certificate
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed on exit, after the process)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def uvicorn(
        cls,
        target: str,
        *options: str,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        port: int | None = None,
        certificate: Path | None = None,
    ) -> Self:
        """`uvicorn TARGET OPTION...`, as in `AppServer.uvicorn("app:create_app", "--factory", "--app-dir", "...")`."""
        serve = [sys.executable, "-m", "uvicorn", target, "--host", "127.0.0.1", "--port", "{port}", *options]
        if certificate is not None:
            serve += ["--ssl-keyfile", str(certificate), "--ssl-certfile", str(certificate)]
        return cls(serve, env=env, cwd=cwd, port=port, certificate=certificate)

    @property
    def url(self) -> str:
        """Where it is served, without a slash at the end."""
        return f"{'http' if self._certificate is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """What it has printed so far, errors included."""
        # By position, since the process writes through the same file description and shares its offset.
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        """Start, and wait until it answers a request."""
        try:
            self.start()
        except BaseException:
            self._output.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()
        self._output.close()

    def start(self) -> None:
        """Start, and wait until it answers a request, with whatever status."""
        self._process = subprocess.Popen(
            self._command,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:  # Ctrl+C too
            self.stop()
            raise

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Stop the process and return its exit status. SIGTERM as a deployment does, SIGKILL as a crash does."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(how)
        return wait_for_end(process, seconds=_STOP_SECONDS)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + _START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{' '.join(self._command)} did not start:\n{self.output[-4000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        connection: http.client.HTTPConnection
        if self._certificate is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        else:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is ours; is it there?
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=context)
        try:
            connection.request("HEAD", "/")
            connection.getresponse().close()
        except OSError:
            return False
        finally:
            connection.close()
        return True
