"""Revocations against every call that may happen at the same time. The test chooses the interleaving."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from coatcheck import SignInSupersededError, TokenRefusal, UserBlockedError, UserNotFoundError
from coatcheck.testing import PausingStore
from tests.worlds import OTHER_PEPPER, PEPPER, NewWorld, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck import AuthSuccess, AuthUser

MINUTE = timedelta(minutes=1)


async def revoke_one(world: World, success: AuthSuccess) -> None:
    assert await world.sessions.revoke_session(success.server_side_session_id)


async def revoke_all(world: World, success: AuthSuccess) -> None:
    assert await world.sessions.revoke_all_sessions(success.auth_user_id) == (success.server_side_session_id,)


async def block(world: World, success: AuthSuccess) -> None:
    await world.auth.auth_users.update(success.auth_user_id, blocked=True)


async def delete_user(world: World, success: AuthSuccess) -> None:
    await world.auth.auth_users.delete(success.auth_user_id)


ENDINGS = [revoke_one, revoke_all, block, delete_user]


@pytest.mark.parametrize("end", ENDINGS)
async def test_an_urgent_touch_overtaken_by_a_revocation_answers_none(
    world: World, new_world: NewWorld, end: Callable[[World, AuthSuccess], Awaitable[None]]
) -> None:
    pausing = PausingStore(world.store)
    other = await new_world(store=pausing)
    success = await world.sign_in(await world.user(), expire_after_unused_for=MINUTE)
    await world.harness.advance(MINUTE - timedelta(milliseconds=500))
    gate = pausing.pause_before("touch_sessions")
    validation = asyncio.create_task(other.tokens.explain_token(success.token))
    await gate.reached()
    await end(world, success)
    gate.open()
    assert await validation is TokenRefusal.UNKNOWN
    assert await world.row(success) is None


@pytest.mark.parametrize("end", ENDINGS)
async def test_a_touch_and_a_rehash_that_come_after_a_revocation_revive_nothing(
    world: World, new_world: NewWorld, end: Callable[[World, AuthSuccess], Awaitable[None]]
) -> None:
    rotated = await new_world(session_key_hash_pepper=OTHER_PEPPER, fallback_session_key_hash_peppers=[PEPPER])
    success = await world.sign_in(await world.user())
    await world.harness.advance(2 * MINUTE)
    assert await rotated.is_valid(success)  # a touch and a rehash are waiting
    await end(world, success)
    await rotated.sessions.flush()
    assert await world.row(success) is None
    assert not await rotated.is_valid(success)


@pytest.mark.parametrize("end", ENDINGS)
async def test_a_change_of_scopes_that_comes_after_a_revocation_revives_nothing(
    world: World, new_world: NewWorld, end: Callable[[World, AuthSuccess], Awaitable[None]]
) -> None:
    pausing = PausingStore(world.store)
    other = await new_world(store=pausing)
    success = await world.sign_in(await world.user("a"))
    gate = pausing.pause_before("set_session_scopes")
    change = asyncio.create_task(other.sessions.update_scopes(session_id=success.server_side_session_id, scopes={"b"}))
    await gate.reached()
    await end(world, success)
    gate.open()
    assert not await change
    assert await world.row(success) is None


async def test_a_scope_taken_between_the_read_and_the_touch_stays_taken(world: World, new_world: NewWorld) -> None:
    """Serverpod writes back the whole row that it has read, and with it the scopes."""
    pausing = PausingStore(world.store)
    other = await new_world(store=pausing)
    user = await world.user("a", "b")
    success = await world.sign_in(user, expire_after_unused_for=MINUTE)
    await world.harness.advance(MINUTE - timedelta(milliseconds=500))
    gate = pausing.pause_before("touch_sessions")
    validation = asyncio.create_task(other.tokens.validate_token(success.token))
    await gate.reached()
    await world.auth.auth_users.update(user.id, scopes={"b"})
    gate.open()
    assert await validation is not None  # it began before the change
    row = await world.row(success)
    assert row is not None
    assert row.scopes == {"b"}
    assert row.last_used_at_us > row.created_at_us


async def test_ending_all_sessions_ends_a_sign_in_that_began_before(world: World) -> None:
    """The window is the check of the password: between `begin_sign_in` and `create_token`."""
    user = await world.user()
    attempt = await world.tokens.begin_sign_in(user.id)
    await world.sessions.revoke_all_sessions(user.id)
    with pytest.raises(SignInSupersededError):
        await world.tokens.create_token(auth_user_id=user.id, method="email", attempt=attempt)
    assert len(await world.sessions.list_sessions(user.id)) == 0
    again = await world.tokens.begin_sign_in(user.id)
    assert await world.is_valid(await world.tokens.create_token(auth_user_id=user.id, method="email", attempt=again))


@pytest.mark.parametrize("method", [None, "email", "google"])
@pytest.mark.parametrize("is_known", [True, False])
async def test_an_operator_who_deletes_a_user_s_sessions_ends_the_sign_ins_that_began_before(
    world: World, method: str | None, is_known: bool
) -> None:
    user, other = await world.user(), await world.user()
    attempt = await world.tokens.begin_sign_in(user.id if is_known else None)
    of_other = await world.tokens.begin_sign_in(other.id if is_known else None)
    await world.sessions.admin.delete_sessions(auth_user_id=user.id, method=method)
    with pytest.raises(SignInSupersededError):
        await world.sign_in(user, attempt=attempt)
    assert await world.is_valid(await world.sign_in(other, attempt=of_other))


async def test_an_operator_who_deletes_one_session_leaves_a_sign_in_under_way_alone(world: World) -> None:
    user = await world.user()
    success = await world.sign_in(user)
    attempt = await world.tokens.begin_sign_in(user.id)
    await world.sessions.admin.delete_sessions(auth_user_id=user.id, session_id=success.server_side_session_id)
    assert await world.is_valid(await world.sign_in(user, attempt=attempt))


async def test_sparing_one_session_does_not_spare_a_sign_in_under_way(world: World) -> None:
    user = await world.user()
    mine = await world.sign_in(user)
    attempt = await world.tokens.begin_sign_in(user.id)
    await world.sessions.revoke_all_sessions(user.id, except_session_id=mine.server_side_session_id)
    with pytest.raises(SignInSupersededError):
        await world.sign_in(user, attempt=attempt)
    assert await world.is_valid(mine)


async def test_a_sign_in_that_began_before_its_user_was_known_ends_too(world: World) -> None:
    """An ORM may hand out the old password's hash although it is read later: the attempt is older than any read."""
    user = await world.user()
    attempt = await world.tokens.begin_sign_in()
    await world.sessions.revoke_all_sessions(user.id)
    with pytest.raises(SignInSupersededError):
        await world.tokens.create_token(auth_user_id=user.id, method="email", attempt=attempt)
    assert len(await world.sessions.list_sessions(user.id)) == 0
    again = await world.tokens.begin_sign_in()
    assert await world.is_valid(await world.tokens.create_token(auth_user_id=user.id, method="email", attempt=again))


