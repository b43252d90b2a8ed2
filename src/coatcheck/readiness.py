"""Whether a pod can serve requests, for health checks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Readiness:
    """What `Pod.readiness` found."""

    store_answers: bool
    """Whether the store answers."""
    problems: tuple[str, ...] = ()
    """What is wrong, in sentences for operators. They contain no secret."""

    @property
    def is_ready(self) -> bool:
        """Whether the store answers, and nothing is wrong."""
        return self.store_answers and not self.problems
