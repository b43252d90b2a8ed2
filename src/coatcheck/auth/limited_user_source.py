"""A user source that answers in time, or not at all, so that no sign-in waits for it for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError, UserSourceUnavailable
from coatcheck.in_time import in_time

if TYPE_CHECKING:
    from coatcheck.identifiers import UserId
    from coatcheck.stores.store import Transaction
    from coatcheck.user_source import UserAccess, UserSource

USER_SOURCE_TIMEOUT = timedelta(seconds=10)
_SHORTEST, _LONGEST = timedelta(milliseconds=1), timedelta(minutes=1)


class LimitedUserSource:
    """A user source with a limit on its time."""

    def __init__(self, source: UserSource, timeout: timedelta) -> None:
        """Give `source` so much time for each user.

        Raises:
            ConfigurationError: `timeout` is not a timedelta of 1 millisecond to 1 minute.
        """
        if not isinstance(timeout, timedelta) or not _SHORTEST <= timeout <= _LONGEST:
            raise ConfigurationError("user_source_timeout must be a timedelta of 1 millisecond to 1 minute")
        self._source = source
        self._timeout = timeout

    async def get(self, user_id: UserId, *, transaction: Transaction | None = None) -> UserAccess:
        """See `UserSource.get`.

        Raises:
            UserSourceUnavailable: the source took too long. It was cancelled.
        """
        seconds = self._timeout.total_seconds()
        too_late = UserSourceUnavailable(
            f"the user source took longer than user_source_timeout ({seconds:g} s) for one user; "
            "if it works in threads, it needs a limiter of its own"
        )
        return await in_time(self._source.get(user_id, transaction=transaction), self._timeout, too_late)
