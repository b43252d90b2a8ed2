"""A hook that ends its transaction makes the call fail: no token is handed out whose session is gone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from coatcheck import ConfigurationError
from tests.kinds_of_store import WITH_TRANSACTIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck import AuthUser, NewAuthUser, SessionId, UserId
    from tests.worlds import NewWorld, World

    Act = Callable[[AsyncConnection], Awaitable[object]]


async def roll_back(connection: AsyncConnection) -> None:
    await connection.rollback()


async def roll_back_and_begin(connection: AsyncConnection) -> None:
    await connection.rollback()
    await connection.begin()


async def roll_back_by_hand(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql("ROLLBACK")


async def roll_back_and_begin_by_hand(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql("ROLLBACK")
    await connection.exec_driver_sql("BEGIN")


async def roll_back_in_an_orms_session(connection: AsyncConnection) -> None:
    async with AsyncSession(connection) as session:
        await session.execute(text("SELECT 1"))
        await session.rollback()


async def close(connection: AsyncConnection) -> None:
    await connection.close()


async def commit(connection: AsyncConnection) -> None:
    await connection.commit()


async def commit_by_hand(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql("COMMIT")


ROLLBACKS = [
    roll_back,
    roll_back_and_begin,
    roll_back_by_hand,
    roll_back_and_begin_by_hand,
    roll_back_in_an_orms_session,
    close,
]
COMMITS = [commit, commit_by_hand]


async def nothing(_connection: AsyncConnection) -> None:
    pass


async def roll_back_a_savepoint(connection: AsyncConnection) -> None:
    savepoint = await connection.begin_nested()
    await connection.execute(text("CREATE TABLE gone (id int)"))
    await savepoint.rollback()


async def commit_in_an_orms_session(connection: AsyncConnection) -> None:
    async with AsyncSession(connection) as session:
        await session.execute(text("SELECT 1"))
        await session.commit()


async def swallow_an_error(connection: AsyncConnection) -> None:
    async with connection.begin_nested():
        with suppress(DBAPIError):
            async with connection.begin_nested():
                await connection.execute(text("SELECT no_such_column"))


HARMLESS = [nothing, roll_back_a_savepoint, commit_in_an_orms_session, swallow_an_error]


async def of_sessions(new_world: NewWorld, act: Act) -> World:
    async def hook(_user: UserId, _session: SessionId, connection: AsyncConnection) -> None:
        await act(connection)

    return await new_world(on_session_created=hook)


async def of_new_users(new_world: NewWorld, act: Act, name: str) -> World:
    async def before(new: NewAuthUser, connection: AsyncConnection) -> NewAuthUser:
        await act(connection)
        return new

    async def after(_user: AuthUser, connection: AsyncConnection) -> None:
        await act(connection)

    return await new_world(hooks={name: before if name == "before_user_created" else after})


@WITH_TRANSACTIONS
@pytest.mark.parametrize("act", [*ROLLBACKS, *COMMITS])
async def test_a_sign_in_whose_hook_ends_its_transaction_fails(world: World, new_world: NewWorld, act: Act) -> None:
    user = await world.user()
    hooked = await of_sessions(new_world, act)
    with pytest.raises(ConfigurationError, match=r"^on_session_created has ended the transaction"):
        await hooked.sign_in(user)
    if act not in COMMITS:
        assert len(await world.sessions.list_sessions()) == 0


@WITH_TRANSACTIONS
@pytest.mark.parametrize("act", [one for one in ROLLBACKS if one is not close])
async def test_the_same_in_the_applications_transaction(world: World, new_world: NewWorld, act: Act) -> None:
    user = await world.user()
    hooked = await of_sessions(new_world, act)
    with pytest.raises(ConfigurationError, match=r"^on_session_created has ended the transaction"):
        async with hooked.store.transaction() as transaction:
            await hooked.sign_in(user, transaction=transaction)
    assert len(await world.sessions.list_sessions()) == 0


@WITH_TRANSACTIONS
async def test_a_session_that_was_to_be_replaced_stays_and_nobody_hears_of_its_end(
    world: World, new_world: NewWorld
) -> None:
    old = await world.sign_in(await world.user())
    caller = await world.tokens.validate_token(old.token)
    hooked = await of_sessions(new_world, roll_back)
    with pytest.raises(ConfigurationError):
        await hooked.sessions.create_session(old.auth_user_id, method="email", replacing=caller)
    assert await world.is_valid(old)
    assert hooked.heard == []


@WITH_TRANSACTIONS
@pytest.mark.parametrize("name", ["before_user_created", "after_user_created"])
@pytest.mark.parametrize("act", ROLLBACKS)
async def test_a_user_whose_hook_rolls_back_is_not_created(new_world: NewWorld, act: Act, name: str) -> None:
    hooked = await of_new_users(new_world, act, name)
    with pytest.raises(ConfigurationError, match=f"^{name} has ended the transaction"):
        await hooked.user()
    assert len(await hooked.auth.auth_users.list()) == 0


@WITH_TRANSACTIONS
@pytest.mark.parametrize("act", HARMLESS)
async def test_a_hook_that_leaves_its_transaction_open_may_use_savepoints_and_sessions(
    world: World, new_world: NewWorld, act: Act
) -> None:
    user = await world.user()
    hooked = await of_sessions(new_world, act)
    assert await hooked.is_valid(await hooked.sign_in(user))
    async with hooked.store.transaction() as transaction:
        success = await hooked.sign_in(user, transaction=transaction)
    assert await hooked.is_valid(success)


@WITH_TRANSACTIONS
async def test_a_hook_that_signs_in_again_runs_within_itself(world: World, new_world: NewWorld) -> None:
    user = await world.user()
    made: list[str] = []

    async def twice(connection: AsyncConnection) -> None:
        if not made:
            made.append("")
            success = await hooked.sign_in(user, transaction=connection)
            made.append(success.token)

    hooked = await of_sessions(new_world, twice)
    assert await hooked.is_valid(await hooked.sign_in(user))
    assert len(await world.sessions.list_sessions()) == len(made)
