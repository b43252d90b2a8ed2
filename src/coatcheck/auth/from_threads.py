"""The auth services for code that runs in threads: the `def` routes of an asynchronous application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.auth.blocking import (
    BlockingAuthUsers,
    BlockingServerSideSessions,
    BlockingServerSideSessionsAdmin,
    BlockingTokenManager,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from coatcheck.auth.multi import MultiTokenManager
    from coatcheck.auth.users import AuthUsers
    from coatcheck.from_thread import BlockingCaller
    from coatcheck.sessions import ServerSideSessions


class AuthServicesFromThreads:
    """The calls of `AuthServices` without `await`, for threads that run no event loop: `auth.from_threads`.

        @api.post("/password")
        def change_password(user: SignedIn, new: NewPassword) -> None:
            ...
            auth.from_threads.token_manager.revoke_all_tokens(auth_user_id=user.user_identifier)

    Each call blocks its thread, while the pod's event loop does the work. It raises NotOpenError where the pod is not
    open, and OpenElsewhereError in a thread that runs an event loop, because there it has to be awaited. `sign_in` and
    `sign_out` for such routes are in `coatcheck.web.from_threads`.
    """

    def __init__(
        self,
        token_manager: MultiTokenManager,
        *,
        auth_users: Callable[[], AuthUsers],
        server_side_sessions: Callable[[], ServerSideSessions],
        call: BlockingCaller,
    ) -> None:
        """Make the calls by way of `call`. The functions raise ConfigurationError where the pod has no such part."""
        self.token_manager: BlockingTokenManager = BlockingTokenManager(token_manager, call)
        """See `AuthServices.token_manager`."""
        self._auth_users = auth_users
        self._server_side_sessions = server_side_sessions
        self.call: BlockingCaller = call
        """The result of any asynchronous function, yours or ours, which the pod's event loop runs.

            auth.from_threads.call(change_password, user_id, hashed)  # for await change_password(user_id, hashed)
        """

    @property
    def auth_users(self) -> BlockingAuthUsers:
        """The users kept in the store.

        Raises:
            ConfigurationError: a user source was given, so the application keeps the users.
        """
        return BlockingAuthUsers(self._auth_users(), self.call)

    @property
    def server_side_sessions(self) -> BlockingServerSideSessions:
        """The sessions behind the token manager of server-side sessions.

        Raises:
            ConfigurationError: no such token manager is configured.
        """
        return BlockingServerSideSessions(self._server_side_sessions(), self.call)

    @property
    def admin(self) -> BlockingServerSideSessionsAdmin:
        """The `admin` of the sessions: the calls for operators.

        Raises:
            ConfigurationError: no such token manager is configured.
        """
        return BlockingServerSideSessionsAdmin(self._server_side_sessions().admin, self.call)
