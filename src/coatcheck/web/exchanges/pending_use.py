"""A request of which it is not known yet whether it is a use of its session.

Listening for the end of a session must not keep the session alive, so the events route is no use of it. The middleware
validates before a route is chosen, and validating counts. It cannot go by the path: the routes are mounted wherever the
application likes, and the application may have an `/events` of its own. So it goes by what the client asks for: an
event stream (`Accept: text/event-stream`), as every browser's EventSource does by its standard, and as both of our
clients do. Such a request is examined, which does not count, and counted as soon as a response begins, within a second
in any case, unless its route has said before that it is no use. Only our events route says so, and it refuses a request
that did not ask for an event stream, because that was counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

USE_KEY = "coatcheck.use"
"""The key of the ASGI scope under which the middleware leaves a `PendingUse`, if the request has one."""

COUNTED_WITHIN_SECONDS = 1.0
"""As late as a use is counted in any case, as long as its session does not run out before."""


class PendingUse:
    """The use that is counted later, or not at all. `ends_in_us` is the time until a deadline of the session."""

    __slots__ = ("_count", "ends_in_us")

    def __init__(self, count: Callable[[], object], ends_in_us: int | None) -> None:
        """`count` counts it."""
        self._count: Callable[[], object] | None = count
        self.ends_in_us: int | None = ends_in_us

    @property
    def counted_within_seconds(self) -> float:
        """How long the route may take: until half of what is left of the session is over, a second at most."""
        if self.ends_in_us is None:
            return COUNTED_WITHIN_SECONDS
        return min(self.ends_in_us / 2_000_000, COUNTED_WITHIN_SECONDS)

    def count(self) -> None:
        """Count it, if that was not done yet: by now the route would have dropped it."""
        count, self._count = self._count, None
        if count is not None:
            count()

    def drop(self) -> None:
        """Do not count it: the request says nothing about whether the person is still there."""
        self._count = None


def pending_use_of(connection: Mapping[str, Any]) -> PendingUse | None:
    """The use that this request may be; None if it was counted, or nobody is signed in."""
    found = connection.get(USE_KEY)
    return found if isinstance(found, PendingUse) else None
