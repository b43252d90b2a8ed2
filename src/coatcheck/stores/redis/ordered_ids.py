"""Merges many indexes, each in the order of ids, into one, and reads as little of them as it can."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

_SMALLEST_CHUNK = 8


@dataclass(slots=True)
class _Index:
    """The ids that were read from an index and not handed out yet, and where to read on."""

    after: str | None
    waiting: deque[str] = field(default_factory=deque)
    is_at_its_end: bool = False


class OrderedIds:
    """Reads all indexes as if they were one."""

    def __init__(
        self,
        indexes: Sequence[str],
        read: Callable[[Mapping[str, str | None], int], Awaitable[Sequence[Sequence[str]]]],
        *,
        after: str | None,
    ) -> None:
        """`read` gives for each index the next ids behind an id (None: from the first on), at most a number of them."""
        self._read = read
        self._indexes = {name: _Index(after) for name in indexes}

    async def take(self, count: int) -> list[str]:
        """The next `count` ids; fewer at the end."""
        chunk = max(_SMALLEST_CHUNK, 2 * count // len(self._indexes))
        taken: list[str] = []
        await self._fill(chunk)
        heads = [(index.waiting[0], name) for name, index in self._indexes.items() if index.waiting]
        heapq.heapify(heads)
        while heads and len(taken) < count:
            _, name = heapq.heappop(heads)
            index = self._indexes[name]
            taken.append(index.waiting.popleft())
            if not index.waiting and not index.is_at_its_end:
                chunk = max(chunk, min(2 * chunk, count))  # one index may have far more than the others
                await self._fill(chunk)
            if index.waiting:
                heapq.heappush(heads, (index.waiting[0], name))
        return taken

    async def _fill(self, chunk: int) -> None:
        """Read on in every index that has no id waiting."""
        empty = {name: index for name, index in self._indexes.items() if not index.waiting and not index.is_at_its_end}
        if not empty:
            return
        chunks = await self._read({name: index.after for name, index in empty.items()}, chunk)
        for index, ids in zip(empty.values(), chunks, strict=True):
            index.waiting.extend(ids)
            index.is_at_its_end = len(ids) < chunk
            if ids:
                index.after = ids[-1]
