"""How many tokens are examined at a time, and when again where the store does not answer.

A limited number of looks is under way, and the event loop does everything else in between. So thousands of connections
may be added at once. Looks for a reason of their own come first, looks at all connections come after them.

A connection whose look was not answered is set aside. A probe looks at a few of those again, after a pause that doubles
up to two seconds. The first answer to one of them has all others looked at. Once fifty looks in a row were not
answered, eight are under way at most, and all other connections share their outcome. So in an outage the store and the
event loop have a few looks to make at a time, however many connections there are.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from coatcheck.web.live.connection import LiveConnection

_AT_ONCE = 128  # looks; what comes of them takes some 10 ms
_AT_MOST = 256  # where more are waiting for a reason: enough for 30 000 connections where a read takes 0.1 s
_IN_A_ROW = 50  # by chance, a store of which half answers never has so many
_PROBES = 8  # more than one, because a store may be in parts, of which some answer
_PORTION = 50  # connections
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 2.0

_Connections: TypeAlias = "OrderedDict[LiveConnection, None]"


class Looks:
    """Connections whose tokens are to be examined, and those whose tokens could not be.

    Tasks take one look after the other, as a task for each would be left to the garbage collector.
    """

    def __init__(
        self,
        examine: Callable[[str, Sequence[LiveConnection]], Awaitable[bool]],
        leave_unanswered: Callable[[Collection[LiveConnection]], None],
        of_the_session: Callable[[LiveConnection], Collection[LiveConnection]],
    ) -> None:
        """`examine` looks at the token of several connections, and returns whether the store has answered.

        `leave_unanswered` ends connections to which the store did not answer, or calls `set_aside`. `of_the_session`
        returns all connections of a connection's session.
        """
        self._examine = examine
        self._leave_unanswered = leave_unanswered
        self._of_the_session = of_the_session
        self._first: _Connections = OrderedDict()
        self._rest: _Connections = OrderedDict()
        self._sharing: _Connections = OrderedDict()  # they share the outcome of the looks that are under way
        self._unanswered: _Connections = OrderedDict()  # the next to be probed first
        self._workers: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._unanswered_in_a_row = 0
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        self._next_probe: asyncio.TimerHandle | None = None

    def add(self, connections: Iterable[LiveConnection]) -> None:
        """Look at these soon. The looks begin after this call."""
        for connection in connections:
            self._rest.pop(connection, None)
            self._first[connection] = None
        self._go_on()

    def add_all(self, connections: Iterable[LiveConnection]) -> None:
        """Look at these once nothing is left that was added by `add`. The looks begin after this call."""
        self._rest.update((connection, None) for connection in connections if connection not in self._first)
        self._go_on()

    def set_aside(self, connection: LiveConnection) -> None:
        """Look at this one again when the store may answer."""
        self._unanswered[connection] = None
        self._unanswered.move_to_end(connection)
        if self._next_probe is None:
            seconds = self._pause_seconds * random.uniform(0.5, 1)  # noqa: S311 (spreads load, guards nothing)
            self._next_probe = asyncio.get_running_loop().call_later(seconds, self._probe)

    def discard(self, connection: LiveConnection) -> None:
        """Do not look at it any more."""
        for connections in (self._first, self._rest, self._sharing, self._unanswered):
            connections.pop(connection, None)
        if not self._unanswered:
            self._stop_probing()

    @property
    def _is_out(self) -> bool:
        """Whether the store does not answer at all, as far as can be told."""
        return self._unanswered_in_a_row >= _IN_A_ROW

    @property
    def _allowed(self) -> int:
        """How many workers there may be. More are needed where the store is slow."""
        return min(max(_AT_ONCE, len(self._first)), _AT_MOST)

    def _probe(self) -> None:
        self._next_probe = None
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        probed = list(islice(self._unanswered, _PROBES))
        for connection in probed:
            self.set_aside(connection)  # behind the others; it stays unanswered until there is an answer
        self.add(probed)

    def _stop_probing(self) -> None:
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        if self._next_probe is not None:
            self._next_probe.cancel()  # it would never go off if this event loop ends, and another may follow
            self._next_probe = None

    def _go_on(self) -> None:
        """Have a worker for each look, as far as that is allowed."""
        waiting = len(self._first) + len(self._rest)
        while len(self._workers) < self._allowed and len(self._workers) - self._under_way < waiting:
            worker = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._end_work)

    def _end_work(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled():
            self._go_on()

    async def _work(self) -> None:
        while (self._first or self._rest) and len(self._workers) <= self._allowed:
            if self._is_out:
                self._keep_few()
            if self._first or self._rest:
                await self._look()
                await asyncio.sleep(0)  # also where the store has answered without a pause
        self._workers.discard(cast("asyncio.Task[None]", asyncio.current_task()))  # the next counts without this one

    def _keep_few(self) -> None:
        """Have the others share the outcome of the looks that are under way and of those that are left."""
        kept = max(0, _PROBES - self._under_way)
        if len(self._first) + len(self._rest) <= kept:
            return
        few = [*islice(self._first, kept), *islice(self._rest, kept)][:kept]
        for queue in (self._first, self._rest):
            self._sharing.update(queue)
            queue.clear()
        for connection in few:
            del self._sharing[connection]
            self._first[connection] = None

    async def _look(self) -> None:
        connections = self._take()
        self._under_way += 1
        try:
            is_answered = await self._examine(connections[0].token, connections)
        finally:
            self._under_way -= 1
        if is_answered:
            self._note_answer(connections)
        else:
            self._unanswered_in_a_row += 1
            await self._share_outage()

    def _take(self) -> list[LiveConnection]:
        """The next connection, and all others with its token that are to be looked at."""
        queue = self._first or self._rest
        connection, _ = queue.popitem(last=False)
        others = self._of_the_session(connection)
        if len(others) > len(self._first) + len(self._rest):  # one session may have thousands
            others = [*self._first, *self._rest]
        taken = [connection]
        taken += (
            other
            for other in others
            if (other in self._first or other in self._rest) and other.token == connection.token
        )
        for other in taken:
            self._first.pop(other, None)
            self._rest.pop(other, None)
        return taken

    def _note_answer(self, connections: Sequence[LiveConnection]) -> None:
        was_out, self._unanswered_in_a_row = self._is_out, 0
        answers_again = connections[0] in self._unanswered
        for connection in connections:
            self._unanswered.pop(connection, None)
        if answers_again:
            self.add_all(self._unanswered)
            self._unanswered.clear()
            self._stop_probing()
        elif was_out and self._unanswered:
            self._stop_probing()
            self._probe()
        if self._sharing:
            self.add_all(self._sharing)
            self._sharing.clear()

    async def _share_outage(self) -> None:
        sharing, self._sharing = list(self._sharing), OrderedDict()
        for begin in range(0, len(sharing), _PORTION):
            self._leave_unanswered(sharing[begin : begin + _PORTION])
            await asyncio.sleep(0)
