"""A private nginx on a free loopback port, in front of an application, stopped by its process id."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from tests.servers.ports import free_port
from tests.servers.programs import wait_for_end
from tests.servers.removable import Removable

if TYPE_CHECKING:
    from pathlib import Path

_START_SECONDS = 30
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"  # where Debian puts it

_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {around}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        {inside}
    }}
}}
"""


def missing() -> str | None:
    """The reason why it cannot be started here, or None."""
    absent = [program for program in ("nginx", "openssl") if shutil.which(program, path=_PATH) is None]
    return f"{' and '.join(absent)} not installed; scripts/install-nginx" if absent else None


class Certificate:
    """A certificate for localhost that signs itself."""

    def __init__(self, folder: Path) -> None:
        self.file, self.key = folder / "localhost.pem", folder / "localhost.key"
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        command = ["openssl", "req", *kind, *subject, "-keyout", str(self.key), "-out", str(self.file)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


class Nginx(Removable):
    """One nginx with a folder of its own; `around` goes into its `http`, `inside` into its `server`."""

    def __init__(self, folder: Path, certificate: Certificate, *, around: str, inside: str) -> None:
        self.port = free_port()
        folder.mkdir()
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=folder,
                port=self.port,
                certificate=certificate.file,
                key=certificate.key,
                around=around,
                inside=inside,
            )
        )
        program = shutil.which("nginx", path=_PATH) or "nginx"
        self._log = folder / "error.log"
        command = [program, "-e", str(self._log), "-p", str(folder), "-c", str(configuration)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Stop it by its process id, and wait until it has ended."""
        if self._process.poll() is None:
            self._process.terminate()
        wait_for_end(self._process)

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise RuntimeError(f"nginx did not start: {self._log.read_text() if self._log.exists() else ''}")
