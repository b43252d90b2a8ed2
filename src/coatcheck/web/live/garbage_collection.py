"""Python's full garbage collections, which wait while many connections end.

A full collection looks at all that is alive, and nothing else runs meanwhile: with 2000 open connections for a third of
a second. Where thousands end at once, one is almost sure to fall due.
"""

from __future__ import annotations

import asyncio
import gc
import threading

_NEVER = 2**31 - 1  # the largest that `gc.set_threshold` takes
_AT_MOST_SECONDS = 1.0


class FullCollections:
    """A collection that was postponed is made up for: it falls due as soon as they are resumed, if it is still needed.

    Collections of young objects go on, and so does whatever the application has set besides. One for each process, for
    as many event loops as there are.
    """

    def __init__(self) -> None:
        """Nothing is postponed."""
        self._lock = threading.Lock()
        self._thresholds: tuple[int, int, int] | None = None
        self._holders: dict[object, tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle]] = {}

    def postpone(self, holder: object) -> None:
        """Let no full collection begin until `holder` resumes them; for a second at most."""
        loop = asyncio.get_running_loop()
        with self._lock:
            # A loop that has ended keeps no time: without this, full collections would be off for ever.
            self._holders = {one: held for one, held in self._holders.items() if not held[0].is_closed()}
            if holder in self._holders:
                return
            if not self._holders and gc.get_threshold()[2] != _NEVER:
                self._thresholds = gc.get_threshold()
                gc.set_threshold(*self._thresholds[:2], _NEVER)
            self._holders[holder] = (loop, loop.call_later(_AT_MOST_SECONDS, self.resume, holder))

    def resume(self, holder: object) -> None:
        """Let them begin again, unless another holder has postponed them too."""
        with self._lock:
            _, limit = self._holders.pop(holder, (None, None))
            if limit is None:
                return
            limit.cancel()
            if not self._holders and self._thresholds is not None and gc.get_threshold()[2] == _NEVER:
                gc.set_threshold(*self._thresholds)
