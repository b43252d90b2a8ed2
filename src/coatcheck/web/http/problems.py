"""The answers to requests that are refused: RFC 9457 problems, with RFC 6750 challenges where they apply.

| code | status | when |
|---|---|---|
| `authentication_required` | 401 | no token was sent |
| `invalid_token` | 401 | a token was sent, and it does not validate; `reason` only for the holder of its secret |
| `insufficient_scope` | 403 | the session lacks a scope |
| `cross_site_request` | 403 | another site's page sent an unsafe request with the session cookie |
| `sign_in_while_authenticated` | 409 | the caller is signed in as somebody else |
| `sign_in_superseded` | 409 | all sessions of the user were ended during the sign-in; check the credentials again |
| `sign_in_refused` | 403 | the user is blocked or does not exist: which of the two is not said |
| `user_source_unavailable` | 503 | the application's users cannot be looked up in time; nobody was signed in |
| `sign_out_unconfirmed` | 409 | what was sent for a sign-out could not all be read: a session may still live |
| `store_unavailable` | 503 | the store cannot answer; nobody is signed out by this |
| `revocation_indeterminate` | 503 | a revocation could not be confirmed: the session may still live, repeat it |
| `session_not_found` | 404 | no session of the caller's has this id |
| `too_many_cookies` | 431 | the session cookie was not read among so many; nobody is signed out by this |
| `not_acceptable` | 406 | the client did not ask for the event stream that there is |
| `invalid_request` | 400 | a parameter is wrong; `detail` says which and what is allowed |

A client gives up its token on 401 with `invalid_token` and on nothing else.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from coatcheck.errors import (
    AuthenticationRequiredError,
    CrossSiteRequestError,
    InsufficientScopeError,
    InvalidArgumentError,
    RevocationIndeterminate,
    SignInError,
    SignInSupersededError,
    SignInWhileAuthenticatedError,
    SignOutUnconfirmedError,
    StoreUnavailable,
    TooManyCookiesError,
    UserBlockedError,
    UserSourceUnavailable,
)
from coatcheck.scope import Scope
from coatcheck.tokens import TokenRefusal

if TYPE_CHECKING:
    from typing import TypeAlias

    AnswerableError: TypeAlias = (
        AuthenticationRequiredError
        | InsufficientScopeError
        | CrossSiteRequestError
        | TooManyCookiesError
        | SignOutUnconfirmedError
        | SignInError
        | StoreUnavailable
    )

ANSWERABLE_ERRORS = (
    AuthenticationRequiredError,
    InsufficientScopeError,
    CrossSiteRequestError,
    TooManyCookiesError,
    SignOutUnconfirmedError,
    SignInWhileAuthenticatedError,
    SignInSupersededError,
    UserBlockedError,
    StoreUnavailable,
)
"""The errors that have an answer of their own wherever they are raised, so that an application may let them escape.

`UserNotFoundError` is not among them: outside of a sign-in, as in a page for operators, it says nothing of the caller.
"""

MAX_RETRY_AFTER_S = 10
"""Seconds within which clients are spread after an outage."""

_MEDIA_TYPE = b"application/problem+json"
# RFC 6750 section 3: the scheme "MUST be followed by one or more auth-param values"; a bare "Bearer" is not enough.
_CHALLENGE = b'Bearer realm="session"'
_ENDED = {
    TokenRefusal.EXPIRED: "The session has expired.",
    TokenRefusal.INACTIVE: "The session has ended because it was not used for too long.",
}
# The first kind that fits. The answer to a refused sign-in names no user, and comes after the credentials were checked.
_PLAIN: tuple[tuple[type[Exception], HTTPStatus, str, str], ...] = (
    (CrossSiteRequestError, HTTPStatus.FORBIDDEN, "cross_site_request", "This request came from another site."),
    (
        TooManyCookiesError,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "too_many_cookies",
        "The browser sends too many cookies to this site. Remove some of them and repeat the request.",
    ),
    (
        SignInWhileAuthenticatedError,
        HTTPStatus.CONFLICT,
        "sign_in_while_authenticated",
        "Another user is signed in here. Sign out first.",
    ),
    (
        SignInSupersededError,
        HTTPStatus.CONFLICT,
        "sign_in_superseded",
        "All sessions of this user were ended during the sign-in. Sign in again.",
    ),
    (SignInError, HTTPStatus.FORBIDDEN, "sign_in_refused", "This account cannot be signed in."),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A complete HTTP answer. `headers` are as ASGI wants them, `body` is a JSON object with the member `code`."""

    status: int
    """The HTTP status."""
    code: str
    """Stable, for programs."""
    headers: tuple[tuple[bytes, bytes], ...]
    """The headers, as ASGI wants them."""
    body: bytes
    """A JSON object."""

    @property
    def close_code(self) -> int:
        """The WebSocket close code that says the same: 4401 for 401 and so on, 1013 ("try again later") for 503."""
        return 1013 if self.status == HTTPStatus.SERVICE_UNAVAILABLE else 4000 + self.status


