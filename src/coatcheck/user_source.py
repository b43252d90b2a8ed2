"""Where users live, when they do not live in the store: the interface an application implements over its own table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from coatcheck.identifiers import UserId
    from coatcheck.stores.store import Transaction


class UserAccess(Protocol):
    """What a sign-in must know of a user."""

    @property
    def scopes(self) -> AbstractSet[str]:
        """The scopes that sessions without scopes of their own get."""
        ...

    @property
    def blocked(self) -> bool:
        """Whether the user may not sign in."""
        ...


class UserSource(Protocol):
    """An application's users.

    The application tells the sessions when something changes, in this order: first its own table, then
    `server_side_sessions.update_scopes(auth_user_id=...)` when a user's scopes changed, `revoke_all_sessions(...)`
    when a user was blocked or deleted. With the same transaction for both there is no order to think about.
    """

    async def get(self, user_id: UserId, *, transaction: Transaction | None = None) -> UserAccess:
        """The user's scopes and whether they are blocked, read inside `transaction` if there is one.

        Raises:
            UserNotFoundError: there is no such user.
        """
        ...
