"""The promise about revocation that a store can make as it is configured: a level, its conditions in words, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Finding",
    "Guarantee",
    "GuaranteeLevel",
    "guarantee_of",
]


class GuaranteeLevel(IntEnum):
    """How far a revocation holds, the weakest first: levels can be compared."""

    BEST_EFFORT = 0
    """A revocation is stored, and nothing more is promised."""
    EVENTUAL = 1
    """Validations may succeed for a time after a revocation, without a bound."""
    STRICT_UNTIL_CRASH = 2
    """A crash of the database may undo the last revocations."""
    STRICT_UNTIL_POWER_LOSS = 3
    """A power cut may undo the last revocations."""
    STRICT_UNTIL_FAILOVER = 4
    """Another server that takes over may not know the last revocations."""
    STRICT = 5
    """The highest: what a failover leaves is a condition, not a level (docs/decisions/0005)."""


_PROMISES = {
    GuaranteeLevel.BEST_EFFORT: "A revocation is stored, and nothing more is promised.",
    GuaranteeLevel.EVENTUAL: "After a revocation has returned, validations may succeed for a time that has no bound.",
    GuaranteeLevel.STRICT_UNTIL_CRASH: (
        "After a revocation has returned, no validation that starts later succeeds, until the database crashes: that "
        "may undo the revocations of the last moment."
    ),
    GuaranteeLevel.STRICT_UNTIL_POWER_LOSS: (
        "After a revocation has returned, no validation that starts later succeeds, whatever process crashes, until "
        "the machine fails: a power cut may undo revocations."
    ),
    GuaranteeLevel.STRICT_UNTIL_FAILOVER: (
        "After a revocation has returned, no validation that starts later succeeds, through crashes too, until "
        "another server takes over: that undoes the revocations which had not reached it."
    ),
    GuaranteeLevel.STRICT: (
        "After a revocation has returned, no validation that starts later succeeds, in any process that uses this "
        "store, also after a crash of the application, of the database or of the machine."
    ),
}


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What `Store.guarantee()` has found.

    `reasons` say what keeps the level from being STRICT, `conditions` what it depends on and cannot be probed, both in
    sentences; `settings` has what was probed, by its name in the database.
    """

    level: GuaranteeLevel
    """How far a confirmed revocation is kept."""
    reasons: tuple[str, ...]
    """Why it is not STRICT."""
    conditions: tuple[str, ...]
    """The conditions on which it rests, and which cannot be looked up."""
    settings: Mapping[str, str]
    """The settings that were looked at, with their values."""
    notes: tuple[str, ...] = ()
    """What comes later than it could as the store is configured, whatever the level; in sentences."""

    @property
    def promise(self) -> str:
        """The level in words."""
        return _PROMISES[self.level]

    def __str__(self) -> str:
        """Everything in words, but for the settings."""
        parts = [f"{self.level.name}: {self.promise}"]
        if self.reasons:
            parts += ["Why not more:", *self.reasons]
        if self.conditions:
            parts += ["Provided that:", *self.conditions]
        if self.notes:
            parts += ["But:", *self.notes]
        return " ".join(parts)


Finding: TypeAlias = tuple[GuaranteeLevel, str]
"""A reason why the level is not STRICT, and the level that it leaves."""


def guarantee_of(
    findings: Sequence[Finding], conditions: Sequence[str], settings: Mapping[str, str], notes: Sequence[str] = ()
) -> Guarantee:
    """The guarantee that is left by these findings: the lowest of their levels."""
    level = min((level for level, _ in findings), default=GuaranteeLevel.STRICT)
    return Guarantee(level, tuple(why for _, why in findings), tuple(conditions), dict(settings), tuple(notes))
