"""What a program is told when somebody signs in or out, and the way to the login page."""

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
    """Why nobody is signed in here any more."""

    EXPIRED = "expired"
    """The session's absolute deadline has passed."""

    INACTIVE = "inactive"
    """The session was not used for too long."""

    REVOKED = "revoked"
    """The session was ended: on another device, by an operator, or long ago."""

    SIGNED_OUT = "signed-out"
    """This program has signed out."""

    ELSEWHERE = "elsewhere"
    """Another process or thread has signed out what both keep in one storage."""

    @property
    def is_the_servers(self) -> bool:
        """Whether the server has ended the session, so that somebody has to sign in again."""
        return self in {SignOutReason.EXPIRED, SignOutReason.INACTIVE, SignOutReason.REVOKED}


@dataclass(frozen=True, slots=True)
class AuthChange:
    """Who is signed in from now on; `auth_info` None: nobody, and `reason` says why."""

    auth_info: AuthSuccess | None
    reason: SignOutReason | None = None


@dataclass(frozen=True, slots=True)
class SignInRequired:
    """The server has ended the session. `login_url` is where to sign in again, None where none is configured."""

    reason: SignOutReason
    login_url: str | None


def login_url_for(login_url: str, reason: SignOutReason) -> str:
    """The login page, told why it is opened."""
    parts = urlsplit(login_url)
    query = "&".join(filter(None, [parts.query, urlencode({"reason": reason.value})]))
    return parts._replace(query=query).geturl()


def open_login_page(required: SignInRequired) -> None:
    """An `on_sign_in_required` that opens the login page in the system's browser, or logs where it is."""
    if required.login_url is None:
        _log.warning("the session is over (%s); sign in again", required.reason.value)
    elif not webbrowser.open(required.login_url):
        _log.warning("the session is over (%s); sign in again at %s", required.reason.value, required.login_url)
