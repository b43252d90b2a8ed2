"""Cookies that come to the wrong application, and what is said of them in the log.

Browsers keep one cookie of a name for a host: for all of its paths, and on localhost for all ports. Two applications
that use one name overwrite each other's cookie at each sign-in, and no answer of either can prevent that. So the
developer is told, once for each middleware.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from weakref import WeakSet

from coatcheck.tokens import TokenRefusal
from coatcheck.web.http.credentials import MAX_COOKIE_LENGTH

if TYPE_CHECKING:
    from coatcheck.web.auth_services import HasTokenManager
    from coatcheck.web.http.cookie import RequestCookie, SessionCookie

_log = logging.getLogger(__name__)


class CookieWatch:
    """Notes the cookies that one middleware could not use. It is asked where a cookie was refused, and nowhere else."""

    def __init__(self, auth: HasTokenManager, settings: SessionCookie) -> None:
        """Watch over the cookie with these settings, whose tokens `auth` knows."""
        self._auth = auth
        self._name = settings.name
        self._has_warned_of_name = False
        self._has_warned_of_length = False
        _watches.add(self)

    def note_refused(self, cookie: RequestCookie, refusal: TokenRefusal) -> None:
        """Warn if the refused cookie may well be another application's.

        A cookie that cannot be a token is reported on localhost only: elsewhere nobody but a client that invents it
        sends one with our `__Host-` name, and what cannot be a token costs no line in a log.
        """
        if self._has_warned_of_name or refusal.is_for_the_holder:
            return
        name = cookie.name.decode("ascii")
        if refusal is not TokenRefusal.NOT_A_TOKEN:
            if not any(other is not self and self._clashes_with(other) for other in _watches):
                return
            _log.warning(
                "two applications in this process use the session cookie %r; if they are on one host, each sign-in "
                "overwrites the other's: give each a name of its own, as in SessionCookie(name='wiki')",
                name,
            )
        elif cookie.is_local:
            _log.warning(
                "the cookie %r on localhost is not from this application; cookies know no ports, so another "
                "application on this machine may use the name, and each sign-in overwrites the other's: give this one "
                "a name of its own, as in SessionCookie(name='wiki')",
                name,
            )
        else:
            return
        self._has_warned_of_name = True

    def note_too_long(self) -> None:
        """Say once that a browser sends more cookies than are looked at."""
        if not self._has_warned_of_length:
            self._has_warned_of_length = True
            _log.warning(
                "a request has more than %d bytes of cookies, so the session cookie among them is not read; it is "
                "answered with 431 where the application asks who is calling",
                MAX_COOKIE_LENGTH,
            )

    def _clashes_with(self, other: CookieWatch) -> bool:
        return other._name == self._name and other._auth is not self._auth


_watches: WeakSet[CookieWatch] = WeakSet()
"""Those of all middlewares in this process."""
