"""Server-side sessions. The path of every request is `validation`, `key_hash` and `deadlines`."""

from coatcheck.sessions.admin import PepperUsage, ServerSideSessionsAdmin
from coatcheck.sessions.config import (
    ServerSideSessionsConfig,
    ServerSideSessionsConfigFromPasswords,
    WeakPepperWarning,
)
from coatcheck.sessions.manager import ServerSideSessionsTokenManager
from coatcheck.sessions.server_side_sessions import ServerSideSessions, SessionInfo

__all__ = [
    "PepperUsage",
    "ServerSideSessions",
    "ServerSideSessionsAdmin",
    "ServerSideSessionsConfig",
    "ServerSideSessionsConfigFromPasswords",
    "ServerSideSessionsTokenManager",
    "SessionInfo",
    "WeakPepperWarning",
]
