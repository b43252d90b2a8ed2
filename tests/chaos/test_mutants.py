"""Stores with the faults that stores have had: the checker finds each fault, and accepts the store without one.

A store is simulated, step by step and at random, with a clock that counts the steps: callers are invoked, take effect
and return in any order. A checker that lets one of these pass would prove nothing about a real store either.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from chaos.checker import Promise, violations
from chaos.history import TORN, Kind, Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 60
STEPS = 400


@dataclass
class Row:
    """One session, on the primary and on the standby."""

    is_dead: bool = False
    version: int = 0


@dataclass
class Simulated:
    """A store without a fault. Each fault is a subclass that does one thing wrong."""

    chooser: random.Random
    rows: dict[str, Row] = field(default_factory=dict)
    standby: dict[str, Row] = field(default_factory=dict)

    def create(self, session: str) -> Outcome:
        self.rows[session] = Row()
        self.replicate(session)
        return Outcome.OK

    def read(self, session: str) -> int | None:
        row = self.rows.get(session, Row(is_dead=True))
        return None if row.is_dead else row.version

    def revoke(self, session: str) -> Outcome:
        self.rows[session].is_dead = True
        self.replicate(session)
        return Outcome.OK

    def rescope(self, session: str, version: int) -> Outcome:
        row = self.rows[session]
        if row.is_dead:
            return Outcome.FAIL
        row.version = version
        self.replicate(session)
        return Outcome.OK

    def replicate(self, session: str) -> None:
        row = self.rows[session]
        self.standby[session] = Row(row.is_dead, row.version)

    def fail_over(self) -> None:
        self.rows = {name: Row(row.is_dead, row.version) for name, row in self.standby.items()}

    def sometimes(self, share: float = 0.2) -> bool:
        return self.chooser.random() < share


class Asynchronous(Simulated):
    """Acknowledges a write before the standby has it."""

    def replicate(self, session: str) -> None:
        if self.sometimes(0.5):
            super().replicate(session)


class RevocationsNotReplicated(Simulated):
    """Acknowledges a retry that finds no session left, although the first attempt had reached the primary only."""

    def revoke(self, session: str) -> Outcome:
        if self.rows[session].is_dead:
            return Outcome.OK
        self.rows[session].is_dead = True
        if self.sometimes(0.5):
            return Outcome.INFO
        self.replicate(session)
        return Outcome.OK


class RescopesSeenEarly(Simulated):
    """A change whose wait was cancelled is seen on the primary, is reported as unknown, and is lost."""

    def rescope(self, session: str, version: int) -> Outcome:
        if self.rows[session].is_dead:
            return Outcome.FAIL
        self.rows[session].version = version
        return Outcome.INFO


@dataclass
class Cached(Simulated):
    """Reads may give an earlier result."""

    cache: dict[str, int | None] = field(default_factory=dict)

    def read(self, session: str) -> int | None:
        if session not in self.cache or self.sometimes(0.5):
            self.cache[session] = super().read(session)
        return self.cache[session]


class ReadsFromStandby(Simulated):
    """Reads go to a standby that lags."""

    def replicate(self, session: str) -> None:
        if session not in self.standby or self.sometimes(0.5):
            super().replicate(session)

    def read(self, session: str) -> int | None:
        row = self.standby[session]
        return None if row.is_dead else row.version


class Revives(Simulated):
    """A touch writes the whole row as it was read, and revives a session that has ended since."""

    def read(self, session: str) -> int | None:
        seen = super().read(session)
        if seen is None and self.sometimes():
            self.rows[session].is_dead = False
        return seen


class ForgetsRescopes(Simulated):
    """A change of scopes is acknowledged and not written."""

    def rescope(self, session: str, version: int) -> Outcome:
        return Outcome.OK if self.sometimes() else super().rescope(session, version)


class SaysFailedButDid(Simulated):
    """A call that has had its effect is reported as failed."""

    def revoke(self, session: str) -> Outcome:
        outcome = super().revoke(session)
        return Outcome.FAIL if self.sometimes(0.5) else outcome


class DoesNothingButSaysDone(Simulated):
    """A revocation is acknowledged and not written."""

    def revoke(self, session: str) -> Outcome:
        return Outcome.OK if self.sometimes() else super().revoke(session)


class RefusesInOutages(Simulated):
    """An error of the database is reported as "no such session"."""

    def read(self, session: str) -> int | None:
        return None if self.sometimes(0.02) else super().read(session)


class Tears(Simulated):
    """Scopes are read while they are half written."""

    def read(self, session: str) -> int | None:
        seen = super().read(session)
        return TORN if seen and self.sometimes(0.1) else seen


class Invents(Simulated):
    """Another session's scopes are read."""

    def read(self, session: str) -> int | None:
        seen = super().read(session)
        return seen + 1 if seen is not None and self.sometimes(0.1) else seen


