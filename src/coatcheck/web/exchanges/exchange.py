"""One request and what was already sent in answer to it: how much may still be said, and how.

An exchange stands between the application and the server. It knows whether a response has begun, has the response carry
what it has to, and can answer with a problem as long as that is possible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from coatcheck.web.asgi import AsgiMessage
    from coatcheck.web.exchanges.open_connection import OpenConnection
    from coatcheck.web.http.problems import Problem

DEAF_SECONDS = 0.1
"""How long a call takes by which the application would hear of a client, or be heard, that it has lost.

Some applications pause only where they wait for the client. One that did not pause any more would keep the event loop
to itself, and nobody would come to end it. Giving way is not enough: a thousand of them would keep it busy.
"""


class Exchange(Protocol):
    """The exchange as the middleware and open connections need it, over either kind of connection."""

    connection: OpenConnection | None
    """The connection of a signed-in caller, once it is open. It must not refer to its exchange strongly."""

    is_unfinished: bool
    """Whether `finish` has something to send."""

    async def send(self, message: AsgiMessage) -> None:
        """Send an event of the application on to the client."""
        ...

    async def answer(self, problem: Problem) -> bool:
        """Answer with a problem, or with that of `stop`. False if it is too late for that; nothing was sent then."""
        ...

    async def finish(self) -> None:
        """Send what was held back, and what `stop` has left to tell: the application has ended."""
        ...

    def note_over(self) -> None:
        """Note that nothing is open any more: the application may go on, with a background task, as it likes."""
        ...

    def stop(self, problem: Problem) -> None:
        """Send nothing of the application any more: the open connection ends with this problem."""
        ...

    async def tell(self) -> None:
        """Tell the client of that problem, if it was not told yet."""
        ...
