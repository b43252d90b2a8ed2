"""Token managers: the interface, and what they hand out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, runtime_checkable

from coatcheck.client_info import UNKNOWN_CLIENT, ClientInfo
from coatcheck.errors import ConfigurationError
from coatcheck.hidden import HiddenText
from coatcheck.token_format import session_id_in

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from collections.abc import Set as AbstractSet
    from datetime import datetime
    from uuid import UUID

    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.pages import Page
    from coatcheck.scope import Scope
    from coatcheck.stores.records import Position, UserEpochs
    from coatcheck.stores.store import Transaction

__all__ = [
    "AuthSuccess",
    "AuthenticationInfo",
    "IssuesEndingTickets",
    "SignInAttempt",
    "Token",
    "TokenInfo",
    "TokenManager",
    "TokenRefusal",
    "TokenStanding",
]


class Token(HiddenText):
    """The text a client carries. A plain string in every way, except that its repr does not show it.

    A traceback that prints local variables, a debugger or a dataclass repr therefore do not leak it. Formatting
    it on purpose (`f"Bearer {token}"`) gives the text.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class AuthSuccess:
    """The result of a sign-in, for the client.

    `auth_strategy` is the issuer's name ("session"). `token_expires_at` is an aware UTC datetime, None if the
    token has no absolute deadline. `scope_names` are those at the moment of sign-in; they may change.
    """

    auth_strategy: str
    """The issuer's name, "session"."""
    token: Token = field(repr=False)
    """The token, for the client alone. Empty where it went into a cookie."""
    token_expires_at: datetime | None
    """The absolute deadline, an aware UTC datetime; None: there is none."""
    auth_user_id: UserId
    """The user who has signed in."""
    scope_names: frozenset[Scope]
    """The scopes at the moment of sign-in; they may change."""

    @property
    def server_side_session_id(self) -> SessionId:
        """The id of the session, read from the token.

        Raises:
            InvalidArgumentError: the token is empty (cookie mode) or is not a server-side session's.
        """
        return session_id_in(self.token)


@dataclass(frozen=True, slots=True, init=False)
class AuthenticationInfo:
    """The caller: the answer of a validation that succeeded. `auth_id` is the session's id."""

    user_identifier: UserId
    """The id of the user."""
    scopes: frozenset[Scope]
    """The scopes of the session, as of this validation."""
    auth_id: str
    """The id of the session, by which it can be revoked. It is no secret."""

    def __init__(self, user_identifier: UserId, scopes: frozenset[Scope], auth_id: str) -> None:
        """Take the three fields.

        Written by hand because one is made for every request: the generated method of a frozen dataclass takes twice
        as long.
        """
        _set_user_identifier(self, user_identifier)
        _set_scopes(self, scopes)
        _set_auth_id(self, auth_id)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> NoReturn:
        """Refuse to be a model of pydantic's, and so a bare parameter of a FastAPI route or its response.

        Raises:
            ConfigurationError: always; it says what to write.
        """
        raise ConfigurationError(
            "a bare AuthenticationInfo is neither read from a request nor written into a response; write "
            '`caller: SignedIn`, `caller: MaybeSignedIn` or `caller: Annotated[AuthenticationInfo, Requires("read")]`, '
            "of coatcheck.web.fastapi, and answer with members of your own"
        )


_set_user_identifier, _set_scopes, _set_auth_id = (
    vars(AuthenticationInfo)[name].__set__ for name in ("user_identifier", "scopes", "auth_id")
)


class TokenRefusal(Enum):
    """Why a token does not validate.

    Only EXPIRED and INACTIVE may be told to the client: both are found after the secret was checked, so that only the
    holder of the secret learns them. A client cannot tell the other refusals apart.
    """

    NOT_A_TOKEN = "not_a_token"  # noqa: S105 (a reason, not a password)
    """The text is not a token of ours."""
    UNKNOWN = "unknown"
    """There is no such session: it was ended, or never was."""
    WRONG_SECRET = "wrong_secret"  # noqa: S105 (a reason, not a password)
    """There is such a session, and the secret is not its own."""
    UNKNOWN_PEPPER = "unknown_pepper"
    """There is such a session, and its secret cannot be checked here: its pepper is not configured, or its hash is not
    one that this version makes; or it names no pepper, and no configured one fits."""
    CORRUPT = "corrupt"
    """The stored data of the session cannot be read."""
    EXPIRED = "expired"
    """The absolute deadline has come."""
    INACTIVE = "inactive"
    """The session was not used for too long."""

    @property
    def is_for_the_holder(self) -> bool:
        """Whether the client has proved that it holds the secret, so that it may be told the reason."""
        return self in {TokenRefusal.EXPIRED, TokenRefusal.INACTIVE}


