"""Which answers of a server say something about the session, and what. Pure: nothing is sent or stored here."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from coatcheck.client.changes import SignOutReason
from coatcheck.errors import UnexpectedAnswerError

if TYPE_CHECKING:
    import httpx

MAX_PROBLEM_BYTES = 64 * 1024
"""Of a refusal that is read. Ours have some two hundred."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether two URLs are of one scheme, host and port (RFC 6454)."""
    return _origin(one) == _origin(other)


def may_be_ours(response: httpx.Response, origin: httpx.URL) -> bool:
    """Whether a response can be our word that a session is over, as far as its head says."""
    return (
        response.status_code == HTTPStatus.UNAUTHORIZED
        and same_origin(response.url, origin)
        and _media_type(response) == "application/problem+json"
        and _length(response) <= MAX_PROBLEM_BYTES
    )


def reason_in(response: httpx.Response, *, in_cookie: bool) -> SignOutReason | None:
    """Why the session is over, from a response that `may_be_ours` and was read; None if it does not say so.

    With the token in a cookie, "no token was sent" is as definite: the cookie is gone.
    """
    problem = _json(response)
    if not isinstance(problem, dict):
        return None
    code = problem.get("code")
    if code != "invalid_token" and not (in_cookie and code == "authentication_required"):
        return None
    return _reason(problem.get("reason"))


def status_in(response: httpx.Response, origin: httpx.URL) -> SignOutReason | None:
    """Why nobody is signed in, from the answer of the status route; None if somebody is.

    Raises:
        UnexpectedAnswerError: it is no answer of the status route, so nothing is known.
    """
    status = _json(response)
    if (
        response.status_code != HTTPStatus.OK
        or not same_origin(response.url, origin)
        or not isinstance(status, dict)
        or not isinstance(status.get("signed_in"), bool)
    ):
        raise UnexpectedAnswerError(response.url.path, response.status_code)
    return None if status["signed_in"] else _reason(status.get("reason"))


def confirms_sign_out(response: httpx.Response, origin: httpx.URL) -> bool:
    """Whether a sign-out route says that it is done."""
    answer = _json(response)
    is_ours = response.status_code == HTTPStatus.OK and same_origin(response.url, origin)
    return is_ours and isinstance(answer, dict) and isinstance(answer.get("ended"), int)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or _DEFAULT_PORTS.get(url.scheme)


def _media_type(response: httpx.Response) -> str:
    value: str = response.headers.get("content-type", "")
    return value.partition(";")[0].strip().lower()


def _length(response: httpx.Response) -> int:
    """The announced length; 0 where none is, as when a proxy compresses."""
    text = response.headers.get("content-length", "0")
    return int(text) if text.isdecimal() else 0


def _json(response: httpx.Response) -> object:
    try:
        value: object = response.json()
    except ValueError:
        return None
    return value


def _reason(word: object) -> SignOutReason:
    return {"expired": SignOutReason.EXPIRED, "inactive": SignOutReason.INACTIVE}.get(str(word), SignOutReason.REVOKED)
