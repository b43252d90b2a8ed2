"""Waits for a server to do something by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_SECONDS = 30


def until(is_so: Callable[[], bool]) -> None:
    """Block until `is_so`, asking again and again."""
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.01)