def problem_of(
    error: AnswerableError, *, refusal: TokenRefusal | None = None, retry_after_s: int = MAX_RETRY_AFTER_S
) -> Problem:
    """The answer to a request that ended in `error`.

    `refusal` says why the token that was sent does not validate, None if none was sent. `retry_after_s` is the
    number of whole seconds after which a 503 may be repeated; take `jittered_retry_after_s()`.
    """
    if isinstance(error, StoreUnavailable):
        return _unavailable(error, retry_after_s)
    if isinstance(error, InsufficientScopeError):
        return _insufficient_scope(error)
    if isinstance(error, SignOutUnconfirmedError):
        return _problem(
            HTTPStatus.CONFLICT,
            "sign_out_unconfirmed",
            "Not all that this browser or program has sent can be read here, so a session may still be signed in. To "
            "be sure, sign in and sign out on all devices.",
            members={"ended": error.ended},
        )
    for kind, status, code, detail in _PLAIN:
        if isinstance(error, kind):
            return _problem(status, code, detail)
    if refusal is None:
        return _problem(
            HTTPStatus.UNAUTHORIZED, "authentication_required", "This needs a signed-in caller.", challenge=_CHALLENGE
        )
    return _invalid_token(refusal)


def session_not_found() -> Problem:
    """The answer to a request for a session that is not the caller's. Whether it is somebody else's is not said."""
    return _problem(HTTPStatus.NOT_FOUND, "session_not_found", "You have no session with this id.")


def invalid_request(error: InvalidArgumentError) -> Problem:
    """The answer to a request with a wrong parameter."""
    return _problem(HTTPStatus.BAD_REQUEST, "invalid_request", str(error))


def event_stream_not_asked_for() -> Problem:
    """The answer to a request for the events route that did not ask for an event stream."""
    return _problem(
        HTTPStatus.NOT_ACCEPTABLE, "not_acceptable", "This is an event stream: send Accept: text/event-stream."
    )


def jittered_retry_after_s() -> int:
    """Whole seconds from 1 to 10, at random: clients that failed together do not come back together."""
    return 1 + secrets.randbelow(MAX_RETRY_AFTER_S)


def _invalid_token(refusal: TokenRefusal) -> Problem:
    challenge = _CHALLENGE + b', error="invalid_token"'
    if refusal.is_for_the_holder:
        return _problem(
            HTTPStatus.UNAUTHORIZED,
            "invalid_token",
            _ENDED[refusal],
            challenge=challenge,
            members={"reason": refusal.value},
        )
    # One and the same for unknown, wrong secret and malformed: nothing is said about sessions to those without one.
    return _problem(HTTPStatus.UNAUTHORIZED, "invalid_token", "The session token is not valid.", challenge=challenge)


def _insufficient_scope(error: InsufficientScopeError) -> Problem:
    # An application may raise the error with any text. Text that is no scope could break out of the quotes.
    required = " ".join(filter(_is_scope, error.required))
    challenge = _CHALLENGE + b', error="insufficient_scope"'
    if required:
        challenge += b', scope="' + required.encode("ascii") + b'"'
    return _problem(
        HTTPStatus.FORBIDDEN,
        "insufficient_scope",
        "The session does not have the scopes this needs.",
        challenge=challenge,
        members={"missing_scopes": [scope for scope in error.missing if _is_scope(scope)]},
    )


def _unavailable(error: StoreUnavailable, retry_after_s: int) -> Problem:
    if isinstance(error, RevocationIndeterminate):
        code, detail = "revocation_indeterminate", "Whether the session has ended is not known; repeat the request."
    elif isinstance(error, UserSourceUnavailable):
        code, detail = "user_source_unavailable", "Users cannot be looked up right now; repeat the request later."
    else:
        code, detail = "store_unavailable", "Sessions cannot be looked up right now; repeat the request later."
    return _problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, retry_after_s=retry_after_s)


def _problem(
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    challenge: bytes | None = None,
    retry_after_s: int | None = None,
    members: dict[str, object] | None = None,
) -> Problem:
    """Put an answer together. Without `type`, a problem's title is its status phrase (RFC 9457 section 4.2.1)."""
    content = {"title": status.phrase, "status": status.value, "detail": detail, "code": code, **(members or {})}
    body = json.dumps(content, separators=(",", ":")).encode("ascii")
    headers = [
        (b"content-type", _MEDIA_TYPE),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"cache-control", b"no-store"),
    ]
    if challenge is not None:
        headers.append((b"www-authenticate", challenge))
    if retry_after_s is not None:
        headers.append((b"retry-after", str(int(retry_after_s)).encode("ascii")))
    return Problem(status.value, code, tuple(headers), body)


def _is_scope(text: str) -> bool:
    try:
        Scope(text)
    except InvalidArgumentError:
        return False
    return True
