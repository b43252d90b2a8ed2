"""Users kept in the store, and the effect of their changes on live sessions, on every store."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from coatcheck import InvalidArgumentError, NewAuthUser, Scope, UserBlockedError, UserNotFoundError
from coatcheck.background.relay import Relay
from coatcheck.events import RevokedAuthenticationScope, RevokedAuthenticationUser
from tests.kinds_of_store import WITH_TRANSACTIONS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck import AuthUser
    from coatcheck.events import Message
    from tests.worlds import NewWorld, World


class TestKeeping:
    async def test_a_new_user_has_no_scopes_and_is_not_blocked_by_default(self, world: World) -> None:
        user = await world.auth.auth_users.create()
        assert (user.scopes, user.blocked) == (frozenset(), False)
        assert str(uuid.UUID(user.id)) == user.id
        assert user == await world.auth.auth_users.get(user.id)
        assert user.created_at == await world.now()

    async def test_a_user_can_be_created_with_an_id_with_scopes_and_blocked(self, world: World) -> None:
        user = await world.auth.auth_users.create(id="käthe@example.com", scopes={"a"}, blocked=True)
        assert (user.id, user.scopes, user.blocked) == ("käthe@example.com", {Scope("a")}, True)

    async def test_a_uuid_is_kept_in_canonical_form(self, world: World) -> None:
        wanted = uuid.uuid4()
        user = await world.auth.auth_users.create(id=str(wanted).upper())
        assert user.id == str(wanted)
        assert await world.auth.auth_users.get(wanted) == user

    async def test_an_id_that_is_taken_is_a_clear_error_and_changes_nothing(self, world: World) -> None:
        user = await world.auth.auth_users.create(id="ann", scopes={"a"})
        with pytest.raises(InvalidArgumentError, match="'ann' is taken"):
            await world.auth.auth_users.create(id="ann")
        assert await world.auth.auth_users.get("ann") == user

    async def test_an_update_returns_the_new_model(self, world: World) -> None:
        user = await world.user("a")
        assert await world.auth.auth_users.update(user.id, scopes={"b"}) == replace(
            user, scopes=frozenset({Scope("b")})
        )
        assert (await world.auth.auth_users.update(user.id, blocked=True)).blocked
        after = await world.auth.auth_users.update(user.id, scopes=set(), blocked=False)
        assert (after.scopes, after.blocked) == (frozenset(), False)
        assert await world.auth.auth_users.update(user.id) == after

    async def test_an_unknown_user_is_not_found(self, world: World) -> None:
        for call in (
            world.auth.auth_users.get("nobody"),
            world.auth.auth_users.update("nobody", blocked=True),
            world.auth.auth_users.update("nobody", scopes={"a"}),
            world.auth.auth_users.delete("nobody"),
        ):
            with pytest.raises(UserNotFoundError, match="nobody"):
                await call
        assert len(await world.auth.auth_users.list()) == 0

    async def test_users_are_listed_in_pages(self, world: World) -> None:
        made = [await world.auth.auth_users.create(id=f"user {number}") for number in range(5)]
        first = await world.auth.auth_users.list(limit=3)
        rest = await world.auth.auth_users.list(limit=3, after=first.next_after)
        assert [*first, *rest] == made
        assert rest.next_after is None

    async def test_deleting_a_user_ends_their_sessions_and_is_announced(self, world: World) -> None:
        ann, bob = await world.user(), await world.user()
        anns, bobs = await world.sign_in(ann), await world.sign_in(bob)
        await world.auth.auth_users.delete(ann.id)
        assert not await world.is_valid(anns)
        assert await world.is_valid(bobs)
        assert world.heard == [RevokedAuthenticationUser(ann.id)]
        with pytest.raises(UserNotFoundError):
            await world.sign_in(ann)


class TestHooks:
    @WITH_TRANSACTIONS
    async def test_hooks_may_change_a_new_user_and_see_it_inside_the_transaction(self, new_world: NewWorld) -> None:
        counted: list[int] = []

        async def before(new: NewAuthUser, _connection: AsyncConnection) -> NewAuthUser:
            return replace(new, scopes=new.scopes | {Scope("added")}, blocked=True)

        async def after(user: AuthUser, connection: AsyncConnection) -> None:
            found = await connection.execute(
                text("SELECT count(*) FROM coatcheck_users WHERE id = :id"), {"id": user.id}
            )
            counted.append(found.scalar_one())

        world = await new_world(hooks={"before_user_created": before, "after_user_created": after})
        user = await world.user("asked")
        assert (user.scopes, user.blocked) == ({Scope("asked"), Scope("added")}, True)
        assert counted == [1]
        assert await world.auth.auth_users.get(user.id) == user

    @WITH_TRANSACTIONS
    async def test_if_a_hook_raises_there_is_no_user(self, new_world: NewWorld) -> None:
        async def refuse(_user: AuthUser, _connection: AsyncConnection) -> None:
            raise ZeroDivisionError

        world = await new_world(hooks={"after_user_created": refuse})
        with pytest.raises(ZeroDivisionError):
            await world.auth.auth_users.create(id="ann")
        assert len(await world.auth.auth_users.list()) == 0


class TestLiveSessions:
    async def test_a_scope_given_reaches_the_sessions_that_follow_the_user(self, world: World) -> None:
        user = await world.user("a")
        following, own = await world.sign_in(user), await world.sign_in(user, scopes={"a"})
        await world.auth.auth_users.update(user.id, scopes={"a", "b"})
        assert await scopes(world, following.token) == {"a", "b"}
        assert await scopes(world, own.token) == {"a"}
        assert world.heard == []

    async def test_a_scope_taken_leaves_all_sessions_and_is_announced(self, world: World) -> None:
        user = await world.user("a", "b")
        following = await world.sign_in(user)
        subset, unrelated = await world.sign_in(user, scopes={"a"}), await world.sign_in(user, scopes={"a", "x"})
        await world.auth.auth_users.update(user.id, scopes={"b"})
        assert await scopes(world, following.token) == {"b"}
        assert await scopes(world, subset.token) == set()
        assert await scopes(world, unrelated.token) == {"x"}
        assert world.heard == [RevokedAuthenticationScope(user.id, frozenset({Scope("a")}))]

    async def test_a_change_of_a_user_leaves_other_users_sessions_alone(self, world: World) -> None:
        ann, bob = await world.user("a"), await world.user("a")
        success = await world.sign_in(bob)
        await world.auth.auth_users.update(ann.id, scopes=set())
        assert await scopes(world, success.token) == {"a"}

    async def test_blocking_ends_all_sessions_at_once_and_is_announced(self, world: World) -> None:
        user = await world.user()
        success = await world.sign_in(user)
        await world.auth.auth_users.update(user.id, blocked=True)
        assert not await world.is_valid(success)
        assert world.heard == [RevokedAuthenticationUser(user.id)]
        with pytest.raises(UserBlockedError):
            await world.sign_in(user)
        await world.auth.auth_users.update(user.id, blocked=False)
        assert not await world.is_valid(success)
        assert await world.is_valid(await world.sign_in(user))

    @WITH_TRANSACTIONS
    async def test_a_change_of_a_user_that_rolls_back_reaches_no_session(self, world: World) -> None:
        user = await world.user("a")
        success = await world.sign_in(user)
        with pytest.raises(ZeroDivisionError):
            async with world.store.transaction() as tx:
                await world.auth.auth_users.update(user.id, scopes=set(), blocked=True, transaction=tx)
                raise ZeroDivisionError
        assert await scopes(world, success.token) == {"a"}
        assert world.heard == []

    @WITH_TRANSACTIONS
    async def test_a_change_in_a_transaction_is_announced_when_it_commits(self, world: World) -> None:
        user = await world.user("a")
        relay = Relay(world.store, world.pod.events)
        await relay.start()
        told = asyncio.Event()

        async def tell(_message: Message) -> None:
            told.set()

        world.pod.events.subscribe(tell)
        async with world.store.transaction() as tx:
            await world.auth.auth_users.update(user.id, blocked=True, transaction=tx)
            assert world.heard == []
        await told.wait()
        assert world.heard == [RevokedAuthenticationUser(user.id)]
        await relay.stop()


async def scopes(world: World, token: str) -> set[str] | None:
    info = await world.tokens.validate_token(token)
    return None if info is None else set(info.scopes)
