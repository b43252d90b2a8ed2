"""The configuration classes: the settings, and the `build` method that a pod calls to make the token manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from coatcheck.sessions.manager import ServerSideSessionsTokenManager
from coatcheck.sessions.server_side_sessions import ServerSideSessions
from coatcheck.sessions.settings import ServerSideSessionsSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from typing import Unpack

    from coatcheck.builders import BuildContext
    from coatcheck.sessions.settings import SessionCreatedHook

PEPPER_PASSWORD_KEY = "serverSideSessionKeyHashPepper"  # noqa: S105 (the name of a password)
"""The key of the pepper in `config/passwords.yaml`; the spelling of Serverpod, so that one file serves both."""


class ServerSideSessionsOptions(TypedDict, total=False):
    """Every option but the pepper."""

    fallback_session_key_hash_peppers: Sequence[str]
    default_session_lifetime: timedelta | None
    default_session_inactivity_timeout: timedelta | None
    session_key_secret_length: int
    session_key_hash_salt_length: int
    on_session_created: SessionCreatedHook | None


class ServerSideSessionsConfig(ServerSideSessionsSettings):
    """The settings of server-side sessions, checked when they are given.

    Peppers cannot be read back from it, and it has no repr that would show them.
    """

    def build(self, context: BuildContext) -> ServerSideSessionsTokenManager:
        """Make the token manager (the pod calls this).

        Raises:
            ConfigurationError: the store cannot run the hook.
        """
        context.check_hook("on_session_created", self.on_session_created)
        sessions = ServerSideSessions(context.store, self, bus=context.bus, user_source=context.user_source)
        context.at_start(sessions.peppers)
        context.at_shutdown(sessions.close)
        return ServerSideSessionsTokenManager(sessions)


class ServerSideSessionsConfigFromPasswords:
    """`ServerSideSessionsConfig` with the pepper taken from the pod's passwords.

    The pepper is looked up when the pod builds the manager: key `serverSideSessionKeyHashPepper` in
    `config/passwords.yaml`, or the variable `SERVERPOD_PASSWORD_serverSideSessionKeyHashPepper`.
    """

    def __init__(self, **options: Unpack[ServerSideSessionsOptions]) -> None:
        """Take any option of `ServerSideSessionsConfig` but the pepper; all are checked when the pod builds."""
        self._options = options

    def build(self, context: BuildContext) -> ServerSideSessionsTokenManager:
        """Make the token manager (the pod calls this).

        Raises:
            ConfigurationError: the pepper is missing, or a setting is not allowed.
        """
        pepper = context.get_password_or_raise(PEPPER_PASSWORD_KEY)
        return ServerSideSessionsConfig(session_key_hash_pepper=pepper, **self._options).build(context)
