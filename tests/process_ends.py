"""Whether a process that is no child of ours, and that we cannot wait for, has ended."""

from __future__ import annotations

import os
import select


def has_ended(process: int) -> bool:
    """Whether it ends within 10 s. It is waited for, since a killed process is there for a moment longer."""
    try:
        watched = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], 10)[0])
    finally:
        os.close(watched)