async def test_an_attempt_that_began_before_its_user_was_known_serves_for_any_user(world: World) -> None:
    attempt = await world.tokens.begin_sign_in()
    for user in (await world.user(), await world.user()):
        assert await world.is_valid(await world.sign_in(user, attempt=attempt))


async def test_an_attempt_is_valid_for_its_own_user_only(world: World) -> None:
    ann, bob = await world.user(), await world.user()
    attempt = await world.tokens.begin_sign_in(ann.id)
    with pytest.raises(ValueError, match="attempt was begun for another user"):
        await world.sign_in(bob, attempt=attempt)


async def ended_by_revocation(world: World, user: AuthUser) -> type[Exception]:
    await world.sessions.revoke_all_sessions(user.id)
    return SignInSupersededError


async def ended_by_block(world: World, user: AuthUser) -> type[Exception]:
    await world.auth.auth_users.update(user.id, blocked=True)
    return UserBlockedError


async def ended_by_deletion(world: World, user: AuthUser) -> type[Exception]:
    await world.auth.auth_users.delete(user.id)
    return UserNotFoundError


@pytest.mark.parametrize("end", [ended_by_revocation, ended_by_block, ended_by_deletion])
async def test_ending_all_sessions_ends_a_sign_in_that_has_read_its_user(
    world: World, new_world: NewWorld, end: Callable[[World, AuthUser], Awaitable[type[Exception]]]
) -> None:
    pausing = PausingStore(world.store)
    other = await new_world(store=pausing)
    user = await world.user()
    gate = pausing.pause_before("insert_session")
    sign_in = asyncio.create_task(other.sign_in(user))
    await gate.reached()
    expected = await end(world, user)
    gate.open()
    with pytest.raises(expected):
        await sign_in
    assert len(await world.sessions.list_sessions(user.id)) == 0


async def test_a_sign_in_overtaken_by_a_change_of_scopes_gets_the_new_ones(world: World, new_world: NewWorld) -> None:
    pausing = PausingStore(world.store)
    other = await new_world(store=pausing)
    user = await world.user("old")
    gate = pausing.pause_before("insert_session")
    sign_in = asyncio.create_task(other.sign_in(user))
    await gate.reached()
    await world.auth.auth_users.update(user.id, scopes={"new"})
    gate.open()
    success = await sign_in
    assert success.scope_names == {"new"}
    info = await world.tokens.validate_token(success.token)
    assert info is not None
    assert info.scopes == {"new"}


async def test_a_second_read_of_the_user_does_not_hide_a_revocation(world: World, new_world: NewWorld) -> None:
    pausing = PausingStore(world.store)
    other = await new_world(store=pausing)
    user = await world.user("old")
    gate = pausing.pause_before("insert_session")
    sign_in = asyncio.create_task(other.sign_in(user))
    await gate.reached()
    await world.sessions.update_scopes(auth_user_id=user.id, scopes={"new"})  # makes the sign-in read the user again
    await world.sessions.revoke_all_sessions(user.id)
    gate.open()
    with pytest.raises(SignInSupersededError):
        await sign_in


async def test_a_revocation_whose_caller_is_cancelled_still_happens(world: World, new_world: NewWorld) -> None:
    pausing = PausingStore(world.store)
    other = await new_world(store=pausing)
    success = await world.sign_in(await world.user())
    gate = pausing.pause_before("delete_sessions")
    revocation = asyncio.create_task(other.sessions.revoke_session(success.server_side_session_id))
    await gate.reached()
    revocation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await revocation
    assert await world.is_valid(success)
    gate.open()
    await other.sessions.close()  # waits for the revocation, as the pod does
    assert not await world.is_valid(success)
    assert len(other.heard) == 1
