"""An application gives users of its own: there is no second users table to fill, and every promise holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from coatcheck import (
    ConfigurationError,
    Scope,
    SignInSupersededError,
    UserBlockedError,
    UserId,
    UserNotFoundError,
)
from coatcheck.events import RevokedAuthenticationScope

if TYPE_CHECKING:
    from coatcheck import UserAccess
    from coatcheck.stores.store import Transaction
    from tests.worlds import NewWorld, World


@dataclass
class Account:
    """A row of the application's own table."""

    scopes: set[str]
    blocked: bool = False


@dataclass
class Accounts:
    """The application's users."""

    rows: dict[str, Account] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    looked_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def get(self, user_id: UserId, *, transaction: Transaction | None = None) -> UserAccess:
        account = self.rows.get(user_id)
        if account is None:
            raise UserNotFoundError(user_id)
        found = Account(set(account.scopes), account.blocked)
        self.looked_up.set()
        if self.gate is not None:
            await self.gate.wait()
        return found


@pytest.fixture
def accounts() -> Accounts:
    return Accounts({"ann": Account({"a", "b"}), "eve": Account(set(), blocked=True)})


@pytest.fixture
async def own(new_world: NewWorld, accounts: Accounts) -> World:
    return await new_world(user_source=accounts)


async def test_a_user_of_the_application_signs_in_with_the_applications_scopes(own: World) -> None:
    success = await own.sessions.create_session("ann", method="email")
    info = await own.tokens.validate_token(success.token)
    assert info is not None
    assert (info.user_identifier, info.scopes) == ("ann", {"a", "b"})


async def test_blocked_and_unknown_users_are_refused(own: World) -> None:
    with pytest.raises(UserBlockedError):
        await own.sessions.create_session("eve", method="email")
    with pytest.raises(UserNotFoundError):
        await own.sessions.create_session("nobody", method="email")
    assert len(await own.sessions.list_sessions()) == 0


async def test_a_change_of_scopes_reaches_live_sessions(own: World, accounts: Accounts) -> None:
    following = await own.sessions.create_session("ann", method="email")
    explicit = await own.sessions.create_session("ann", method="email", scopes={"a", "x"})
    accounts.rows["ann"].scopes = {"b", "c"}
    await own.sessions.update_scopes(auth_user_id="ann", scopes={"b", "c"})
    for success, scopes in ((following, {"b", "c"}), (explicit, {"x"})):
        info = await own.tokens.validate_token(success.token)
        assert info is not None
        assert info.scopes == scopes
    assert own.heard == [RevokedAuthenticationScope(UserId("ann"), frozenset({Scope("a")}))]


async def test_a_lost_scope_is_taken_from_the_users_first_session_with_own_scopes(
    own: World, accounts: Accounts
) -> None:
    await own.sessions.revoke_all_sessions("ann")  # creates the row, which has no scopes yet
    success = await own.sessions.create_session("ann", method="email", scopes={"a"})
    accounts.rows["ann"].scopes = {"b"}
    await own.sessions.update_scopes(auth_user_id="ann", scopes={"b"})
    info = await own.tokens.validate_token(success.token)
    assert info is not None
    assert info.scopes == set()


async def test_a_sign_in_that_read_the_old_scopes_gets_the_new_ones(own: World, accounts: Accounts) -> None:
    accounts.gate = asyncio.Event()
    sign_in = asyncio.create_task(own.sessions.create_session("ann", method="email"))
    await accounts.looked_up.wait()
    accounts.rows["ann"].scopes = {"new"}
    await own.sessions.update_scopes(auth_user_id="ann", scopes={"new"})
    accounts.gate.set()
    assert (await sign_in).scope_names == {"new"}


async def test_ending_all_sessions_ends_the_first_sign_in_ever_too(own: World, accounts: Accounts) -> None:
    accounts.gate = asyncio.Event()
    sign_in = asyncio.create_task(own.sessions.create_session("ann", method="email"))
    await accounts.looked_up.wait()
    await own.sessions.revoke_all_sessions("ann")
    accounts.gate.set()
    with pytest.raises(SignInSupersededError):
        await sign_in


async def test_the_stores_notes_about_the_applications_users_are_not_users(own: World, new_world: NewWorld) -> None:
    await own.sessions.create_session("ann", method="email")
    await own.sessions.revoke_all_sessions("bob")
    with pytest.raises(ConfigurationError, match="the application keeps the users"):
        _ = own.auth.auth_users
    plain = await new_world()
    assert len(await plain.auth.auth_users.list()) == 0
    with pytest.raises(UserNotFoundError):
        await plain.sessions.create_session("ann", method="email")
    assert (await plain.auth.auth_users.create(id="ann", scopes={"z"})).scopes == {"z"}
