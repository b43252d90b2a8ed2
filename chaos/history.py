"""The record of the callers' calls on sessions, with their times and results.

All times are of one clock, that of the process that made the history: one machine, and so one order of events.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TORN = -1
"""The version of scopes that no caller has written."""


class Kind(StrEnum):
    """The kinds of calls."""

    CREATE = "create"
    VALIDATE = "validate"
    REVOKE = "revoke"
    RESCOPE = "rescope"


class Outcome(StrEnum):
    """The outcome of a call, as the caller knows it."""

    OK = "ok"
    FAIL = "fail"
    """The call has had no effect, and never will."""
    INFO = "info"
    """The outcome is not known: the call has had its effect, will have it, or never will."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. `version` is that of the scopes it wrote or, for a validation, saw; None: it was refused."""

    kind: Kind
    session: str
    invoked: float
    returned: float
    outcome: Outcome
    version: int | None = None


class Pending:
    """A call under way. Its caller records how it ended; otherwise the outcome is not known."""

    def __init__(self) -> None:
        """Begin with an unknown outcome."""
        self.session = ""
        self.outcome = Outcome.INFO
        self.version: int | None = None

    def ok(self, version: int | None = None) -> None:
        """Record that the call was done, or answered."""
        self.outcome = Outcome.OK
        if version is not None:
            self.version = version

    def fail(self) -> None:
        """Record that the call was not done."""
        self.outcome = Outcome.FAIL


class History:
    """Operations, in the order in which they returned."""

    def __init__(self) -> None:
        """Begin an empty history."""
        self.operations: list[Operation] = []

    @contextmanager
    def record(self, kind: Kind, session: str = "", version: int | None = None) -> Iterator[Pending]:
        """Record the call in the block."""
        pending = Pending()
        pending.session, pending.version = session, version
        invoked = time.monotonic()
        try:
            yield pending
        finally:
            # A call that may still have its effect has not returned.
            returned = math.inf if pending.outcome is Outcome.INFO else time.monotonic()
            if pending.session:
                self.operations.append(
                    Operation(kind, pending.session, invoked, returned, pending.outcome, pending.version)
                )
