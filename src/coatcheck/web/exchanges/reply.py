"""The wishes that the response to a request has to fulfil, whatever the application answers: a cookie, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from coatcheck.errors import ConfigurationError, CrossSiteRequestError
from coatcheck.tokens import AuthenticationInfo, TokenRefusal
from coatcheck.web.http.caching import may_be_shared, without_caching
from coatcheck.web.http.credentials import presented_credential, texts_in_cookies
from coatcheck.web.not_run import middleware_did_not_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from coatcheck.tokens import AuthSuccess, IssuesEndingTickets, Token
    from coatcheck.web.exchanges.verdict import Answer
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

    `cookie` is the session cookie as the request has it, None where no cookie is used. `has_wishes` says that there
    are any.
    """

    __slots__ = (
        "_clears_cookie",
        "_hands_out_token",
        "_is_ours",
        "_set_cookie",
        "_set_ticket",
        "cookie",
        "has_wishes",
    )

    def __init__(self, cookie: RequestCookie | None = None, token: Token | None = None, answer: Answer = None) -> None:
        """Begin with no wish, or with that of a browser to be rid of the cookie of a session that is over.

        `token` is what the request has shown in the cookie, None where it has shown none there; `answer` is what is
        known of it.
        """
        self.cookie: RequestCookie | None = cookie
        self.has_wishes: bool = False
        self._hands_out_token = False
        self._set_cookie: bytes | None = None
        self._set_ticket: bytes | None = None
        self._clears_cookie = False
        # A cookie of this name may be another application's: browsers keep one of a name for the whole host. It is
        # ours beyond doubt where its secret was right.
        self._is_ours = token is not None and isinstance(answer, AuthenticationInfo)
        if token is not None and isinstance(answer, TokenRefusal) and answer.is_for_the_holder:
            self._is_ours = True
            # Only where a browser opens a page. A script's request may still be on its way with the old cookie while
            # a sign-in in another tab brings the new one, and would take that one away: browsers know no "delete if
            # it is this one".
            self._clears_cookie = self.has_wishes = cookie is not None and cookie.facts.opens_page

    def mode(self, facts: RequestFacts, wanted: Mode | None = None) -> Mode:
        """How the client is to get a token: as `wanted`, else in a cookie where it asks for one and there can be one.

        Raises:
            ConfigurationError: a cookie is `wanted`, and the middleware was given none.
        """
        if wanted is None:
            can_have_cookie = self.cookie is not None and not facts.is_websocket
            asks_for_cookie = can_have_cookie and facts.only_value_of(MODE_HEADER) == "cookie"
            return "cookie" if asks_for_cookie else "header"
        if wanted == "cookie" and self.cookie is None:
            raise ConfigurationError('mode "cookie" needs SessionMiddleware(..., cookie=SessionCookie())')
        return wanted

    def check_may_hand_out(self, mode: Mode, from_origins: Iterable[str] = ()) -> None:
        """Check that a token may be handed out in this way, before one is made.

        `from_origins` are other origins whose form may have sent this request, the POST of an identity provider's page.

        Raises:
            CrossSiteRequestError: another site's page would sign this browser in (login CSRF).
            ConfigurationError: the cookie cannot be set over this connection.
        """
        if mode == "cookie" and self.cookie is not None:
            # It may be accepted already, and what follows has no headers.
            if self.cookie.facts.is_websocket:
                raise ConfigurationError(
                    'a WebSocket gets no session cookie, so a sign-in over one needs mode="header"; for the cookie, '
                    "sign in with an HTTP request"
                )
            if self.cookie.is_forged and not self.cookie.is_form_of(from_origins):
                raise CrossSiteRequestError
            self.cookie.check_may_be_set()

    def hand_out(self, success: AuthSuccess, mode: Mode, from_origins: Iterable[str] = ()) -> None:
        """Have the response carry the token in the cookie, or at least be kept out of caches.

        Raises:
            CrossSiteRequestError, ConfigurationError: as `check_may_hand_out`.
        """
        self.check_may_hand_out(mode, from_origins)
        self._hands_out_token = self.has_wishes = True
        if mode == "cookie" and self.cookie is not None:
            self._set_cookie = self.cookie.carrying(success)

    def forget_cookie(self) -> None:
        """Have the browser forget the session cookie, unless the response brings a new one.

        Does nothing where the cookie may be another application's: where its secret was wrong, or was not checked
        because the store could not answer. Does nothing, either, where the token did not come in the cookie.
        """
        if self.cookie is not None and self._is_ours and self._set_cookie is None:
            self._set_cookie = self.cookie.expired()
            self.has_wishes = True

    def tokens_in_cookies(self) -> tuple[Token | None, ...] | None:
        """The tokens in all session cookies, None for what cannot be one; None if the token came in a header."""
        if self.cookie is None:
            return None
        shown = presented_credential(self.cookie.facts.headers, self.cookie.name)
        if shown is None or not shown.in_cookie:
            return None
        return texts_in_cookies(self.cookie.facts.headers, self.cookie.name)

    def note_ours(self) -> None:
        """Note that all session cookies are ours beyond doubt: each had a secret that was right."""
        self._is_ours = True

    def ending_tickets(self) -> tuple[str | None, ...]:
        """The tickets that this browser was given for sign-outs that were not confirmed: one, if nobody invents more.

        None for one with characters that none has.

        Raises:
            CrossSiteRequestError: another site's page would use it.
            TooManyCookiesError: it was not read among so many cookies.
        """
        if self.cookie is None:
            return ()
        shown = texts_in_cookies(self.cookie.facts.headers, self.cookie.ending_name)
        if shown and self.cookie.is_forged:
            raise CrossSiteRequestError
        return shown

    def put_off_ending(self, tickets: IssuesEndingTickets) -> None:
        """Have the browser give up the session cookie for a ticket, with which it can end the session later.

        The person may be leaving a shared computer. Where there is no ticket for this cookie, or there are several of
        its name, which no response can be sure to remove, the cookie stays: the sign-out is repeated with it. The
        secret need not have been checked, as the person wants to be rid of the cookie, and whether it was ours is found
        out when the ticket is handed in.
        """
        shown = self.tokens_in_cookies()
        token = shown[0] if shown is not None and len(shown) == 1 else None
        ticket = None if token is None else tickets.ending_ticket(token)
        if self.cookie is not None and ticket is not None:
            self._set_cookie, self._set_ticket = self.cookie.expired(), self.cookie.carrying_ticket(ticket)
            self.has_wishes = True

    def forget_ending_ticket(self) -> None:
        """Have the browser forget its ticket: the session that it was for is over."""
        if self.cookie is not None:
            self._set_ticket = self.cookie.expired_ticket()
            self.has_wishes = True

    def fulfil(self, status: int, headers: list[tuple[bytes, bytes]]) -> bool:
        """Add what is wished for to the headers of a response. True if the response has to be kept out of caches."""
        is_shared = may_be_shared(status, headers)
        cookies = [value for value in (self._set_cookie, self._set_ticket) if value is not None]
        if not cookies and not self._hands_out_token:
            if is_shared or self.cookie is None or not self._clears_cookie:
                return False  # the browser's next page will do
            cookies = [self.cookie.expired()]
        if is_shared:  # whatever the application says: the cookie or the token is one person's
            headers[:] = without_caching(headers)
        headers += [(b"set-cookie", value) for value in cookies]
        return True


def reply_of(connection: Mapping[str, Any]) -> Reply:
    """The reply the middleware left in an ASGI scope, or in a Starlette `Request` around one.

    Raises:
        ConfigurationError: `SessionMiddleware` did not run for this request.
    """
    reply = connection.get(REPLY_KEY)
    if not isinstance(reply, Reply):
        raise middleware_did_not_run(reply)
    return reply
