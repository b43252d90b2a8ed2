"""The wishes that the response to a request has to fulfil, whatever the application answers: a cookie, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from coatcheck.errors import ConfigurationError, CrossSiteRequestError
from coatcheck.web.not_run import middleware_did_not_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from coatcheck.tokens import AuthSuccess
    from coatcheck.web.http.cookie import RequestCookie
    from coatcheck.web.http.request_facts import RequestFacts

REPLY_KEY = "coatcheck.reply"
"""The key of the ASGI scope under which the middleware leaves a `Reply`."""

MODE_HEADER = b"coatcheck-mode"
"""The header by which a client asks for its token in a cookie: `Coatcheck-Mode: cookie`."""

Mode: TypeAlias = Literal["header", "cookie"]
"""How a client carries its token."""


class Reply:
    """The exchange fulfils these wishes when the response begins, an error included.

    `cookie` is the session cookie as the request has it, None where no cookie is used. `set_cookie` is the Set-Cookie
    value, None if the browser's cookie stays as it is.
    """

    __slots__ = ("_token_in_cookie", "cookie", "hands_out_token", "set_cookie")

    def __init__(
        self, cookie: RequestCookie | None = None, *, token_in_cookie: bool = False, is_refused: bool = False
    ) -> None:
        """Begin with no wish, or with that of a browser to be rid of the cookie of a session that is over.

        `token_in_cookie` says that the request has shown its token in the cookie, `is_refused` that it was refused.
        """
        self.cookie = cookie
        self.hands_out_token = False
        self.set_cookie: bytes | None = None
        self._token_in_cookie = token_in_cookie
        # Only where a browser opens a page. A script's request may still be on its way with the old cookie while a
        # sign-in in another tab brings the new one, and would take that one away: browsers know no "delete if it is
        # this one".
        if is_refused and token_in_cookie and cookie is not None and cookie.facts.opens_page:
            self.forget_cookie()

    def mode(self, facts: RequestFacts, wanted: Mode | None = None) -> Mode:
        """How the client is to get a token: as `wanted`, else in a cookie where it asks for one and there is one.

        Raises:
            ConfigurationError: a cookie is `wanted`, and the middleware was given none.
        """
        if wanted is None:
            asks_for_cookie = self.cookie is not None and facts.only_value_of(MODE_HEADER) == "cookie"
            return "cookie" if asks_for_cookie else "header"
        if wanted == "cookie" and self.cookie is None:
            raise ConfigurationError('mode "cookie" needs SessionMiddleware(..., cookie=SessionCookie())')
        return wanted

    def check_may_hand_out(self, mode: Mode) -> None:
        """Check that a token may be handed out in this way, before one is made.

        Raises:
            CrossSiteRequestError: another site's page would sign this browser in (login CSRF).
            ConfigurationError: the cookie cannot be set over this connection.
        """
        if mode == "cookie" and self.cookie is not None:
            if self.cookie.is_forged:
                raise CrossSiteRequestError
            self.cookie.check_may_be_set()

    def hand_out(self, success: AuthSuccess, mode: Mode) -> None:
        """Have the response carry the token in the cookie, or at least be kept out of caches.

        Raises:
            CrossSiteRequestError, ConfigurationError: as `check_may_hand_out`.
        """
        self.check_may_hand_out(mode)
        self.hands_out_token = True
        if mode == "cookie" and self.cookie is not None:
            self.set_cookie = self.cookie.carrying(success)

    def forget_cookie(self) -> None:
        """Have the browser forget the session cookie, unless the response brings a new one.

        Does nothing where the token did not come in the cookie.
        """
        if self.cookie is not None and self._token_in_cookie and self.set_cookie is None:
            self.set_cookie = self.cookie.expired()


def reply_of(connection: Mapping[str, Any]) -> Reply:
    """The reply the middleware left in an ASGI scope, or in a Starlette `Request` around one.

    Raises:
        ConfigurationError: `SessionMiddleware` did not run for this request.
    """
    reply = connection.get(REPLY_KEY)
    if not isinstance(reply, Reply):
        raise middleware_did_not_run()
    return reply
