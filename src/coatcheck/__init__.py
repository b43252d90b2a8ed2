"""Coatcheck: server-side sessions for Python.

A person signs in, the server keeps a row, the client carries an opaque token, and every request is answered from
that row. Take the row away and the token is worthless at once.
"""

from coatcheck.auth import AuthServices, AuthUser, AuthUsers, MultiTokenManager, NewAuthUser
from coatcheck.builders import BuildContext, TokenManagerBuilder
from coatcheck.errors import (
    AuthenticationRequiredError,
    AuthorizationError,
    CoatcheckError,
    ConfigurationError,
    InsufficientScopeError,
    InvalidArgumentError,
    NotOpenError,
    RevocationIndeterminate,
    SignInError,
    SignInSupersededError,
    SignInWhileAuthenticatedError,
    StoreUnavailable,
    UserBlockedError,
    UserNotFoundError,
)
from coatcheck.identifiers import SessionId, UserId
from coatcheck.pages import Page
from coatcheck.pod import Pod
from coatcheck.scope import Scope
from coatcheck.sessions import (
    ServerSideSessions,
    ServerSideSessionsConfig,
    ServerSideSessionsConfigFromPasswords,
    ServerSideSessionsTokenManager,
    SessionInfo,
    WeakPepperWarning,
)
from coatcheck.tokens import (
    AuthenticationInfo,
    AuthSuccess,
    SignInAttempt,
    Token,
    TokenInfo,
    TokenManager,
    TokenRefusal,
)
from coatcheck.user_source import UserAccess, UserSource

__all__ = [
    "AuthServices",
    "AuthSuccess",
    "AuthUser",
    "AuthUsers",
    "AuthenticationInfo",
    "AuthenticationRequiredError",
    "AuthorizationError",
    "BuildContext",
    "CoatcheckError",
    "ConfigurationError",
    "InsufficientScopeError",
    "InvalidArgumentError",
    "MultiTokenManager",
    "NewAuthUser",
    "NotOpenError",
    "Page",
    "Pod",
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
    "StoreUnavailable",
    "Token",
    "TokenInfo",
    "TokenManager",
    "TokenManagerBuilder",
    "TokenRefusal",
    "UserAccess",
    "UserBlockedError",
    "UserId",
    "UserNotFoundError",
    "UserSource",
    "WeakPepperWarning",
]
