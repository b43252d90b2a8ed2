"""From a signed-in caller to a session that has ended, also where the store cannot say so at once."""

# FastAPI reads the annotations of what its routes return, so their names are imported for real.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coatcheck.errors import SignOutUnconfirmedError, StoreUnavailable
from coatcheck.tokens import (
    AuthenticationInfo,
    IssuesEndingTickets,
    Token,
    TokenManager,
    TokenRefusal,
    TokenStanding,
)
from coatcheck.web.auth_services import HasTokenManager
from coatcheck.web.exchanges.reply import Reply, reply_of
from coatcheck.web.http.credentials import presented_credential
from coatcheck.web.state import RequestState, request_state

MAX_COOKIES = 8
"""Cookies of one name that a sign-out looks at. A browser has one."""


@dataclass(frozen=True, slots=True)
class SignedOut:
    """How many sessions a sign-out ended; 0 where there was none."""

    ended: int
    """The number of sessions that have ended."""


@dataclass(slots=True)
class _SoFar:
    """What a sign-out has done: the sessions that it has ended, and whether it can say that they are all."""

    ended: int = 0
    is_certain: bool = True


async def sign_out(auth: HasTokenManager, request: Mapping[str, Any]) -> SignedOut:
    """End the session that was presented, also one past a deadline. Where there is none, that is no error.

    The browser forgets the session cookie once that is confirmed. Where it cannot be confirmed, the browser gives the
    session cookie up all the same, and gets another one with which it can repeat the sign-out and do nothing else;
    that one is accepted here only. Where the token manager has no such tickets (`IssuesEndingTickets`), the session
    cookie stays, so that the sign-out can be repeated with it.

    Of several session cookies, each whose secret is right has its session ended.

    Raises:
        StoreUnavailable: the store cannot answer; the session may still live. Repeat the sign-out.
        RevocationIndeterminate: whether it still lives is not known; repeat the sign-out.
        SignOutUnconfirmedError: what could be read has ended; something else that was sent cannot be read or checked
            here, so its session may still live.
        CrossSiteRequestError: another site's page would finish an earlier sign-out of this browser.
    """
    state, reply = request_state(request), reply_of(request)
    manager = auth.token_manager
    tickets = manager if isinstance(manager, IssuesEndingTickets) else None
    so_far = _SoFar()
    # The earlier one first: if it cannot be finished, its ticket has to stay, and the browser keeps one only.
    await _finish_earlier(tickets, reply, so_far)
    try:
        await _end_presented(manager, request, so_far)
    except StoreUnavailable as error:
        state.note_failure(error)
        if tickets is not None and so_far.is_certain:
            reply.put_off_ending(tickets)
        raise
    return _confirmed(state, reply, so_far)


async def sign_out_all(auth: HasTokenManager, request: Mapping[str, Any]) -> SignedOut:
    """End all sessions of the caller, this one included, and one that an earlier sign-out here could not end.

    The browser forgets the session cookie once that is confirmed. Until then it keeps the cookie: the ticket by which
    a `sign_out` is finished ends one session only.

    Raises:
        AuthenticationRequiredError: nobody is signed in, so it is not known whose sessions to end.
        StoreUnavailable, RevocationIndeterminate, SignOutUnconfirmedError, CrossSiteRequestError: as `sign_out`.
    """
    state, reply = request_state(request), reply_of(request)
    caller = state.require()
    manager = auth.token_manager
    so_far = _SoFar()
    await _finish_earlier(manager if isinstance(manager, IssuesEndingTickets) else None, reply, so_far)
    so_far.ended += len(await manager.revoke_all_tokens(auth_user_id=caller.user_identifier))
    return _confirmed(state, reply, so_far)


def _confirmed(state: RequestState, reply: Reply, so_far: _SoFar) -> SignedOut:
    """What has ended, with the session cookie taken from the browser.

    Raises:
        SignOutUnconfirmedError: it is not certain that this is all.
    """
    reply.forget_cookie()
    if so_far.is_certain:
        return SignedOut(so_far.ended)
    unconfirmed = SignOutUnconfirmedError(so_far.ended)
    state.note_failure(unconfirmed)
    raise unconfirmed


async def _finish_earlier(tickets: IssuesEndingTickets | None, reply: Reply, so_far: _SoFar) -> None:
    """Finish the sign-out that could not be confirmed before, if there is one.

    A ticket that cannot be opened or checked here stays: another server may have its pepper. So does one that was
    damaged, until the browser forgets it. What is too short to be what is left of a ticket was never one.
    """
    shown = () if tickets is None else reply.ending_tickets()
    is_over = len(shown) <= MAX_COOKIES
    if not is_over:
        so_far.is_certain = False
    for ticket in shown[:MAX_COOKIES]:
        try:
            if ticket is None:
                raise SignOutUnconfirmedError
            ended = None if tickets is None else await tickets.end_by_ticket(ticket)
        except SignOutUnconfirmedError:
            is_over = so_far.is_certain = False
            continue
        so_far.ended += int(ended or False)
        is_over = is_over and ended is not None
    if shown and is_over:
        reply.forget_ending_ticket()


async def _end_presented(manager: TokenManager, request: Mapping[str, Any], so_far: _SoFar) -> None:
    """End the session of the request; where it shows several cookies, or what cannot be read, all that can be."""
    state, reply = request_state(request), reply_of(request)
    caller, refusal = state.authentication, state.refusal
    if caller is not None:
        so_far.ended += await manager.revoke_token(token_id=caller.auth_id, auth_user_id=caller.user_identifier)
    elif refusal is TokenRefusal.NOT_A_TOKEN:
        tokens = reply.tokens_in_cookies()
        if tokens is None or len(tokens) > MAX_COOKIES:
            so_far.is_certain = False
        answers = [await _end_one(manager, token, so_far) for token in (tokens or ())[:MAX_COOKIES]]
        if answers and all(answers) and so_far.is_certain:
            reply.note_ours()
    elif refusal is not None:
        shown = presented_credential(request["headers"], None if reply.cookie is None else reply.cookie.name)
        is_ours = await _end_one(manager, None if shown is None else shown.token, so_far)
        if is_ours and shown is not None and shown.in_cookie:
            reply.note_ours()


async def _end_one(manager: TokenManager, token: Token | None, so_far: _SoFar) -> bool:
    """End the session of a token whose secret is right, whatever else there is against it; whether it is right.

    A session that is past a deadline, or whose data are damaged, could be accepted again: after a use that was noted
    late, or with new scopes.
    """
    standing = TokenStanding(TokenRefusal.NOT_A_TOKEN) if token is None else await manager.examine_token(token)
    answer = standing.answer
    holder = answer if isinstance(answer, AuthenticationInfo) else standing.holder
    if holder is not None:
        so_far.ended += await manager.revoke_token(token_id=holder.auth_id, auth_user_id=holder.user_identifier)
        return True
    if answer in {TokenRefusal.NOT_A_TOKEN, TokenRefusal.UNKNOWN_PEPPER}:
        so_far.is_certain = False
    return isinstance(answer, TokenRefusal) and answer.is_for_the_holder
