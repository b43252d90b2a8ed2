"""Server-side sessions. The path of every request is `validation`, `key_hash` and `deadlines`."""

from coatcheck.sessions.admin import PepperUsage, ServerSideSessionsAdmin
from coatcheck.sessions.config import ServerSideSessionsConfig, ServerSideSessionsConfigFromPasswords
from coatcheck.sessions.manager import ServerSideSessionsTokenManager
from coatcheck.sessions.server_side_sessions import ServerSideSessions
from coatcheck.sessions.session_info import SessionInfo
from coatcheck.sessions.settings import PepperNewlineWarning, WeakPepperWarning

__all__ = [
    "PepperNewlineWarning",
    "PepperUsage",
    "ServerSideSessions",
    "ServerSideSessionsAdmin",
    "ServerSideSessionsConfig",
    "ServerSideSessionsConfigFromPasswords",
    "ServerSideSessionsTokenManager",
    "SessionInfo",
    "WeakPepperWarning",
]
