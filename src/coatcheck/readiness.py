"""Whether a pod can serve requests, for health checks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Readiness:
    """What `Pod.readiness` found. `problems` are sentences for operators; they contain no secret."""

    store_answers: bool
    problems: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether the store answers, and nothing is wrong."""
        return self.store_answers and not self.problems
