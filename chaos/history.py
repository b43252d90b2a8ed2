"""What callers did to sessions, when, and what they were told.

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
"""The version of scopes that nobody has written like this."""


class Kind(StrEnum):
    """What was asked for."""

    CREATE = "create"
    VALIDATE = "validate"
    REVOKE = "revoke"
    RESCOPE = "rescope"


class Outcome(StrEnum):
    """What the caller knows."""

    OK = "ok"
    FAIL = "fail"
    """It has not happened, and never will."""
    INFO = "info"
    """Not known: it has happened, will happen, or never does."""


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
    """A call under way. Whoever makes it says how it ended; if nobody does, that is not known."""

    def __init__(self) -> None:
        """Nothing known yet."""
        self.session = ""
        self.outcome = Outcome.INFO
        self.version: int | None = None

    def ok(self, version: int | None = None) -> None:
        """It was done, or answered."""
        self.outcome = Outcome.OK
        if version is not None:
            self.version = version

    def fail(self) -> None:
        """It was not done."""
        self.outcome = Outcome.FAIL


class History:
    """Operations, in the order in which they returned."""

    def __init__(self) -> None:
        """Empty."""
        self.operations: list[Operation] = []

    @contextmanager
    def record(self, kind: Kind, session: str = "", version: int | None = None) -> Iterator[Pending]:
        """Record the call that is made in the block."""
        pending = Pending()
        pending.session, pending.version = session, version
        invoked = time.monotonic()
        try:
            yield pending
        finally:
            # What may still happen has not returned.
            returned = math.inf if pending.outcome is Outcome.INFO else time.monotonic()
            if pending.session:
                self.operations.append(
                    Operation(kind, pending.session, invoked, returned, pending.outcome, pending.version)
                )
