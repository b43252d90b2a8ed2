"""A limit on the time that an application's user source may take.

A sign-in waits for it. A source that works in threads, asked from routes that are threads themselves, may wait for one
that only becomes free when the sign-in is over: without a limit, they would all wait for ever.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from coatcheck.errors import ConfigurationError, UserSourceUnavailable

if TYPE_CHECKING:
    from coatcheck.identifiers import UserId
    from coatcheck.stores.store import Transaction
    from coatcheck.user_source import UserAccess, UserSource

USER_SOURCE_TIMEOUT = timedelta(seconds=10)
_SHORTEST, _LONGEST = timedelta(milliseconds=1), timedelta(minutes=1)


class LimitedUserSource:
    """A user source that answers in time, or not at all."""

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
        try:
            async with asyncio.timeout(self._timeout.total_seconds()) as limit:
                return await self._source.get(user_id, transaction=transaction)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the source's own
            raise UserSourceUnavailable(
                f"the user source took longer than user_source_timeout ({self._timeout.total_seconds():g} s) for one "
                "user; if it works in threads, it needs a limiter of its own"
            ) from error
