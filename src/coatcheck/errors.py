"""Every exception of the library, as a tree.

    CoatcheckError
    ├── ConfigurationError              a setting is wrong; names it and what is allowed
    ├── InvalidArgumentError            a value given to a call is wrong; names it and what is allowed
    ├── NotOpenError                    the pod or store is used outside `async with`
    │   └── OpenElsewhereError              it is open in another event loop or process, or is opened twice
    ├── SignInError                     a sign-in is refused
    │   ├── UserNotFoundError           there is no such user
    │   ├── UserBlockedError            the user is blocked
    │   ├── SignInWhileAuthenticatedError   the caller is signed in as somebody else
    │   └── SignInSupersededError       the user's sessions were ended while this sign-in was under way
    ├── AuthorizationError              a request is refused (raised by the web layer)
    │   ├── AuthenticationRequiredError     no valid session: HTTP 401
    │   ├── InsufficientScopeError          a valid session without a required scope: HTTP 403
    │   ├── CrossSiteRequestError           another site's page sent this with the session cookie: HTTP 403
    │   ├── TooManyCookiesError             the session cookie was not read among so many: HTTP 431
    │   └── SignOutUnconfirmedError         what was sent for a sign-out could not all be read: HTTP 409
    ├── ClientError                     something on the client's side (raised by coatcheck.client)
    │   ├── UnexpectedAnswerError           the answer is not that of the server's session route
    │   └── StorageError                    the client's storage cannot be read or written
    └── StoreUnavailable                the store cannot answer: HTTP 503, never 401
        ├── UserSourceUnavailable       the application's user source does not answer: HTTP 503
        └── RevocationIndeterminate     a revocation may or may not have happened: treat as not done, retry

A token that does not validate is not an exception: `validate_token` returns None.
No message of any of these ever holds a token, a secret, a pepper or a hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AuthenticationRequiredError",
    "AuthorizationError",
    "ClientError",
    "CoatcheckError",
    "ConfigurationError",
    "CrossSiteRequestError",
    "InsufficientScopeError",
    "InvalidArgumentError",
    "NotOpenError",
    "OpenElsewhereError",
    "RevocationIndeterminate",
    "SignInError",
    "SignInSupersededError",
    "SignInWhileAuthenticatedError",
    "SignOutUnconfirmedError",
    "StorageError",
    "StoreUnavailable",
    "TooManyCookiesError",
    "UnexpectedAnswerError",
    "UserBlockedError",
    "UserNotFoundError",
    "UserSourceUnavailable",
]


class CoatcheckError(Exception):
    """The root of every error this library raises on purpose."""


class ConfigurationError(CoatcheckError, ValueError):
    """A setting is missing or wrong. The message names the setting and what is allowed."""


class InvalidArgumentError(CoatcheckError, ValueError):
    """A value given to a call is wrong. The message names the value and what is allowed."""


class NotOpenError(CoatcheckError, RuntimeError):
    """The pod or the store was used before it was opened or after it was closed."""


class OpenElsewhereError(NotOpenError):
    """The pod is open already, or in another event loop or process. Nothing was done, and nothing was sent."""


class SignInError(CoatcheckError):
    """A sign-in is refused; nothing was stored."""


class UserNotFoundError(SignInError, LookupError):
    """There is no user with this id."""

    def __init__(self, user_id: str) -> None:
        super().__init__(f"there is no user with the id {user_id!r}")
        self.user_id = user_id


class UserBlockedError(SignInError):
    """The user is blocked and may not sign in."""

    def __init__(self, user_id: str) -> None:
        super().__init__(f"the user {user_id!r} is blocked and may not sign in")
        self.user_id = user_id


class SignInWhileAuthenticatedError(SignInError):
    """The caller is signed in and asked for a token of another user."""

    def __init__(self) -> None:
        super().__init__("a signed-in caller may only be issued a token of their own; sign out first")


class SignInSupersededError(SignInError):
    """All sessions of the user were ended after this sign-in's credentials were checked; check them again."""

    def __init__(self, user_id: str) -> None:
        super().__init__(
            f"all sessions of the user {user_id!r} were ended while this sign-in was under way; "
            "check the credentials again and repeat the sign-in"
        )
        self.user_id = user_id


class AuthorizationError(CoatcheckError):
    """A request is refused: it has no session or lacks a scope, comes from another site, or cannot be read."""


class AuthenticationRequiredError(AuthorizationError):
    """The request carries no valid session (HTTP 401)."""

    def __init__(self) -> None:
        super().__init__("this request needs a signed-in caller")


class InsufficientScopeError(AuthorizationError):
    """The session is valid but lacks a required scope (HTTP 403).

    `missing` holds the scopes that it lacks, `required` all scopes that the resource needs (RFC 6750 section 3). Both
    are sorted.
    """

    def __init__(self, missing: Iterable[str], *, required: Iterable[str] | None = None) -> None:
        self.missing: tuple[str, ...] = tuple(sorted(missing))
        self.required: tuple[str, ...] = self.missing if required is None else tuple(sorted(required))
        super().__init__(f"the session lacks the scope(s) {', '.join(self.missing)}")


class CrossSiteRequestError(AuthorizationError):
    """Another origin's page sent this request, so its cookie says nothing about the sender's will (HTTP 403)."""

    def __init__(self) -> None:
        super().__init__("the request came from another site")


class TooManyCookiesError(AuthorizationError):
    """The session cookie is among more bytes of cookies than are read (HTTP 431). Nobody is signed out by it."""

    def __init__(self) -> None:
        super().__init__("the request has too many cookies for the session's to be read among them")


class SignOutUnconfirmedError(AuthorizationError):
    """A sign-out was sent something that cannot be read or checked here, so its session may still live (HTTP 409).

    `ended` is the number of sessions that have ended; those are over. Sending the same again changes nothing.
    """

    def __init__(self, ended: int = 0) -> None:
        super().__init__(
            "not all that was sent for this sign-out can be read or checked here, so a session may still live"
        )
        self.ended = ended


class StoreUnavailable(CoatcheckError):  # noqa: N818 (the name is part of the published design)
    """The store cannot answer right now. Nobody is signed out by this; over HTTP it is a 503 with Retry-After."""


class UserSourceUnavailable(StoreUnavailable):
    """The application's user source did not answer in time, so nobody was signed in."""


class RevocationIndeterminate(StoreUnavailable):
    """A revocation could not be confirmed: treat the sessions as still live and revoke again."""


class ClientError(CoatcheckError):
    """Something went wrong on the client's side. Nobody is signed out by it."""


class UnexpectedAnswerError(ClientError):
    """The answer is not that of the server's session route: an error page, a proxy, a captive portal.

    It says nothing about the session.
    """

    def __init__(self, path: str, status: int) -> None:
        super().__init__(f"the answer of {path} (HTTP {status}) is not that of a Coatcheck server")
        self.path = path
        self.status = status


class StorageError(ClientError, OSError):
    """The client's storage cannot be read or written. The message names the place."""
