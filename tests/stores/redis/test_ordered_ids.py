"""Many indexes, each in order, are read as one index in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from coatcheck.stores.redis.ordered_ids import OrderedIds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)


class Indexes:
    """The indexes on the servers, and how much was read of them."""

    def __init__(self, ids: Mapping[str, Sequence[str]]) -> None:
        # As ZRANGEBYLEX has them: by their bytes.
        self.ids = {name: sorted(set(theirs), key=str.encode) for name, theirs in ids.items()}
        self.reads = 0
        self.ids_read = 0

    async def read(self, after: Mapping[str, str | None], count: int) -> Sequence[Sequence[str]]:
        self.reads += 1
        found = [[id_ for id_ in self.ids[name] if last is None or id_ > last][:count] for name, last in after.items()]
        self.ids_read += sum(map(len, found))
        return found


async def _taken(indexes: Indexes, after: str | None, counts: Sequence[int]) -> list[list[str]]:
    ids = OrderedIds(list(indexes.ids), indexes.read, after=after)
    return [await ids.take(count) for count in counts]


@given(
    st.lists(st.lists(IDS, max_size=30), min_size=1, max_size=6),
    st.none() | IDS,
    st.lists(st.integers(1, 25), min_size=1, max_size=6),
)
def test_takes_in_a_row_are_the_sorted_ids_without_gap_or_repetition(
    lists: list[list[str]], after: str | None, counts: list[int]
) -> None:
    distinct = {id_: name for name, theirs in enumerate(lists) for id_ in theirs}  # an id is in one index
    indexes = Indexes({str(name): [id_ for id_, its in distinct.items() if its == name] for name in range(len(lists))})
    expected = sorted(id_ for id_ in distinct if after is None or id_ > after)
    taken = asyncio.run(_taken(indexes, after, counts))
    for count, ids in zip(counts, taken, strict=True):
        assert ids == expected[:count]
        expected = expected[count:]


@given(st.integers(1, 2000), st.integers(1, 500), st.integers(1, 256))
def test_a_single_index_with_all_ids_takes_few_reads(size: int, count: int, others: int) -> None:
    indexes = Indexes({"big": [f"{number:05}" for number in range(size)], **{str(n): [] for n in range(others - 1)}})
    (taken,) = asyncio.run(_taken(indexes, None, [count]))
    assert taken == [f"{number:05}" for number in range(min(size, count))]
    assert indexes.reads <= 8  # chunks double from 8 to 500


def test_even_indexes_are_read_little_beyond_what_is_taken() -> None:
    indexes = Indexes({str(n): [f"{place:03}-{n}" for place in range(100)] for n in range(64)})
    (taken,) = asyncio.run(_taken(indexes, None, [256]))
    assert len(taken) == 256
    assert indexes.ids_read <= 2 * 256 + 64 * 8
