"""Programs that start servers of their own, and have to be given the time to stop them."""

from __future__ import annotations

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
            with suppress(subprocess.TimeoutExpired):
                program.communicate(timeout=_STOP_SECONDS)
            program.kill()
            raise
    return subprocess.CompletedProcess(command, program.returncode, said, complained)
