"""Users that are kept in the store. A change of a user changes the user's live sessions in the same transaction."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from coatcheck.clock import from_us
from coatcheck.errors import InvalidArgumentError, UserNotFoundError
from coatcheck.identifiers import user_id_of
from coatcheck.pages import DEFAULT_PAGE_SIZE, Page, page_size
from coatcheck.scope import scope_set
from coatcheck.sessions.endings import Endings
from coatcheck.sessions.finishing import Finisher
from coatcheck.stores.hooks import run_hook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from collections.abc import Set as AbstractSet
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.events import EventBus
    from coatcheck.identifiers import UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.records import UserRecord
    from coatcheck.stores.store import Store, Transaction


@dataclass(frozen=True, slots=True)
class AuthUser:
    """One user. `created_at` is an aware UTC datetime."""

    id: UserId
    """The id, one for ever."""
    created_at: datetime
    """The moment of creation, in UTC."""
    scopes: frozenset[Scope]
    """The scopes of sessions that follow the user."""
    blocked: bool
    """Whether the user may not sign in."""


@dataclass(frozen=True, slots=True)
class NewAuthUser:
    """A user about to be created, as `before_user_created` sees and may change it."""

    scopes: frozenset[Scope]
    """The scopes the user will have."""
    blocked: bool
    """Whether the user will not be able to sign in."""


BeforeUserCreated: TypeAlias = "Callable[[NewAuthUser, AsyncConnection], Awaitable[NewAuthUser]]"
AfterUserCreated: TypeAlias = "Callable[[AuthUser, AsyncConnection], Awaitable[None]]"


class AuthUsers:
    """Creates, reads, changes and deletes users in the store."""

    def __init__(
        self,
        store: Store,
        *,
        bus: EventBus,
        before_user_created: BeforeUserCreated | None = None,
        after_user_created: AfterUserCreated | None = None,
    ) -> None:
        """Keep users in `store`.

        The hooks run inside the transaction that inserts a user; if one of them raises, the user is not created. The
        first may return other scopes and another `blocked`, the second gets the new user.
        """
        self._store = store
        self._endings = Endings(bus, Finisher())
        self._before_user_created = before_user_created
        self._after_user_created = after_user_created

    async def create(
        self,
        *,
        id: str | UUID | None = None,  # noqa: A002 (the name the field has everywhere)
        scopes: AbstractSet[str] = frozenset(),
        blocked: bool = False,
        transaction: Transaction | None = None,
    ) -> AuthUser:
        """Create a user, by default without scopes and not blocked. Without an `id` it gets a new UUID.

        Raises:
            InvalidArgumentError: the id is taken, or an argument is not allowed.
            StoreUnavailable: the store cannot answer.
        """
        user_id = user_id_of(uuid.uuid4() if id is None else id, name="id")
        new = NewAuthUser(scope_set(scopes), blocked)
        if self._before_user_created is None and self._after_user_created is None:
            return await self._insert(user_id, new, transaction)
        if transaction is not None:
            return await self._create_with_hooks(user_id, new, transaction)
        async with self._store.transaction() as own:
            return await self._create_with_hooks(user_id, new, own)

    async def get(self, user_id: str | UUID, *, transaction: Transaction | None = None) -> AuthUser:
        """The user with this id.

        Raises:
            UserNotFoundError: there is no such user.
        """
        wanted = user_id_of(user_id, name="user_id")
        record = await self._store.read_user(wanted, transaction=transaction)
        if record is None or not record.is_registered:
            raise UserNotFoundError(wanted)
        return _auth_user(record)

    async def list(
        self, *, after: str | None = None, limit: int = DEFAULT_PAGE_SIZE, transaction: Transaction | None = None
    ) -> Page[AuthUser]:
        """Users in order of id, at most `limit` (1 to 1000) after the id `after`."""
        start = None if after is None else user_id_of(after, name="after")
        page = await self._store.list_users(after=start, limit=page_size(limit), transaction=transaction)
        return Page([_auth_user(record) for record in page], page.next_after)

    async def update(
        self,
        user_id: str | UUID,
        *,
        scopes: AbstractSet[str] | None = None,
        blocked: bool | None = None,
        transaction: Transaction | None = None,
    ) -> AuthUser:
        """Change a user's scopes, whether they are blocked, or both; None leaves a field alone.

        The same transaction changes the user's live sessions, and their next validation sees it: sessions that follow
        the user get the new scopes, the others lose the scopes that the user lost. Blocking ends all sessions and the
        sign-ins under way.

        Raises:
            UserNotFoundError: there is no such user.
            RevocationIndeterminate: it is not known whether the user was changed; treat the sessions as live.
        """
        wanted = user_id_of(user_id, name="user_id")
        checked = None if scopes is None else scope_set(scopes)

        update = self._store.update_user(wanted, scopes=checked, blocked=blocked, transaction=transaction)
        changed = await self._endings.run(update, user_id=wanted, transaction=transaction)
        if changed is None:
            raise UserNotFoundError(wanted)
        return _auth_user(changed.user)

    async def delete(self, user_id: str | UUID, *, transaction: Transaction | None = None) -> None:
        """Delete a user and all their sessions.

        Raises:
            UserNotFoundError: there is no such user.
            RevocationIndeterminate: it is not known whether the user was deleted.
        """
        wanted = user_id_of(user_id, name="user_id")

        deletion = self._store.delete_user(wanted, transaction=transaction)
        if await self._endings.run(deletion, user_id=wanted, transaction=transaction) is None:
            raise UserNotFoundError(wanted)

    async def close(self) -> None:
        """Finish the changes that are under way. The pod calls this."""
        await self._endings.close()

    async def _create_with_hooks(self, user_id: UserId, new: NewAuthUser, transaction: Transaction) -> AuthUser:
        connection = await self._store.connection_of(transaction)
        before, after = self._before_user_created, self._after_user_created
        if before is not None:
            changed = await run_hook("before_user_created", connection, lambda: before(new, connection))
            new = replace(changed, scopes=scope_set(changed.scopes))
        user = await self._insert(user_id, new, transaction)
        if after is not None:
            await run_hook("after_user_created", connection, lambda: after(user, connection))
        return user

    async def _insert(self, user_id: UserId, new: NewAuthUser, transaction: Transaction | None) -> AuthUser:
        record = await self._store.insert_user(user_id, scopes=new.scopes, blocked=new.blocked, transaction=transaction)
        if record is None:
            raise InvalidArgumentError(f"id {user_id!r} is taken by another user")
        return _auth_user(record)


def _auth_user(record: UserRecord) -> AuthUser:
    return AuthUser(record.id, from_us(record.created_at_us), record.scopes, record.blocked)
