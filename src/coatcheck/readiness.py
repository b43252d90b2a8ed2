"""Whether a pod can serve requests, for health checks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Readiness:
    """The findings of `Pod.readiness`."""

    store_answers: bool
    """Whether the store answers."""
    problems: tuple[str, ...] = ()
    """The problems, in sentences for operators. They contain no secret."""

    @property
    def is_ready(self) -> bool:
        """Whether the store answers, and nothing is wrong."""
        return self.store_answers and not self.problems