class TokenStanding(NamedTuple):
    """The state of a token at this moment, for code that keeps a connection or a stream open by it.

    `ends_in_us`: the microseconds until a deadline of the session comes, if it is not used before. None: the session
    has no deadline, or the token is refused.

    `holder`: the user and the id of a token that is refused although its secret is right, so that a sign-out can end
    what is left of it: after a deadline, or where its data are damaged, it might be accepted again. None: there is
    none.
    """

    answer: AuthenticationInfo | TokenRefusal
    """The caller, or the reason why there is none."""
    ends_in_us: int | None = None
    """Microseconds until a deadline; None: there is none."""
    holder: AuthenticationInfo | None = None
    """Whose token it is that is refused although its secret is right; without scopes. None: there is none."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One issued token as lists show it, without its text. Times are aware UTC datetimes.

    `client` describes the device that signed in.
    """

    user_id: UserId
    """The user of the token."""
    token_id: str
    """The id of the token, by which it can be revoked. It is no secret."""
    token_issuer: str
    """The name of the manager that has issued it."""
    scopes: frozenset[Scope]
    """The scopes of the token, as of now."""
    method: str
    """How the user signed in."""
    created_at: datetime
    """The moment of sign-in, in UTC."""
    last_used_at: datetime
    """About when it was last used, in UTC."""
    expires_at: datetime | None
    """The absolute deadline, in UTC; None: there is none."""
    client: ClientInfo = UNKNOWN_CLIENT
    """The device that signed in."""


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """A sign-in that has begun. It is made before the credentials are read, and given when the token is issued.

    If all sessions of the user are ended in between, issuing raises `SignInSupersededError`. An attempt that was begun
    before its user was known has `began_at`, a position in the history of the store, and serves for any user.
    """

    user_id: UserId | None
    """The user who signs in; None: not known when the attempt began."""
    epochs: UserEpochs | None = None
    """The user's epochs when the attempt began."""
    began_at: Position | None = None
    """The position in the history of the store when the attempt began, where the user was not known."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> NoReturn:
        """Refuse to be a model of pydantic's, and so a bare parameter of a FastAPI route or its response.

        Raises:
            ConfigurationError: always; it says what to write.
        """
        raise ConfigurationError(
            "a bare SignInAttempt is neither read from a request nor written into a response; write "
            "`attempt: Annotated[SignInAttempt, BeginsSignIn(auth)]`, of coatcheck.web.fastapi"
        )


@runtime_checkable
class TokenManager(Protocol):
    """Issues, validates, lists and revokes tokens."""

    @property
    def issuer(self) -> str:
        """The name of this manager in `AuthSuccess.auth_strategy` and `TokenInfo.token_issuer`."""
        ...

    async def begin_sign_in(
        self, auth_user_id: str | UUID | None = None, *, transaction: Transaction | None = None
    ) -> SignInAttempt:
        """Begin a sign-in, before the credentials are read. Give the attempt to the call that issues the token.

        Without `auth_user_id` it begins before the user is known, in the first line that handles the request: nothing
        that is read afterwards is older than the attempt, whatever an ORM keeps of what it has read.
        """
        ...

    async def issue_token(
        self,
        *,
        auth_user_id: str | UUID,
        method: str,
        caller: AuthenticationInfo | None,
        scopes: AbstractSet[str] | None = None,
        attempt: SignInAttempt | None = None,
        client: ClientInfo | None = None,
        replacing: AuthenticationInfo | None = None,
        transaction: Transaction | None = None,
    ) -> AuthSuccess:
        """Issue a token under the sign-in policy: a `caller` who is signed in may only sign in as the same user.

        Raises:
            SignInWhileAuthenticatedError: `caller` is another user.
            UserNotFoundError, UserBlockedError, SignInSupersededError: as `create_token`.
        """
        ...

    async def create_token(
        self,
        *,
        auth_user_id: str | UUID,
        method: str,
        scopes: AbstractSet[str] | None = None,
        attempt: SignInAttempt | None = None,
        client: ClientInfo | None = None,
        replacing: AuthenticationInfo | None = None,
        transaction: Transaction | None = None,
    ) -> AuthSuccess:
        """Issue a token without any policy. With `scopes` None it gets the user's scopes, and follows their changes.

        `client` is kept for lists of devices. `replacing` is the session that the client had until now: it ends in the
        step that issues the new token.

        Raises:
            UserNotFoundError: there is no such user.
            UserBlockedError: the user is blocked.
            SignInSupersededError: all sessions of the user were ended since `attempt` began.
            StoreUnavailable: the store cannot answer, or the user source does not (`UserSourceUnavailable`).
        """
        ...

    async def validate_token(self, token: str) -> AuthenticationInfo | None:
        """The caller that the token stands for; None if the token is not valid.

        Raises:
            StoreUnavailable: the store cannot answer; the token may be valid.
        """
        ...

    # Not `async def`, for which pyright (and so an editor) asks for a coroutine object of the interpreter's own, where
    # a manager that hands on another's coroutine saves a call for every request. An `async def` is one of these too.
    def explain_token(self, token: str) -> Coroutine[Any, Any, AuthenticationInfo | TokenRefusal]:
        """The caller that the token stands for, or the reason why there is none."""
        ...

    def examine_token(self, token: str) -> Coroutine[Any, Any, TokenStanding]:
        """The caller and the time until a deadline, without counting as a use: the idle deadline does not move.

        Raises:
            StoreUnavailable: the store cannot answer.
        """
        ...

    async def list_tokens(
        self,
        *,
        auth_user_id: str | UUID | None = None,
        method: str | None = None,
        token_issuer: str | None = None,
        after: str | None = None,
        limit: int = 100,
        transaction: Transaction | None = None,
    ) -> Page[TokenInfo]:
        """The issued tokens that match, a page at a time; `after` is the last page's `next_after`."""
        ...

    async def revoke_token(
        self,
        *,
        token_id: str,
        auth_user_id: str | UUID | None = None,
        token_issuer: str | None = None,
        transaction: Transaction | None = None,
    ) -> bool:
        """End one token. True if there was one; an unknown id is no error. With `auth_user_id`, only if it is theirs.

        Raises:
            InvalidArgumentError: `token_id` is no id, the token itself for example; nothing was ended.
            RevocationIndeterminate: it is not known whether the token has ended; treat it as live and try again.
        """
        ...

    async def revoke_all_tokens(
        self,
        *,
        auth_user_id: str | UUID,
        method: str | None = None,
        token_issuer: str | None = None,
        except_token_id: str | None = None,
        transaction: Transaction | None = None,
    ) -> tuple[str, ...]:
        """End all tokens of a user that match, and the user's sign-ins that are under way. Returns the ids.

        Raises:
            RevocationIndeterminate: as `revoke_token`.
        """
        ...


@runtime_checkable
class IssuesEndingTickets(Protocol):
    """A token manager whose clients can give up their token before the end of it is confirmed.

    Apart from `TokenManager`, so that managers that cannot do it stay what they are.
    """

    def ending_ticket(self, token: str) -> str | None:
        """A text that can end this token, later, and can do nothing else. None: there is no ticket for this token.

        Called while the store cannot answer, so the token may be anybody's invention; `end_by_ticket` checks that.
        """
        ...

    async def end_by_ticket(self, ticket: str) -> bool | None:
        """End the token of a ticket. False if it has ended already, None if the text is no ticket at all.

        Raises:
            SignOutUnconfirmedError: it may be a ticket, and cannot be opened or checked here: another server may have
                the pepper. The token may not have ended.
            RevocationIndeterminate, StoreUnavailable: as `revoke_token`; the ticket stays good.
        """
        ...
