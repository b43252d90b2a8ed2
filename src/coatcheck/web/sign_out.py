"""From a signed-in caller to a session that has ended, also where the store cannot say so at once."""

# FastAPI reads the annotations of what its routes return, so their names are imported for real.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coatcheck.errors import StoreUnavailable
from coatcheck.tokens import IssuesEndingTickets
from coatcheck.web.auth_services import HasTokenManager
from coatcheck.web.exchanges.reply import Reply, reply_of
from coatcheck.web.state import request_state


@dataclass(frozen=True, slots=True)
class SignedOut:
    """How many sessions a sign-out ended; 0 where there was none."""

    ended: int
    """The number of sessions that have ended."""


async def sign_out(auth: HasTokenManager, request: Mapping[str, Any]) -> SignedOut:
    """End the session that was presented. Without a valid one there is nothing to end, which is no error.

    The browser forgets the session cookie once that is confirmed. Where it cannot be confirmed, the browser gives the
    session cookie up all the same, and gets another one with which it can repeat the sign-out and do nothing else;
    that one is accepted here only. Where the token manager has no such tickets (`IssuesEndingTickets`), the session
    cookie stays, so that the sign-out can be repeated with it.

    Raises:
        StoreUnavailable: the store cannot answer; the session may still live. Repeat the sign-out.
        RevocationIndeterminate: whether it still lives is not known; repeat the sign-out.
        CrossSiteRequestError: another site's page would finish an earlier sign-out of this browser.
    """
    reply = reply_of(request)
    manager = auth.token_manager
    tickets = manager if isinstance(manager, IssuesEndingTickets) else None
    # The earlier one first: if it cannot be finished, its ticket has to stay, and the browser keeps one only.
    ended = await _finish_earlier(tickets, reply)
    try:
        caller = request_state(request).authentication
        if caller is not None:
            ended += await manager.revoke_token(token_id=caller.auth_id, auth_user_id=caller.user_identifier)
    except StoreUnavailable as error:
        request_state(request).note_failure(error)
        if tickets is not None:
            reply.put_off_ending(tickets)
        raise
    reply.forget_cookie()
    return SignedOut(ended)


async def _finish_earlier(tickets: IssuesEndingTickets | None, reply: Reply) -> int:
    """Finish the sign-out that could not be confirmed before, if there is one; how many sessions have ended."""
    ticket = reply.ending_ticket()
    if tickets is None or ticket is None:
        return 0
    ended = await tickets.end_by_ticket(ticket)
    if ended is not None:
        reply.forget_ending_ticket()
    return int(ended or False)
