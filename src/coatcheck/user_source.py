"""The interface that an application implements over its own table of users, when users do not live in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from coatcheck.identifiers import UserId
    from coatcheck.stores.store import Transaction

__all__ = [
    "UserAccess",
    "UserSource",
]


class UserAccess(Protocol):
    """The facts about a user that a sign-in needs."""

    @property
    def scopes(self) -> AbstractSet[str]:
        """The scopes of sessions that follow the user."""
        ...

    @property
    def blocked(self) -> bool:
        """Whether the user may not sign in."""
        ...


class UserSource(Protocol):
    """An application's users.

    When a user changes, the application first changes its own table and then calls the sessions:
    `server_side_sessions.update_scopes(auth_user_id=...)` when the user's scopes changed, `revoke_all_sessions(...)`
    when the user was blocked or deleted. If both happen in one transaction, the order does not matter.
    """

    async def get(self, user_id: UserId, *, transaction: Transaction | None = None) -> UserAccess:
        """The user's scopes and whether they are blocked, read inside `transaction` if there is one.

        Mostly there is none: a sign-in without a transaction of yours, as `coatcheck.web.sign_in` is one, asks for the
        user before it begins its own. `pod.store.read_tables(transaction)` gives a connection in either case.

        It is cancelled when it takes longer than the pod's `user_source_timeout`. If it works in threads, it needs a
        limiter of its own: the sign-in may be asked for by a route that has taken the last of the common ones.

        Raises:
            UserNotFoundError: there is no such user.
        """
        ...
