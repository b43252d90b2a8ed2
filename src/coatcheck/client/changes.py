"""The changes that a program is told of when somebody signs in or out, and opening the login page."""

from __future__ import annotations

import logging
import webbrowser
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from coatcheck.tokens import AuthSuccess

_log = logging.getLogger("coatcheck.client")


class SignOutReason(Enum):
    """The reason why nobody is signed in here any more."""

    EXPIRED = "expired"
    """The session's absolute deadline has passed."""

    INACTIVE = "inactive"
    """The session was not used for too long."""

    REVOKED = "revoked"
    """The session was ended: on another device, by an operator, or long ago."""

    SIGNED_OUT = "signed-out"
    """This program has signed out."""

    ELSEWHERE = "elsewhere"
    """Another process or thread that uses the same storage has signed out."""

    UNKNOWN = "unknown"
    """Nobody can say: the server was shown no cookie, which this program may have dropped at its deadline."""

    @property
    def is_the_servers(self) -> bool:
        """Whether the server has ended the session, so that the user has to sign in again."""
        return self not in {SignOutReason.SIGNED_OUT, SignOutReason.ELSEWHERE}


@dataclass(frozen=True, slots=True)
class AuthChange:
    """The session from now on. With `auth_info` None nobody is signed in, and `reason` says why."""

    auth_info: AuthSuccess | None
    """The session; None: nobody is signed in."""
    reason: SignOutReason | None = None
    """Why nobody is; None: somebody is."""


@dataclass(frozen=True, slots=True)
class SignInRequired:
    """The server has ended the session. `login_url` is the page to sign in again; None if none is configured."""

    reason: SignOutReason
    """Why the session has ended."""
    login_url: str | None
    """The page to sign in again; None: none is configured."""


def login_url_for(login_url: str, reason: SignOutReason) -> str:
    """The URL of the login page, with the reason in its query."""
    parts = urlsplit(login_url)
    query = "&".join(filter(None, [parts.query, urlencode({"reason": reason.value})]))
    return parts._replace(query=query).geturl()


def open_login_page(required: SignInRequired) -> None:
    """An `on_sign_in_required` that opens the login page in the system's browser, or logs its URL."""
    if required.login_url is None:
        _log.warning("the session has ended (%s); sign in again", required.reason.value)
    elif not webbrowser.open(required.login_url):
        _log.warning("the session has ended (%s); sign in again at %s", required.reason.value, required.login_url)
