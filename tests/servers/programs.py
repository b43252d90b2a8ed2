"""Programs that tests, benchmarks and the chaos runs start, and wait for as long as is sensible and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_STOP_SECONDS = 30


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], seconds: float = 100
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run`, which would kill it when we are interrupted or it takes too long: its servers would stay."""
    program = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl+C reaches it by way of us, and so once
    )
    with program:
        try:
            said, complained = program.communicate(timeout=seconds)
        except BaseException:
            program.send_signal(signal.SIGINT)
            try:
                with suppress(subprocess.TimeoutExpired):
                    program.communicate(timeout=_STOP_SECONDS)
            finally:  # the time limit of the test may end this wait too, and nothing else would end the program then
                with suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGKILL)  # and the servers that it has not stopped
            raise
    return subprocess.CompletedProcess(command, program.returncode, said, complained)


def wait_for_end(process: subprocess.Popen[bytes] | subprocess.Popen[str], *, seconds: float = _STOP_SECONDS) -> int:
    """The exit status of a child that was told to end. One that does not end in time is killed, and that raises."""
    try:
        return process.wait(seconds)
    except BaseException:  # the time limit of the test, and Ctrl+C
        process.kill()
        process.wait()
        raise