class LosesSignIns(Simulated):
    """A sign-in is acknowledged before the standby has it."""

    def create(self, session: str) -> Outcome:
        self.rows[session] = Row()
        return Outcome.OK


class WritesScopesBack(Simulated):
    """A touch writes the scopes that it has read before."""

    def read(self, session: str) -> int | None:
        seen = super().read(session)
        if seen and self.sometimes(0.1):
            self.rows[session].version = seen - 1
        return seen


MUTANTS = [
    Asynchronous, RevocationsNotReplicated, RescopesSeenEarly, Cached, ReadsFromStandby, Revives, ForgetsRescopes,
    SaysFailedButDid, DoesNothingButSaysDone, RefusesInOutages, Tears, Invents, LosesSignIns, WritesScopesBack,
]  # fmt: skip


def test_the_checker_accepts_a_store_without_a_fault() -> None:
    assert [violations(simulate(Simulated, seed)) for seed in range(RUNS)] == [[]] * RUNS


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_checker_finds_each_fault_of_a_store(mutant: type[Simulated]) -> None:
    assert any(violations(simulate(mutant, seed)) for seed in range(RUNS))


def test_every_promise_is_broken_by_at_least_one_fault() -> None:
    broken = {one.promise for mutant in MUTANTS for seed in range(RUNS) for one in violations(simulate(mutant, seed))}
    assert broken == set(Promise)


def simulate(kind: type[Simulated], seed: int) -> list[Operation]:
    """A history of several callers on a few sessions, with occasional failovers."""
    chooser = random.Random(seed)  # noqa: S311 (no secret)
    store = kind(chooser)
    history: list[Operation] = []
    callers = [_caller(number, store, chooser, history) for number in range(4)]
    _clock.now = 0
    for _ in range(STEPS):
        if chooser.random() < 0.01:
            store.fail_over()
        next(chooser.choice(callers))
    return history


class _Clock:
    now = 0

    def tick(self) -> int:
        self.now += 1
        return self.now


_clock = _Clock()


def _caller(number: int, store: Simulated, chooser: random.Random, history: list[Operation]) -> Iterator[None]:
    """Calls one after the other, changes on its own sessions and reads of all; stops before and after each call."""
    session, version, round_ = "", 0, 0
    while True:
        if not session:
            round_ += 1
            session, version = f"{number}/{round_}", 0
            kind, target = Kind.CREATE, session
        else:
            kind = chooser.choices([Kind.VALIDATE, Kind.RESCOPE, Kind.REVOKE], [6, 2, 1])[0]
            target = chooser.choice(list(store.rows) or [session]) if kind is Kind.VALIDATE else session
        invoked = _clock.tick()
        yield
        seen: int | None = None
        outcome = Outcome.OK
        if kind is Kind.CREATE:
            outcome, seen = store.create(target), 0
        elif kind is Kind.VALIDATE:
            seen = store.read(target)
        elif target not in store.rows:
            session = ""
            continue
        elif kind is Kind.RESCOPE:
            version += 1
            outcome, seen = store.rescope(target, version), version
        else:
            outcome = store.revoke(target)
        yield
        returned = math.inf if outcome is Outcome.INFO else float(_clock.tick())
        history.append(Operation(kind, target, invoked, returned, outcome, seen))
        if kind is Kind.REVOKE and (outcome is Outcome.OK or chooser.random() < 0.3):
            session = ""
