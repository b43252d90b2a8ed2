"""The word of sentinels, and until when it counts: plain functions, without a server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from coatcheck.stores.redis.transport.sentinel_topology import Word, best_of, word_in
from coatcheck.stores.redis.url import Address

if TYPE_CHECKING:
    from collections.abc import Sequence

OLD, NEW = Address("10.0.0.1", 6379), Address("10.0.0.2", 6379)


def _word(primary: Address, epoch: int, *, good_for: float = 60.0) -> Word:
    return Word(primary, epoch, time.monotonic() + good_for, frozenset(), frozenset())


def _read(*silences_ms: int, down_after_ms: int = 30_000, replicas: Sequence[dict[str, object]] = ()) -> Word:
    """The word of a sentinel that has heard from the others so long ago, asked at 1000 s."""
    primary = [b"config-epoch", b"7", b"down-after-milliseconds", b"%d" % down_after_ms]
    others = [
        [b"ip", b"10.0.1.%d" % number, b"port", b"26379", b"last-ok-ping-reply", b"%d" % silence]
        for number, silence in enumerate(silences_ms)
    ]
    known = [[str(word).encode() for pair in replica.items() for word in pair] for replica in replicas]
    return word_in([b"10.0.0.2", b"6379"], primary, others, known, asked_at=1000.0, remap=lambda address: address)


UP = {"ip": "10.0.0.1", "port": 6379, "flags": "slave", "last-ok-ping-reply": 900, "slave-priority": 100}


@pytest.mark.parametrize(
    ("changed", "may_be_chosen"),
    [
        ({}, True),
        ({"last-ok-ping-reply": 5000}, True),
        ({"last-ok-ping-reply": 5001}, False),
        ({"flags": "s_down,slave"}, False),
        ({"flags": "o_down,slave"}, False),
        ({"flags": "slave,disconnected"}, False),
        ({"flags": "slave,promoted"}, True),
        ({"slave-priority": 0}, False),
        ({"slave-priority": 1}, True),
    ],
)
def test_a_word_says_which_replicas_the_sentinel_might_choose(changed: dict[str, object], may_be_chosen: bool) -> None:
    assert _read(replicas=[UP | changed]).promotable == ({OLD} if may_be_chosen else set())


def test_a_word_names_the_primary_the_epoch_and_the_other_sentinels() -> None:
    word = _read(100, 200)
    assert (word.primary, word.epoch) == (NEW, 7)
    assert word.others == {Address("10.0.1.0", 26379), Address("10.0.1.1", 26379)}


@pytest.mark.parametrize(
    ("silences_ms", "heard_from_most_at"),
    [
        ((), 1000.0),  # it is alone, and by itself most of all
        ((500,), 999.5),
        ((500, 90_000), 999.5),  # two of three
        ((90_000, 90_000), 910.0),
        ((90_000, 500, 400, 90_000), 999.5),  # three of five
        ((90_000, 500, 80_000, 90_000), 920.0),
        ((500, 600, 90_000), 999.4),  # two of four are not most of them
    ],
)
def test_a_word_counts_from_when_the_sentinel_heard_from_most_of_all(
    silences_ms: tuple[int, ...], heard_from_most_at: float
) -> None:
    assert _read(*silences_ms).good_until == pytest.approx(heard_from_most_at + 29.0)


@pytest.mark.parametrize(("down_after_ms", "seconds"), [(30_000, 29.0), (5_000, 4.0), (3_000, 3.0), (100, 3.0)])
def test_a_word_counts_for_a_second_less_than_a_silent_primary_is_waited_for_and_for_three_at_least(
    down_after_ms: int, seconds: float
) -> None:
    assert _read(0, 0, down_after_ms=down_after_ms).good_until == pytest.approx(1000.0 + seconds)


@pytest.mark.parametrize("reply", [[], [b"ip"], None, 5, [[b"ip", b"10.0.0.1"]]])
def test_what_is_not_the_reply_of_a_sentinel_is_no_word(reply: object) -> None:
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        word_in([b"10.0.0.2", b"6379"], reply, [], [], asked_at=0.0, remap=lambda address: address)


def test_the_latest_failover_counts_and_not_what_most_sentinels_say() -> None:
    best = best_of([_word(OLD, 1), _word(OLD, 1), _word(NEW, 2)], latest=1, known=3, believes_any=False)
    assert best is not None
    assert best.primary == NEW


def test_a_word_that_has_run_out_does_not_count_unless_the_url_says_so() -> None:
    words = [_word(OLD, 1, good_for=-1)]
    assert best_of(words, latest=0, known=3, believes_any=False) is None
    assert best_of(words, latest=0, known=3, believes_any=True) == words[0]


def test_a_later_failover_that_is_told_by_a_sentinel_that_sees_nobody_does_not_count() -> None:
    best = best_of([_word(NEW, 2), _word(OLD, 9, good_for=-1)], latest=2, known=3, believes_any=False)
    assert best is not None
    assert best.primary == NEW


def test_a_sentinel_that_has_not_heard_of_a_failover_does_not_undo_it() -> None:
    assert best_of([_word(OLD, 1)], latest=2, known=3, believes_any=False) is None


def test_after_a_reset_most_sentinels_have_an_earlier_epoch_and_are_believed() -> None:
    best = best_of([_word(NEW, 0), _word(NEW, 0)], latest=2, known=3, believes_any=False)
    assert best is not None
    assert (best.primary, best.epoch) == (NEW, 0)


def test_of_equal_words_the_one_that_counts_longest_is_taken() -> None:
    words = [_word(NEW, 2, good_for=5), _word(NEW, 2, good_for=50), _word(NEW, 2, good_for=6)]
    assert best_of(words, latest=2, known=3, believes_any=False) is words[1]
