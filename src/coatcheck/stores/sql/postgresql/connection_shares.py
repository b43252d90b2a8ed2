"""How many connections one process may have to PostgreSQL, and how they are split between their purposes.

A server has some hundred connections for all processes of all applications, and a small one has twenty. So a store
never has more than it was given, and says at its start how many that is.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import Self

DEFAULT_CONNECTIONS = 20
LEAST_CONNECTIONS = 5

_ENOUGH_FOR_BATCHES = 8
_ENOUGH_FOR_ALL = 12


@dataclass(frozen=True, slots=True)
class ConnectionShares:
    """The connections of one process, by purpose."""

    session_reads: int
    """For validations; for reads of users too where these have none of their own."""
    user_reads: int
    sign_ins: int
    """For sign-ins that share a transaction; 0: each has a transaction of its own."""
    revocations: int
    """For revocations that share a transaction; 0: each has a transaction of its own."""
    touches: int
    transactions: int
    """For everything else, the application's `store.transaction()` among it."""
    announcements: int = 1

    @property
    def total(self) -> int:
        """The connections of one process, at most."""
        return sum(astuple(self))

    @classmethod
    def of(cls, connections: int) -> Self:
        """Split so many connections. Calls that share round trips need few; transactions get the rest.

        Raises:
            ConfigurationError: there are too few.
        """
        if type(connections) is not int or connections < LEAST_CONNECTIONS:
            raise ConfigurationError(
                f"connections must be a whole number of {LEAST_CONNECTIONS} or more, not {connections!r}: validations, "
                "touches and announcements need one each, and transactions two"
            )
        if connections < _ENOUGH_FOR_BATCHES:
            return cls(1, 0, 0, 0, 1, transactions=connections - 3)
        if connections < _ENOUGH_FOR_ALL:
            return cls(1, 0, 1, 1, 1, transactions=connections - 5)
        # Two for sign-ins, so that one batch is made ready while the other is written; and two for touches, one for
        # batches and one for a touch that somebody waits for.
        return cls(2, 1, 2, 1, 2, transactions=connections - 9)
