"""A private Redis or Valkey server on a free loopback port, stopped by its process id."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,  # noqa: A004 (redis-py's name)
    ResponseError,
    TimeoutError,  # noqa: A004 (redis-py's name)
)
from redis.retry import Retry

from tests.servers.ports import free_port, why_it_did_not_start
from tests.servers.programs import wait_for_end
from tests.servers.removable import Removable

Program = Literal["redis-server", "valkey-server"]

_START_SECONDS = 30
_OLDEST = 7
# Another program that has the port may also refuse the password, or want one.
_DOES_NOT_ANSWER = (ConnectionError, TimeoutError, BusyLoadingError, ResponseError)


class RedisServer(Removable):
    """One server with a folder of its own. Every call blocks until it is done, also within an event loop."""

    arguments: tuple[str, ...] = ()
    """The arguments of the command line behind the name of the configuration file."""

    def __init__(self, program: Program = "redis-server", /, **settings: str) -> None:
        """Start a server, with its own defaults but for `settings`, which become lines of its configuration file.

        `maxmemory_policy="noeviction"` is the line `maxmemory-policy noeviction`; a value may be several words. Unless
        they say `appendonly` or `save`, it writes nothing to disk, and comes back empty.
        """
        self.port = int(settings.get("port") or free_port())
        self._program = program
        self._password = settings.get("requirepass")
        self._process: subprocess.Popen[bytes] | None = None
        self._is_paused = False
        self._folder = Path(tempfile.mkdtemp(prefix=f"coatcheck-{program}-"))
        atexit.register(self.remove)  # a run that was interrupted leaves nothing behind either
        ours = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self._folder), "save": '""'}
        lines = [f"{name.replace('_', '-')} {value}\n" for name, value in {**ours, **settings}.items()]
        self._configuration.write_text("".join(lines))  # once: what CONFIG REWRITE adds stays
        self.start()

    @property
    def url(self) -> str:
        """Its address for a client, the password included if the settings have one."""
        return f"{scheme(self._program)}://{credentials(self._password)}127.0.0.1:{self.port}/0"

    @property
    def log(self) -> str:
        """What the server said so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_answering(self) -> bool:
        """Whether it was started and neither stopped nor paused."""
        return self._process is not None and not self._is_paused

    @property
    def _configuration(self) -> Path:
        return self._folder / "server.conf"

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def ask(self, *command: str | int) -> Any:
        """The answer to one command, by a connection made for it, as redis-py parses it. It is not tried twice."""
        once = Retry(NoBackoff(), 0)
        with Redis(
            port=self.port,
            host="127.0.0.1",
            password=self._password,
            retry=once,
            socket_timeout=10,
            decode_responses=True,
        ) as client:
            return client.execute_command(*command)

    def start(self) -> None:
        """Start the server and wait until it answers. Its port and its folder stay the same."""
        with self._log.open("ab") as log:
            said_before = log.tell()
            self._process = subprocess.Popen(
                [_found(self._program), str(self._configuration), *self.arguments],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        give_up = time.monotonic() + _START_SECONDS
        while not self._is_ready(self._process.pid):
            if self._process.poll() is not None or time.monotonic() > give_up:
                log_since = self._log.read_bytes()[said_before:].decode(errors="replace")
                raise RuntimeError(why_it_did_not_start(self._program, self.port, log_since))
            time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server: SIGTERM in order, SIGKILL as in a crash. Does nothing if it does not run."""
        if self._process is not None:
            self._process.send_signal(how)
            self.resume()  # a paused one would not hear SIGTERM
            process, self._process = self._process, None
            wait_for_end(process)

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing answers until `resume`. When this returns, it stands still."""
        if self._process is not None and not self._is_paused:
            self._process.send_signal(signal.SIGSTOP)
            os.waitpid(self._process.pid, os.WUNTRACED)
            self._is_paused = True

    def resume(self) -> None:
        """Let it go on after `pause`. Does nothing if it was not paused."""
        if self._process is not None and self._is_paused:
            self._process.send_signal(signal.SIGCONT)
            self._is_paused = False

    def flush(self) -> None:
        """Forget all keys and all scripts: the state of a server that was just started."""
        self.ask("FLUSHALL")
        self.ask("SCRIPT FLUSH")
        self.ask("FUNCTION FLUSH")

    def remove(self) -> None:
        """Stop the server and remove its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.remove)

    def _is_ready(self, pid: int) -> bool:
        # The process id, because somebody else's server may have taken the port: ours is then about to give up.
        try:
            return bool(self.ask("PING")) and self.ask("INFO", "server")["process_id"] == pid
        except _DOES_NOT_ANSWER:
            return False


def missing(program: Program) -> str | None:
    """Why no such server can be started here, or None."""
    try:
        said = subprocess.run([_found(program), "--version"], check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        return str(error)
    version = re.search(r"\bv=(\d+)\.", said)
    if version is None or int(version[1]) < _OLDEST:
        return f"{program} is too old ({said.strip()}), the tests need {_OLDEST}.0"
    return None


def credentials(password: str | None) -> str:
    """A password as it stands in a URL, with the @ behind it; nothing where there is none."""
    return f":{quote(password, safe='')}@" if password else ""


def scheme(program: Program) -> str:
    """How the URLs of such a server begin: `redis` or `valkey`."""
    return program.removesuffix("-server")


def _found(program: Program) -> str:
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"{program} is not installed")
    return found
