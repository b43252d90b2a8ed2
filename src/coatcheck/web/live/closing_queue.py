"""In which order live connections end, when thousands do at once.

First every client is told, then every application: telling is short, and what an application and its framework do when
they are left takes several times as long. Both go in portions, between which the event loop does everything else.
Where endings never cease, an application waits for other clients for a while only; then the portions take turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING

from coatcheck.web.live.garbage_collection import FullCollections

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coatcheck.web.live.connection import LiveConnection

_PORTION = 50  # connections; to make as many leave takes some 4 ms with FastAPI

_full_collections = FullCollections()  # one for the process, as the thresholds are
_log = logging.getLogger(__name__)


class ClosingQueue:
    """Connections that have been stopped, and are on their way out, in the order they came in."""

    def __init__(self, grace_seconds: float, *, postpone_full_collections: bool = False) -> None:
        """`grace_seconds` is how long each is waited for: a client that reads nothing, an application that cleans up.

        An application whose client was told waits for so long, at most, until other clients are told.
        `postpone_full_collections`: see `LiveConnections`.
        """
        self._postpones_full_collections = postpone_full_collections
        self._grace_seconds = grace_seconds
        self._untold: deque[LiveConnection] = deque()
        self._told: deque[tuple[LiveConnection, float]] = deque()  # and when, by the event loop's clock
        self._turn = 0
        self._goes_on = False
        self._under_way: set[asyncio.Task[None]] = set()

    def add(self, connections: Iterable[LiveConnection]) -> None:
        """End these, which have been stopped."""
        were_few = len(self._untold) <= _PORTION
        # Streams first: the answers of WebSockets would be read before the clients that come after them are told.
        self._untold.extend(sorted(connections, key=attrgetter("client_answers")))
        if self._postpones_full_collections and were_few and len(self._untold) > _PORTION:
            _full_collections.postpone(self)
        self._go_on_soon()

    def _go_on_soon(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take one turn: there is one in each round of the event loop, as long as there is something to do."""
        self._turn += 1
        if self._untold and not (self._turn % 2 and self._is_overdue()):
            task = asyncio.get_running_loop().create_task(self._tell_some(self._turn))
            self._under_way.add(task)  # the loop itself keeps only a weak reference
            task.add_done_callback(self._under_way.discard)
        else:
            for _ in range(min(_PORTION, len(self._told))):
                connection, _ = self._told.popleft()
                connection.leave(self._grace_seconds)
        self._goes_on = False
        if self._untold or self._told:
            self._go_on_soon()
        elif self._postpones_full_collections:
            _full_collections.resume(self)

    def _is_overdue(self) -> bool:
        """Whether an application has waited for other clients for long enough."""
        return bool(self._told) and asyncio.get_running_loop().time() - self._told[0][1] >= self._grace_seconds

    async def _tell_some(self, turn: int) -> None:
        """Tell a portion. A client that does not read never delays the others: the next turn goes on from there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._grace_seconds):
                for _ in range(_PORTION):
                    if not self._untold or turn != self._turn:
                        return
                    await self._tell(self._untold.popleft())

    async def _tell(self, connection: LiveConnection) -> None:
        try:
            await connection.tell()
        except OSError:
            pass  # the client has gone already
        except Exception:  # noqa: BLE001 (whatever the server raises, the application leaves)
            _log.exception("a client could not be told of the end of its session")
        finally:
            self._told.append((connection, asyncio.get_running_loop().time()))
            self._go_on_soon()
