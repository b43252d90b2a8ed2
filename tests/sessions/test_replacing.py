"""A sign-in that replaces a session: it is one step, is announced, and keeps the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coatcheck import AuthenticationInfo, ClientInfo, SignInSupersededError
from coatcheck.events import RevokedAuthenticationAuthId
from coatcheck.testing.samples import a_transaction
from tests.kinds_of_store import WITH_TRANSACTIONS

if TYPE_CHECKING:
    from coatcheck import AuthSuccess
    from tests.worlds import World

LAPTOP = ClientInfo("Firefox on Linux", "Mozilla/5.0", "192.0.2.0/24")


async def caller(world: World, success: AuthSuccess) -> AuthenticationInfo:
    """The caller that a token stands for."""
    found = await world.tokens.validate_token(success.token)
    assert found is not None
    return found


async def test_the_replaced_session_ends_with_the_sign_in_and_is_announced(world: World) -> None:
    user = await world.user()
    old, spared = await world.sign_in(user), await world.sign_in(user)
    new = await world.tokens.create_token(auth_user_id=user.id, method="email", replacing=await caller(world, old))
    assert [await world.is_valid(success) for success in (old, spared, new)] == [False, True, True]
    assert world.heard == [RevokedAuthenticationAuthId(user.id, old.server_side_session_id)]


async def test_somebody_else_s_session_on_the_same_machine_ends_too(world: World) -> None:
    ann, bob = await world.user(), await world.user()
    anns = await world.sign_in(ann)
    bobs = await world.tokens.create_token(auth_user_id=bob.id, method="email", replacing=await caller(world, anns))
    assert not await world.is_valid(anns)
    assert await world.is_valid(bobs)
    assert world.heard == [RevokedAuthenticationAuthId(ann.id, anns.server_side_session_id)]


async def test_a_sign_in_that_is_refused_ends_nothing_and_announces_nothing(world: World) -> None:
    ann, bob = await world.user(), await world.user()
    anns = await world.sign_in(ann)
    attempt = await world.tokens.begin_sign_in(bob.id)
    await world.tokens.revoke_all_tokens(auth_user_id=bob.id)
    world.heard.clear()
    with pytest.raises(SignInSupersededError):
        await world.tokens.create_token(
            auth_user_id=bob.id, method="email", attempt=attempt, replacing=await caller(world, anns)
        )
    assert await world.is_valid(anns)
    assert world.heard == []


@WITH_TRANSACTIONS
@pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled back"])
async def test_in_the_applications_transaction_the_sign_in_and_the_end_happen_together(
    world: World, *, commits: bool
) -> None:
    """Every call takes part in the caller's transaction."""
    user = await world.user()
    old = await world.sign_in(user)
    replaced = await caller(world, old)
    async with a_transaction(world.store, commits=commits) as transaction:
        new = await world.tokens.create_token(
            auth_user_id=user.id, method="email", replacing=replaced, transaction=transaction
        )
        assert world.heard == []
    assert (await world.is_valid(old), await world.is_valid(new)) == (not commits, commits)


async def test_replacing_a_token_of_another_kind_ends_no_session(world: World) -> None:
    user = await world.user()
    foreign = AuthenticationInfo(user.id, frozenset(), "not-a-uuid")
    new = await world.tokens.create_token(auth_user_id=user.id, method="email", replacing=foreign)
    assert await world.is_valid(new)
    assert world.heard == []


async def test_lists_and_single_sessions_show_the_client_and_validation_does_not_read_it(world: World) -> None:
    user = await world.user()
    success = await world.tokens.create_token(auth_user_id=user.id, method="email", client=LAPTOP)
    plain = await world.sign_in(user)
    listed = {info.id: info.client for info in await world.sessions.list_sessions(user.id)}
    assert listed == {success.server_side_session_id: LAPTOP, plain.server_side_session_id: ClientInfo()}
    assert {token.token_id: token.client for token in await world.tokens.list_tokens(auth_user_id=user.id)} == listed
    found = await world.sessions.get_session(success.server_side_session_id)
    assert found is not None
    assert found.client == LAPTOP
    row = await world.row(success)
    assert row is not None
    assert not hasattr(row, "client")
