"""The checker finds every violation and no other, and agrees with a search over all orders."""

from __future__ import annotations

import math
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.checker import Promise, violations
from chaos.history import TORN, History, Kind, Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence


def op(kind: Kind, invoked: float, returned: float, version: int | None = None, *, session: str = "s") -> Operation:
    return Operation(kind, session, invoked, returned, Outcome.OK, version)


def create() -> Operation:
    return op(Kind.CREATE, 0, 1, 0)


def accepted(invoked: float, returned: float, version: int = 0) -> Operation:
    return op(Kind.VALIDATE, invoked, returned, version)


def refused(invoked: float, returned: float) -> Operation:
    return op(Kind.VALIDATE, invoked, returned, None)


def revoked(invoked: float, returned: float) -> Operation:
    return op(Kind.REVOKE, invoked, returned)


def rescoped(invoked: float, returned: float, version: int) -> Operation:
    return op(Kind.RESCOPE, invoked, returned, version)


def unknown(one: Operation) -> Operation:
    return Operation(one.kind, one.session, one.invoked, math.inf, Outcome.INFO, one.version)


def failed(one: Operation) -> Operation:
    return Operation(one.kind, one.session, one.invoked, one.returned, Outcome.FAIL, one.version)


GOOD = {
    "a life": [create(), accepted(2, 3), rescoped(4, 5, 1), accepted(6, 7, 1), revoked(8, 9), refused(10, 11)],
    "what overlaps may be seen or not": [create(), rescoped(2, 9, 1), accepted(3, 4, 0), accepted(5, 6, 1)],
    "a validation that overlaps a revocation": [create(), revoked(2, 9), accepted(3, 10), refused(4, 5)],
    "an unknown revocation that never happens": [create(), unknown(revoked(2, 3)), accepted(50, 51)],
    "an unknown revocation that happens late": [create(), unknown(revoked(2, 3)), accepted(50, 51), refused(60, 61)],
    "an unknown change that happens": [create(), unknown(rescoped(2, 3, 1)), accepted(50, 51, 1)],
    "a failed revocation": [create(), failed(revoked(2, 3)), accepted(4, 5)],
    "another session's revocation": [create(), op(Kind.REVOKE, 2, 3, session="t"), accepted(4, 5)],
}
BAD = {
    "accepted after its revocation": (
        [create(), revoked(2, 3), accepted(4, 5)],
        [Promise.REVOKED_STAYS_REVOKED],
    ),
    "accepted after a revocation that was tried twice": (
        [create(), unknown(revoked(2, 3)), revoked(4, 5), accepted(6, 7)],
        [Promise.REVOKED_STAYS_REVOKED],
    ),
    "accepted after it had been refused": (
        [create(), unknown(revoked(2, 3)), refused(4, 5), accepted(6, 7)],
        [Promise.DEATH_IS_FINAL],
    ),
    "scopes changed after its revocation": (
        [create(), revoked(2, 3), rescoped(4, 5, 1)],
        [Promise.REVOKED_STAYS_REVOKED],
    ),
    "old scopes after a change": (
        [create(), rescoped(2, 3, 1), accepted(4, 5, 0)],
        [Promise.SCOPES_ARE_LIVE],
    ),
    "scopes that go back": (
        [create(), rescoped(2, 20, 1), accepted(3, 4, 1), accepted(5, 6, 0)],
        [Promise.SCOPES_ARE_MONOTONE],
    ),
    "scopes of a change that failed": (
        [create(), failed(rescoped(2, 3, 1)), accepted(4, 5, 1)],
        [Promise.SCOPES_ARE_REAL],
    ),
    "scopes of a change to come": (
        [create(), accepted(2, 3, 1), rescoped(4, 5, 1)],
        [Promise.SCOPES_ARE_REAL],
    ),
    "torn scopes": ([create(), accepted(2, 3, TORN)], [Promise.SCOPES_ARE_REAL]),
    "refused for nothing": ([create(), refused(2, 3)], [Promise.NO_FALSE_SIGN_OUT]),
    "refused before anybody asked": ([create(), refused(2, 3), revoked(4, 5)], [Promise.NO_FALSE_SIGN_OUT]),
    "refused for a revocation that is said not to have happened": (
        [create(), failed(revoked(2, 3)), refused(4, 5)],
        [Promise.NO_FALSE_SIGN_OUT],
    ),
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_the_checker_accepts_a_correct_history(history: Sequence[Operation]) -> None:
    assert violations(history) == []


@pytest.mark.parametrize(("history", "promises"), BAD.values(), ids=BAD)
def test_the_checker_finds_a_wrong_history(history: Sequence[Operation], promises: Sequence[Promise]) -> None:
    assert [one.promise for one in violations(history)] == promises
    assert {one.operation for one in violations(history)} <= set(history)


def test_the_order_of_the_records_of_a_history_does_not_matter() -> None:
    for history, _ in BAD.values():
        assert [one.promise for one in violations(history[::-1])] == [one.promise for one in violations(history)]


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """A session that exists, with up to six calls at any times; changes of scopes follow each other."""
    count = draw(st.integers(1, 6))
    moments = iter(draw(st.permutations(range(2, 2 + 2 * count))))
    operations, spans = [], []
    for _ in range(count):
        first, second = next(moments), next(moments)
        spans.append((min(first, second), max(first, second)))
    version, busy_until = 0, 0.0
    for invoked, returned in sorted(spans):
        kinds = [Kind.VALIDATE, Kind.REVOKE] + ([Kind.RESCOPE] if invoked > busy_until else [])
        kind = draw(st.sampled_from(kinds))
        outcome = Outcome.OK if kind is Kind.VALIDATE else draw(st.sampled_from(Outcome))
        end = math.inf if outcome is Outcome.INFO else returned
        seen: int | None = None
        if kind is Kind.RESCOPE:
            version += 1
            busy_until, seen = end, version
        elif kind is Kind.VALIDATE:
            seen = draw(st.sampled_from([None, 0, 1, 2]))
        operations.append(Operation(kind, "s", invoked, end, outcome, seen))
    return [create(), *operations]


@settings(max_examples=1500)
@given(histories())
def test_the_checker_agrees_with_a_search_over_all_orders(history: list[Operation]) -> None:
    """Each register by itself: both the checker and the search look at one at a time."""
    life = [one for one in history if one.kind is not Kind.CREATE]
    assert (not violations(history)) == (_has_order(life, _is_life) and _has_order(_scope_calls(life), _are_scopes))


def _scope_calls(operations: Sequence[Operation]) -> list[Operation]:
    return [
        one for one in operations if one.kind is Kind.RESCOPE or (one.kind is Kind.VALIDATE and one.version is not None)
    ]


def _has_order(operations: Sequence[Operation], is_right: object) -> bool:
    """Whether there is an order of the calls that real time allows and a single caller could have seen."""
    happened = [one for one in operations if one.outcome is Outcome.OK]
    unclear = [one for one in operations if one.outcome is Outcome.INFO]
    for chosen in range(1 << len(unclear)):
        some = happened + [one for index, one in enumerate(unclear) if chosen >> index & 1]
        for order in permutations(some):
            in_time = all(
                not later.returned < earlier.invoked
                for index, earlier in enumerate(order)
                for later in order[index + 1 :]
            )
            if in_time and is_right(order):  # type: ignore[operator]  # one of the two below
                return True
    return False


def _is_life(order: Sequence[Operation]) -> bool:
    is_dead = False
    for one in order:
        if one.kind is Kind.REVOKE:
            is_dead = True
        elif one.outcome is Outcome.INFO:
            continue  # a change of scopes with an unknown outcome has seen nothing
        elif is_dead != (one.kind is Kind.VALIDATE and one.version is None):
            return False
    return True


def _are_scopes(order: Sequence[Operation]) -> bool:
    version = 0
    for one in order:
        if one.kind is Kind.RESCOPE:
            version = max(version, one.version or 0)
        elif one.version != version:
            return False
    return True


def test_an_unanswered_call_is_recorded_with_an_unknown_outcome() -> None:
    history = History()
    with history.record(Kind.REVOKE, "s"):
        pass
    with history.record(Kind.VALIDATE, "s") as call:
        call.ok(3)
    with history.record(Kind.RESCOPE, "s", 4) as call:
        call.fail()
    assert [(one.outcome, one.version) for one in history.operations] == [
        (Outcome.INFO, None),
        (Outcome.OK, 3),
        (Outcome.FAIL, 4),
    ]
    assert history.operations[0].returned == math.inf
