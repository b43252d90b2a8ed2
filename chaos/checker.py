"""Checks whether a history keeps the promises about revocation and scopes.

A session is two registers that only grow: from live to dead, and the version of its scopes. Such registers are
linearizable if each read gives a value between two bounds. The lower one is the greatest value that was known when the
read began: it was acknowledged, or seen by a read that had returned. The upper one is the greatest value that had been
asked for when the read ended. That is two look-ups in sorted lists for each read, O(n log n), and no search.

The checker assumes that no session reaches a deadline in the history, and that one caller at a time changes the scopes
of a session, by ascending versions.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING

from chaos.history import Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chaos.history import Operation


_WRITES = frozenset({Kind.CREATE, Kind.RESCOPE})


class Promise(StrEnum):
    """The promises that can be broken."""

    REVOKED_STAYS_REVOKED = "accepted after an acknowledged revocation"
    DEATH_IS_FINAL = "accepted after it had been refused"
    SCOPES_ARE_LIVE = "scopes older than an acknowledged change"
    SCOPES_ARE_MONOTONE = "scopes older than had been seen"
    SCOPES_ARE_REAL = "scopes that nobody had asked for"
    NO_FALSE_SIGN_OUT = "signed out wrongly"


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise, and the operation that breaks it."""

    promise: Promise
    operation: Operation


def violations(operations: Iterable[Operation]) -> list[Violation]:
    """All violations in a history, in the order in which they were seen."""
    sessions: defaultdict[str, list[Operation]] = defaultdict(list)
    for one in operations:
        sessions[one.session].append(one)
    found = [violation for of_one in sessions.values() for violation in _of_session(of_one)]
    return sorted(found, key=lambda one: one.operation.returned)


def _of_session(operations: Sequence[Operation]) -> Iterable[Violation]:
    ok = [one for one in operations if one.outcome is Outcome.OK]
    known, asked = _Known(ok), _Asked([one for one in operations if one.outcome is not Outcome.FAIL])
    for one in ok:
        for promise in _broken_by(one, known, asked):
            yield Violation(promise, one)


def _broken_by(one: Operation, known: _Known, asked: _Asked) -> Iterable[Promise]:
    if one.kind is Kind.VALIDATE and one.version is None:
        if one.returned < asked.end:
            yield Promise.NO_FALSE_SIGN_OUT
        return
    # A change of scopes that found its session has seen it live.
    if one.kind in {Kind.VALIDATE, Kind.RESCOPE}:
        if known.revoked < one.invoked:
            yield Promise.REVOKED_STAYS_REVOKED
        if known.refused < one.invoked:
            yield Promise.DEATH_IS_FINAL
    if one.kind is Kind.VALIDATE and one.version is not None:
        if one.returned < asked.versions.get(one.version, math.inf):
            yield Promise.SCOPES_ARE_REAL
        elif one.version < known.written.before(one.invoked):
            yield Promise.SCOPES_ARE_LIVE
        elif one.version < known.seen.before(one.invoked):
            yield Promise.SCOPES_ARE_MONOTONE


class _Known:
    """The values that were acknowledged or seen, each with the time from which on it was known."""

    def __init__(self, ok: Sequence[Operation]) -> None:
        self.revoked = min((one.returned for one in ok if one.kind is Kind.REVOKE), default=math.inf)
        refusals = (one.returned for one in ok if one.kind is Kind.VALIDATE and one.version is None)
        self.refused = min(refusals, default=math.inf)
        self.written = _Greatest((one.returned, one.version) for one in ok if one.kind in _WRITES)
        self.seen = _Greatest((one.returned, one.version) for one in ok if one.kind is Kind.VALIDATE)


class _Asked:
    """The values that were asked for, each with the time of the call: it cannot be seen before."""

    def __init__(self, asked: Sequence[Operation]) -> None:
        self.end = min((one.invoked for one in asked if one.kind is Kind.REVOKE), default=math.inf)
        self.versions = {one.version: one.invoked for one in asked if one.kind in _WRITES}


class _Greatest:
    """The greatest version that was known at a time."""

    def __init__(self, known: Iterable[tuple[float, int | None]]) -> None:
        pairs = sorted((moment, version) for moment, version in known if version is not None)
        self._moments = [moment for moment, _ in pairs]
        self._greatest = list(accumulate((version for _, version in pairs), max))

    def before(self, moment: float) -> int:
        """The greatest version that was known before `moment`; less than any version if there was none."""
        index = bisect_left(self._moments, moment)
        return self._greatest[index - 1] if index else -1
