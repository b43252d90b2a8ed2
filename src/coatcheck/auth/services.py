"""The services that a pod's `initialize_auth_services` sets up: the token managers and the users."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from coatcheck.auth.from_threads import AuthServicesFromThreads
from coatcheck.auth.multi import MultiTokenManager
from coatcheck.auth.users import AuthUsers
from coatcheck.builders import BuildContext, TokenManagerBuilder
from coatcheck.errors import ConfigurationError
from coatcheck.from_thread import CallFromThread
from coatcheck.opening import Opening
from coatcheck.sessions import ServerSideSessionsTokenManager
from coatcheck.tokens import TokenManager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coatcheck.auth.users import AfterUserCreated, BeforeUserCreated
    from coatcheck.events import EventBus

M = TypeVar("M", bound="TokenManager")


class AuthServices:
    """The token managers behind `token_manager`, and the users behind `auth_users`."""

    def __init__(
        self,
        token_manager_builders: Sequence[TokenManagerBuilder | TokenManager],
        context: BuildContext,
        *,
        before_user_created: BeforeUserCreated | None = None,
        after_user_created: AfterUserCreated | None = None,
        opening: Opening | None = None,
    ) -> None:
        """Build the managers, the first being the primary; a manager that is already built is taken as it is.

        `opening` is the pod's, whose event loop does the calls of `from_threads`.

        Raises:
            ConfigurationError: an item is neither a builder nor a manager, or a builder refuses its settings.
        """
        self.events: EventBus = context.bus
        self.token_manager: MultiTokenManager = MultiTokenManager(
            [_built(builder, context) for builder in token_manager_builders]
        )
        self.from_threads: AuthServicesFromThreads = AuthServicesFromThreads(
            self.token_manager,
            auth_users=lambda: self.auth_users,
            server_side_sessions=lambda: self.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions,
            call=CallFromThread(opening or Opening()),
        )
        """The same services for threads without an event loop: the `def` routes of an application."""
        self._auth_users: AuthUsers | None = None
        if context.user_source is None:
            context.check_hook("before_user_created", before_user_created)
            context.check_hook("after_user_created", after_user_created)
            self._auth_users = AuthUsers(
                context.store,
                bus=context.bus,
                before_user_created=before_user_created,
                after_user_created=after_user_created,
            )
            context.at_shutdown(self._auth_users.close)

    @property
    def auth_users(self) -> AuthUsers:
        """The users kept in the store.

        Raises:
            ConfigurationError: a user source was given, so the application keeps the users.
        """
        if self._auth_users is None:
            raise ConfigurationError(
                "auth_users: the application keeps the users (user_source was given); change them there and call "
                "server_side_sessions.update_scopes and revoke_all_sessions"
            )
        return self._auth_users

    def get_token_manager(self, kind: type[M]) -> M:
        """The configured token manager of this class.

        Raises:
            ConfigurationError: none is configured.
        """
        for manager in self.token_manager.managers:
            if isinstance(manager, kind):
                return manager
        names = ", ".join(type(manager).__name__ for manager in self.token_manager.managers)
        raise ConfigurationError(f"no token manager of type {kind.__name__} is configured; there is: {names}")


def _built(builder: TokenManagerBuilder | TokenManager, context: BuildContext) -> TokenManager:
    if isinstance(builder, TokenManagerBuilder):
        return builder.build(context)
    if isinstance(builder, TokenManager):
        return builder
    raise ConfigurationError(
        f"token_manager_builders takes builders and token managers, not {type(builder).__name__}; "
        "for server-side sessions give ServerSideSessionsConfig(...)"
    )
