"""The answers to refused requests: a page for people, a problem (RFC 9457) for programs."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from coatcheck import (
    AuthenticationRequiredError,
    AuthorizationError,
    InsufficientScopeError,
    RevocationIndeterminate,
    SignOutUnconfirmedError,
    StoreUnavailable,
)
from coatcheck.web import is_cross_site, reason_of, request_state, sign_in_location
from coatcheck.web.fastapi import exception_handlers as problem_handlers
from devices import INACTIVITY_TIMEOUT, SESSION_LIFETIME
from rendering import page

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request
    from starlette.responses import Response

WHY_IT_ENDED = {
    "expired": f"Your session has run out, {SESSION_LIFETIME.days} days after you signed in.",
    "inactive": f"Your session has ended, as this device was not used for {INACTIVITY_TIMEOUT.days} days.",
    "unknown": "Your session has ended.",  # the browser has no cookie any more
    "no-cookie": "Your browser blocks the cookies of this site. Allow them, or you cannot stay signed in.",
    # The row is gone: it was revoked, or ran out some time ago.
    "revoked": "This device was signed out: its session was ended from another of your devices or in another tab, "
    "or ran out some time ago. Was that not you? Sign in and look at My devices.",
}
"""The text of the sign-in page when a session has ended by itself, by the `reason` in its URL."""


async def sign_in_first(request: Request, error: AuthenticationRequiredError) -> Response:
    """Redirect to the sign-in page, with the way back and the text of a note that was being written."""
    if _is_for_programs(request):
        return await problem_handlers[AuthorizationError](request, error)
    page_of_the_form = "/" + request.url.path.split("/")[1]
    unsaved = await _unsaved_note(request)
    if unsaved is None:
        back_to = None if request.method in {"GET", "HEAD"} else page_of_the_form
        return RedirectResponse(sign_in_location(request, back_to=back_to), HTTPStatus.SEE_OTHER)
    reason = reason_of(request_state(request).refusal)
    return page(
        request,
        "sign_in.html",
        status=HTTPStatus.UNAUTHORIZED,
        reason=None if reason is None else WHY_IT_ENDED[reason],
        done=None,
        next=page_of_the_form,
        unsaved=unsaved,
        email="",
        problem=None,
    )


async def not_allowed(request: Request, error: InsufficientScopeError) -> Response:
    """Explain what this device may not do."""
    if _is_for_programs(request):
        return await problem_handlers[AuthorizationError](request, error)
    return page(
        request,
        "not_allowed.html",
        status=HTTPStatus.FORBIDDEN,
        missing=error.missing,
        unsaved=await _unsaved_note(request),
    )


async def unavailable(request: Request, error: StoreUnavailable) -> Response:
    """Ask to try again. An outage of the database signs nobody out, and a sign-out can be sent again."""
    problem = await problem_handlers[StoreUnavailable](request, error)
    if _is_for_programs(request):
        return problem
    return page(
        request,
        "unavailable.html",
        status=problem.status_code,
        headers={"Retry-After": problem.headers["Retry-After"]},
        was_ending_sessions=isinstance(error, RevocationIndeterminate) or request.url.path == "/sign-out",
        was_sent=request.method not in {"GET", "HEAD"},
    )


async def perhaps_not_signed_out(request: Request, error: SignOutUnconfirmedError) -> Response:
    """Say that a session may still be signed in, and what ends it for certain."""
    problem = await problem_handlers[AuthorizationError](request, error)
    if _is_for_programs(request):
        return problem
    return page(
        request,
        "refused.html",
        status=problem.status_code,
        status_code=problem.status_code,
        detail="This browser is signed out, but an earlier session of it may still be signed in. To be sure, sign in "
        "and sign out everywhere, in My devices.",
    )


async def no_such_page(request: Request, error: HTTPException) -> Response:
    """A page for 404, and for everything else that the framework refuses."""
    if _is_for_programs(request):
        return await http_exception_handler(request, error)
    detail = error.detail if error.detail != HTTPStatus(error.status_code).phrase else None
    return page(
        request,
        "refused.html",
        status=error.status_code,
        headers=error.headers,
        status_code=error.status_code,
        detail=detail,
    )


async def not_understood(request: Request, error: RequestValidationError) -> Response:
    """A 404 for a URL that is not valid. A form cannot be the reason: all of its fields may be missing."""
    if _is_for_programs(request):
        return await request_validation_exception_handler(request, error)
    return await no_such_page(request, HTTPException(HTTPStatus.NOT_FOUND))


handlers: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    AuthenticationRequiredError: sign_in_first,
    InsufficientScopeError: not_allowed,
    SignOutUnconfirmedError: perhaps_not_signed_out,
    StoreUnavailable: unavailable,
    HTTPException: no_such_page,
    RequestValidationError: not_understood,
}


def _is_for_programs(request: Request) -> bool:
    return request.url.path.startswith("/api/")


async def _unsaved_note(request: Request) -> str | None:
    """The text of the note in a form of ours that was refused. Another site's text is not to become this person's."""
    if (request.method, request.url.path) != ("POST", "/notes") or is_cross_site(request):
        return None
    text = (await request.form()).get("text")
    return text if isinstance(text, str) and text.strip() else None
