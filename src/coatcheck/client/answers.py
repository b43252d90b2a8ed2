"""Reading a server's answers about the session. Pure functions: nothing is sent or stored here."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from coatcheck.client.changes import SignOutReason
from coatcheck.errors import UnexpectedAnswerError

if TYPE_CHECKING:
    import httpx2

_DEFAULT_PORTS = {"http": 80, "https": 443}


def same_origin(one: httpx2.URL, other: httpx2.URL) -> bool:
    """Whether two URLs have the same scheme, host and port (RFC 6454)."""
    return _origin(one) == _origin(other)


def may_be_ours(response: httpx2.Response, origin: httpx2.URL) -> bool:
    """Whether a response can be the server's message that the session has ended, as far as its head shows."""
    return (
        response.status_code == HTTPStatus.UNAUTHORIZED
        and same_origin(response.url, origin)
        and _media_type(response) == "application/problem+json"
    )


def is_event_stream(response: httpx2.Response, origin: httpx2.URL) -> bool:
    """Whether a response is a stream of events from the server at `origin`."""
    is_ours = response.status_code == HTTPStatus.OK and same_origin(response.url, origin)
    return is_ours and _media_type(response) == "text/event-stream"


def reason_in(body: bytes | None, *, in_cookie: bool) -> SignOutReason | None:
    """The reason why the session has ended, from the body of a response that `may_be_ours`; None if it has not.

    In cookie mode "no token was sent" also means that the session has ended: the cookie is gone.
    """
    problem = _json(body)
    if not isinstance(problem, dict):
        return None
    code = problem.get("code")
    if code != "invalid_token" and not (in_cookie and code == "authentication_required"):
        return None
    if code == "authentication_required":
        return SignOutReason.UNKNOWN
    return _reason(problem.get("reason"), otherwise=SignOutReason.REVOKED)


def status_in(response: httpx2.Response, origin: httpx2.URL) -> SignOutReason | None:
    """The reason why nobody is signed in, from the answer of the status route; None if somebody is.

    Raises:
        UnexpectedAnswerError: the answer is not that of the status route, so it says nothing about the session.
    """
    status = _json(response.content)
    if (
        response.status_code != HTTPStatus.OK
        or not same_origin(response.url, origin)
        or not isinstance(status, dict)
        or not isinstance(status.get("signed_in"), bool)
    ):
        raise UnexpectedAnswerError(response.url.path, response.status_code)
    if status["signed_in"]:
        return None
    return _reason(status.get("reason"), otherwise=SignOutReason.UNKNOWN)


def confirms_sign_out(response: httpx2.Response, origin: httpx2.URL) -> bool:
    """Whether the answer of a sign-out route confirms the sign-out."""
    answer = _json(response.content)
    is_ours = response.status_code == HTTPStatus.OK and same_origin(response.url, origin)
    return is_ours and isinstance(answer, dict) and isinstance(answer.get("ended"), int)


def _origin(url: httpx2.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port or _DEFAULT_PORTS.get(url.scheme)


def _media_type(response: httpx2.Response) -> str:
    value: str = response.headers.get("content-type", "")
    return value.partition(";")[0].strip().lower()


def _json(body: bytes | None) -> object:
    try:
        value: object = None if body is None else json.loads(body)
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        return None
    return value


def _reason(word: object, *, otherwise: SignOutReason) -> SignOutReason:
    told = {reason.value: reason for reason in (SignOutReason.EXPIRED, SignOutReason.INACTIVE, SignOutReason.REVOKED)}
    return told.get(str(word), otherwise)
