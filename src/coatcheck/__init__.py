"""Coatcheck: server-side sessions for Python.

A person signs in, the server keeps a row, the client carries an opaque token, and every request is answered from
that row. Take the row away and the token is worthless at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coatcheck.auth import AuthServices, AuthUser, AuthUsers, MultiTokenManager, NewAuthUser, SqlUserSource
    from coatcheck.builders import BuildContext, TokenManagerBuilder, UserSourceBuilder
    from coatcheck.client_info import ClientInfo
    from coatcheck.errors import (
        AuthenticationRequiredError,
        AuthorizationError,
        ClientError,
        CoatcheckError,
        ConfigurationError,
        CrossSiteRequestError,
        InsufficientScopeError,
        InvalidArgumentError,
        NotOpenError,
        OpenElsewhereError,
        RevocationIndeterminate,
        SignInError,
        SignInSupersededError,
        SignInWhileAuthenticatedError,
        SignOutUnconfirmedError,
        StorageError,
        StoreUnavailable,
        TooManyCookiesError,
        UnexpectedAnswerError,
        UserBlockedError,
        UserNotFoundError,
        UserSourceUnavailable,
    )
    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.pages import Page
    from coatcheck.pod import Pod
    from coatcheck.readiness import Readiness
    from coatcheck.scope import Scope
    from coatcheck.sessions import (
        PepperNewlineWarning,
        ServerSideSessions,
        ServerSideSessionsConfig,
        ServerSideSessionsConfigFromPasswords,
        ServerSideSessionsTokenManager,
        SessionInfo,
        WeakPepperWarning,
    )
    from coatcheck.stores.guarantee import Guarantee, GuaranteeLevel
    from coatcheck.stores.store import Transaction
    from coatcheck.tokens import (
        AuthenticationInfo,
        AuthSuccess,
        IssuesEndingTickets,
        SignInAttempt,
        Token,
        TokenInfo,
        TokenManager,
        TokenRefusal,
    )
    from coatcheck.user_source import UserAccess, UserSource

    __version__: str

__all__ = [
    "AuthServices",
    "AuthSuccess",
    "AuthUser",
    "AuthUsers",
    "AuthenticationInfo",
    "AuthenticationRequiredError",
    "AuthorizationError",
    "BuildContext",
    "ClientError",
    "ClientInfo",
    "CoatcheckError",
    "ConfigurationError",
    "CrossSiteRequestError",
    "Guarantee",
    "GuaranteeLevel",
    "InsufficientScopeError",
    "InvalidArgumentError",
    "IssuesEndingTickets",
    "MultiTokenManager",
    "NewAuthUser",
    "NotOpenError",
    "OpenElsewhereError",
    "Page",
    "PepperNewlineWarning",
    "Pod",
    "Readiness",
    "RevocationIndeterminate",
    "Scope",
    "ServerSideSessions",
    "ServerSideSessionsConfig",
    "ServerSideSessionsConfigFromPasswords",
    "ServerSideSessionsTokenManager",
    "SessionId",
    "SessionInfo",
    "SignInAttempt",
    "SignInError",
    "SignInSupersededError",
    "SignInWhileAuthenticatedError",
    "SignOutUnconfirmedError",
    "SqlUserSource",
    "StorageError",
    "StoreUnavailable",
    "Token",
    "TokenInfo",
    "TokenManager",
    "TokenManagerBuilder",
    "TokenRefusal",
    "TooManyCookiesError",
    "Transaction",
    "UnexpectedAnswerError",
    "UserAccess",
    "UserBlockedError",
    "UserId",
    "UserNotFoundError",
    "UserSource",
    "UserSourceBuilder",
    "UserSourceUnavailable",
    "WeakPepperWarning",
]

# Each name is imported when it is first asked for: `coatcheck.client` runs where there is no database driver.
_HOMES = {
    "AuthServices": "coatcheck.auth",
    "AuthUser": "coatcheck.auth",
    "AuthUsers": "coatcheck.auth",
    "MultiTokenManager": "coatcheck.auth",
    "NewAuthUser": "coatcheck.auth",
    "SqlUserSource": "coatcheck.auth",
    "BuildContext": "coatcheck.builders",
    "TokenManagerBuilder": "coatcheck.builders",
    "UserSourceBuilder": "coatcheck.builders",
    "ClientInfo": "coatcheck.client_info",
    "AuthenticationRequiredError": "coatcheck.errors",
    "AuthorizationError": "coatcheck.errors",
    "CoatcheckError": "coatcheck.errors",
    "ConfigurationError": "coatcheck.errors",
    "CrossSiteRequestError": "coatcheck.errors",
    "InsufficientScopeError": "coatcheck.errors",
    "InvalidArgumentError": "coatcheck.errors",
    "NotOpenError": "coatcheck.errors",
    "OpenElsewhereError": "coatcheck.errors",
    "RevocationIndeterminate": "coatcheck.errors",
    "SignInError": "coatcheck.errors",
    "SignInSupersededError": "coatcheck.errors",
    "SignInWhileAuthenticatedError": "coatcheck.errors",
    "StorageError": "coatcheck.errors",
    "StoreUnavailable": "coatcheck.errors",
    "SignOutUnconfirmedError": "coatcheck.errors",
    "TooManyCookiesError": "coatcheck.errors",
    "ClientError": "coatcheck.errors",
    "UnexpectedAnswerError": "coatcheck.errors",
    "UserBlockedError": "coatcheck.errors",
    "UserNotFoundError": "coatcheck.errors",
    "UserSourceUnavailable": "coatcheck.errors",
    "SessionId": "coatcheck.identifiers",
    "UserId": "coatcheck.identifiers",
    "Page": "coatcheck.pages",
    "Pod": "coatcheck.pod",
    "Readiness": "coatcheck.readiness",
    "Scope": "coatcheck.scope",
    "ServerSideSessions": "coatcheck.sessions",
    "ServerSideSessionsConfig": "coatcheck.sessions",
    "ServerSideSessionsConfigFromPasswords": "coatcheck.sessions",
    "ServerSideSessionsTokenManager": "coatcheck.sessions",
    "SessionInfo": "coatcheck.sessions",
    "PepperNewlineWarning": "coatcheck.sessions",
    "WeakPepperWarning": "coatcheck.sessions",
    "Guarantee": "coatcheck.stores.guarantee",
    "GuaranteeLevel": "coatcheck.stores.guarantee",
    "Transaction": "coatcheck.stores.store",
    "AuthenticationInfo": "coatcheck.tokens",
    "AuthSuccess": "coatcheck.tokens",
    "IssuesEndingTickets": "coatcheck.tokens",
    "SignInAttempt": "coatcheck.tokens",
    "Token": "coatcheck.tokens",
    "TokenInfo": "coatcheck.tokens",
    "TokenManager": "coatcheck.tokens",
    "TokenRefusal": "coatcheck.tokens",
    "UserAccess": "coatcheck.user_source",
    "UserSource": "coatcheck.user_source",
}


def __getattr__(name: str) -> object:
    """Import a public name from the module it lives in (PEP 562)."""
    if name == "__version__":
        return import_module("importlib.metadata").version("coatcheck")
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
