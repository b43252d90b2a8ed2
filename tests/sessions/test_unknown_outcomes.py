"""If the outcome of a change is not known, this process is told to validate again: no other process tells it."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest

from coatcheck import AuthenticationInfo, RevocationIndeterminate, StoreUnavailable
from coatcheck.events import AnnouncementsMissed
from coatcheck.testing import PausingStore
from coatcheck.testing.samples import a_transaction
from tests.kinds_of_store import WITH_TRANSACTIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck import AuthSuccess
    from tests.worlds import NewWorld, World

    Change = Callable[..., Awaitable[object]]


class LosesAnswers:
    """A store that makes the change, and then fails to confirm it."""

    def __init__(self, store: Any, error: StoreUnavailable) -> None:
        self._store = store
        self._error = error
        self.loses: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in self.loses:
            return found

        @wraps(found)
        async def does_it_and_fails(*args: Any, **options: Any) -> None:
            await found(*args, **options)
            raise self._error

        return does_it_and_fails


async def revoke_one(world: World, success: AuthSuccess, **options: Any) -> None:
    await world.sessions.revoke_session(success.server_side_session_id, auth_user_id=success.auth_user_id, **options)


async def revoke_all(world: World, success: AuthSuccess, **options: Any) -> None:
    await world.sessions.revoke_all_sessions(success.auth_user_id, **options)


async def revoke_by_method(world: World, success: AuthSuccess, **options: Any) -> None:
    await world.sessions.revoke_all_sessions(success.auth_user_id, method="email", **options)


async def take_from_session(world: World, success: AuthSuccess, **options: Any) -> None:
    await world.sessions.update_scopes(
        session_id=success.server_side_session_id, auth_user_id=success.auth_user_id, scopes=set(), **options
    )


async def take_from_user(world: World, success: AuthSuccess, **options: Any) -> None:
    await world.sessions.update_scopes(auth_user_id=success.auth_user_id, scopes=set(), **options)


async def update(world: World, success: AuthSuccess, **options: Any) -> None:
    await world.auth.auth_users.update(success.auth_user_id, scopes=set(), **options)


async def block(world: World, success: AuthSuccess, **options: Any) -> None:
    await world.auth.auth_users.update(success.auth_user_id, blocked=True, **options)


async def delete(world: World, success: AuthSuccess, **options: Any) -> None:
    await world.auth.auth_users.delete(success.auth_user_id, **options)


async def replace(world: World, success: AuthSuccess, **options: Any) -> None:
    replaced = AuthenticationInfo(success.auth_user_id, frozenset(), success.server_side_session_id)
    await world.sessions.create_session(success.auth_user_id, method="email", replacing=replaced, **options)


CHANGES = [
    (revoke_one, "delete_sessions"),
    (revoke_all, "end_user_sessions"),
    (revoke_by_method, "end_user_sessions"),
    (take_from_session, "set_session_scopes"),
    (take_from_user, "set_user_scopes"),
    (update, "update_user"),
    (block, "update_user"),
    (delete, "delete_user"),
    (replace, "insert_session"),
]
EACH_CHANGE = pytest.mark.parametrize(("change", "call"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])


@EACH_CHANGE
@pytest.mark.parametrize("error", [RevocationIndeterminate, StoreUnavailable])
async def test_an_unknown_outcome_is_published_with_the_user(
    world: World, new_world: NewWorld, change: Change, call: str, error: type[StoreUnavailable]
) -> None:
    store: Any = LosesAnswers(world.store, error("no answer"))
    this = await new_world(store=store)
    success = await this.sign_in(await this.user("notes:read"))
    store.loses.add(call)
    with pytest.raises(error):
        await change(this, success)
    assert this.heard == [AnnouncementsMissed(success.auth_user_id)]


async def test_an_unknown_outcome_without_a_user_is_published_for_all_users(world: World, new_world: NewWorld) -> None:
    store: Any = LosesAnswers(world.store, RevocationIndeterminate("no answer"))
    this = await new_world(store=store)
    success = await this.sign_in(await this.user("notes:read"))
    store.loses |= {"delete_sessions", "set_session_scopes"}
    with pytest.raises(RevocationIndeterminate):
        await this.sessions.revoke_session(success.server_side_session_id)
    with pytest.raises(RevocationIndeterminate):
        await this.sessions.update_scopes(session_id=success.server_side_session_id, scopes=set())
    assert this.heard == [AnnouncementsMissed(None)] * 2


async def test_an_unknown_outcome_of_a_sign_in_that_replaces_no_session_is_not_published(
    world: World, new_world: NewWorld
) -> None:
    store: Any = LosesAnswers(world.store, StoreUnavailable("no answer"))
    this = await new_world(store=store)
    store.loses.add("insert_session")
    with pytest.raises(StoreUnavailable):
        await this.sign_in(await this.user())
    assert this.heard == []


@WITH_TRANSACTIONS
@EACH_CHANGE
async def test_a_failure_in_the_applications_transaction_is_not_published(
    world: World, new_world: NewWorld, change: Change, call: str
) -> None:
    store: Any = LosesAnswers(world.store, StoreUnavailable("the connection is gone"))
    this = await new_world(store=store)
    success = await this.sign_in(await this.user("notes:read"))
    store.loses.add(call)
    with pytest.raises(StoreUnavailable):
        async with a_transaction(world.store, commits=True) as transaction:
            await change(this, success, transaction=transaction)
    assert this.heard == []
    assert await this.is_valid(success)


async def test_an_unknown_outcome_is_published_when_the_caller_is_cancelled(world: World, new_world: NewWorld) -> None:
    pausing = PausingStore(world.store)
    this = await new_world(store=pausing)
    success = await this.sign_in(await this.user("notes:read"))
    gate = pausing.pause_before("set_session_scopes")
    changing = asyncio.create_task(take_from_session(this, success))
    await gate.reached()
    changing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await changing
    assert this.heard == [AnnouncementsMissed(success.auth_user_id)]
