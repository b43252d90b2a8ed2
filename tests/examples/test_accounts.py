"""Signing up and in below the pages, where a test chooses the interleaving."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from argon2 import PasswordHasher
from sqlalchemy import func, select

from accounts import Accounts, InvalidSignUpError, WrongCredentialsError
from coatcheck import (
    ClientInfo,
    Pod,
    ServerSideSessionsConfigFromPasswords,
    ServerSideSessionsTokenManager,
    SignInSupersededError,
    StoreUnavailable,
    UserBlockedError,
    UserNotFoundError,
)
from database import create_tables, metadata, transaction
from devices import Devices
from rendering import ago
from tests.examples.notes_server import PASSWORD, PEPPER
from tests.servers.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coatcheck import AuthServices, AuthSuccess

WRONG = "not the password"


class Office:
    """The parts of the application that sign people in, on the test's own store."""

    def __init__(self, store_url: str) -> None:
        self.pod = Pod(store_url, environ=PEPPER, config_dir="no-such-folder", prune_interval=None)
        self.auth: AuthServices = self.pod.initialize_auth_services(
            token_manager_builders=[ServerSideSessionsConfigFromPasswords()]
        )
        self.accounts = Accounts(self.pod.store, self.auth)
        sessions = self.auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions
        self.devices = Devices(sessions)

    async def is_live(self, success: AuthSuccess) -> bool:
        return await self.auth.token_manager.validate_token(success.token) is not None

    async def counts(self) -> dict[str, int]:
        """The number of rows in each table of the example, its users and sessions included."""
        async with self.pod.store.transaction() as tx:
            counts = {
                table.name: await tx.scalar(select(func.count()).select_from(table)) or 0
                for table in metadata.sorted_tables
            }
        counts["users"] = len(await self.auth.auth_users.list())
        counts["sessions"] = len(await self.auth.token_manager.list_tokens())
        return counts


@pytest.fixture
async def office(store_url: str) -> AsyncIterator[Office]:
    office = Office(store_url)
    async with office.pod:
        await create_tables(office.pod.store)
        yield office


class TestSigningUp:
    async def test_an_e_mail_that_is_taken_leaves_no_user_and_no_session(self, office: Office, ada: str) -> None:
        await office.accounts.sign_up(ada, PASSWORD)
        before = await office.counts()
        with pytest.raises(InvalidSignUpError) as refusal:
            await office.accounts.sign_up(f" {ada.upper()} ", "another password")
        assert "already" in refusal.value.errors["email"]
        assert await office.counts() == before

    async def test_of_two_sign_ups_at_once_with_one_e_mail_one_is_made(self, office: Office, ada: str) -> None:
        before = await office.counts()
        outcomes = await asyncio.gather(
            *(office.accounts.sign_up(ada, PASSWORD) for _ in range(3)), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AuthSuccess", *["InvalidSignUpError"] * 2]
        assert await office.counts() == {
            **before,
            **{name: before[name] + 1 for name in ("notes_accounts", "users", "sessions")},
        }

    async def test_a_sign_up_that_fails_does_not_end_the_session_it_was_to_replace(
        self, office: Office, ada: str
    ) -> None:
        old = await office.accounts.sign_up(ada, PASSWORD)
        caller = await office.auth.token_manager.validate_token(old.token)
        with pytest.raises(InvalidSignUpError):
            await office.accounts.sign_up(ada, PASSWORD, replacing=caller)
        assert await office.is_live(old)

    @pytest.mark.parametrize(
        "email", ["", "ada", "ada@nowhere", "a da@example.org", "ada@example.org\x00", "a" * 250 + "@b.cd"]
    )
    async def test_a_text_that_is_not_an_e_mail_address_is_refused_before_anything_is_stored(
        self, office: Office, email: str
    ) -> None:
        before = await office.counts()
        with pytest.raises(InvalidSignUpError) as refusal:
            await office.accounts.sign_up(email, "short")
        assert set(refusal.value.errors) == {"email", "password"}
        assert await office.counts() == before


class TestSigningIn:
    async def test_signing_out_everywhere_while_the_password_is_checked_stops_the_sign_in(
        self, office: Office, ada: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = await office.accounts.sign_up(ada, PASSWORD)
        check = office.accounts._passwords.is_correct  # noqa: SLF001 (the moment in between)

        async def check_and_sign_out_everywhere(*arguments: Any) -> bool:
            is_correct = await check(*arguments)
            await office.auth.token_manager.revoke_all_tokens(auth_user_id=first.auth_user_id)
            return is_correct

        monkeypatch.setattr(office.accounts._passwords, "is_correct", check_and_sign_out_everywhere)  # noqa: SLF001
        with pytest.raises(SignInSupersededError):
            await office.accounts.sign_in(ada, PASSWORD)
        assert len(await office.auth.token_manager.list_tokens(auth_user_id=first.auth_user_id)) == 0

    async def test_a_sign_in_that_is_refused_leaves_the_old_session_alone(self, office: Office, ada: str) -> None:
        old = await office.accounts.sign_up(ada, PASSWORD)
        caller = await office.auth.token_manager.validate_token(old.token)
        with pytest.raises(WrongCredentialsError):
            await office.accounts.sign_in(ada, WRONG, replacing=caller)
        assert await office.is_live(old)
        await office.accounts.sign_in(ada, PASSWORD, replacing=caller)
        assert not await office.is_live(old)

    async def test_an_unknown_e_mail_costs_the_same_work_as_a_known_one(
        self, office: Office, ada: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await office.accounts.sign_up(ada, PASSWORD)
        done: list[str] = []
        check, begin = office.accounts._passwords.is_correct, office.auth.token_manager.begin_sign_in  # noqa: SLF001

        async def counted_check(*arguments: Any) -> bool:
            done.append("checked a password")
            return await check(*arguments)

        async def counted_begin(*arguments: Any, **options: Any) -> Any:
            done.append("began a sign-in")
            return await begin(*arguments, **options)

        monkeypatch.setattr(office.accounts._passwords, "is_correct", counted_check)  # noqa: SLF001
        monkeypatch.setattr(office.auth.token_manager, "begin_sign_in", counted_begin)
        for email in (ada, "nobody@example.org", "no e-mail at all", "\x00"):
            done.clear()
            with pytest.raises(WrongCredentialsError):
                await office.accounts.sign_in(email, WRONG)
            assert done == ["began a sign-in", "checked a password"]

    async def test_a_hash_with_weaker_parameters_is_renewed_when_its_password_is_used(
        self, office: Office, ada: str
    ) -> None:
        success = await office.accounts.sign_up(ada, PASSWORD)
        weak = PasswordHasher(time_cost=1, memory_cost=1024)
        accounts = metadata.tables["notes_accounts"]
        mine = accounts.c.user_id == success.auth_user_id
        async with office.pod.store.transaction() as tx:
            await tx.execute(accounts.update().where(mine).values(password_hash=weak.hash(PASSWORD)))
        await office.accounts.sign_in(ada, PASSWORD)
        async with office.pod.store.transaction() as tx:
            known_hash = await tx.scalar(select(accounts.c.password_hash).where(mine))
        assert known_hash is not None
        assert not PasswordHasher().check_needs_rehash(known_hash)
        await office.accounts.sign_in(ada, PASSWORD)

    async def test_a_blocked_or_deleted_user_cannot_sign_in(self, office: Office, ada: str) -> None:
        user_id = (await office.accounts.sign_up(ada, PASSWORD)).auth_user_id
        await office.auth.auth_users.update(user_id, blocked=True)
        with pytest.raises(UserBlockedError):
            await office.accounts.sign_in(ada, PASSWORD)
        with pytest.raises(WrongCredentialsError):  # the reason is shown only with the right password
            await office.accounts.sign_in(ada, WRONG)
        await office.auth.auth_users.delete(user_id)
        with pytest.raises(UserNotFoundError):
            await office.auth.auth_users.get(user_id)
        with pytest.raises(WrongCredentialsError):
            await office.accounts.sign_in(ada, PASSWORD)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'notes.db'}"
    dsn: str = request.getfixturevalue("postgres_dsn")
    return dsn


async def test_processes_that_start_at_once_agree_about_the_tables(empty_store_url: str, ada: str) -> None:
    offices = [Office(empty_store_url) for _ in range(4)]
    async with AsyncExitStack() as open_pods:
        for office in offices:
            await open_pods.enter_async_context(office.pod)
        await asyncio.gather(*(create_tables(office.pod.store) for office in offices))
        success = await offices[0].accounts.sign_up(ada, PASSWORD)
        assert await offices[-1].is_live(success)


@pytest.mark.postgres
async def test_a_database_that_goes_away_in_the_middle_is_an_outage_like_any_other(postgres_dsn: str) -> None:
    port = urlsplit(postgres_dsn).port
    assert port is not None
    async with Proxy(port) as proxy:
        office = Office(postgres_dsn.replace(f":{port}/", f":{proxy.port}/"))
        async with office.pod:
            with pytest.raises(StoreUnavailable):
                async with transaction(office.pod.store) as tx:
                    await tx.execute(select(1))
                    await proxy.cut()
                    await tx.execute(select(1))
            await proxy.heal()
            async with transaction(office.pod.store) as tx:
                assert await tx.scalar(select(1)) == 1


class TestDevices:
    async def test_each_device_has_its_label(self, office: Office, ada: str) -> None:
        first = await office.accounts.sign_up(ada, PASSWORD, client=ClientInfo("curl"))
        second = await office.accounts.sign_in(ada, PASSWORD)
        caller = await office.auth.token_manager.validate_token(second.token)
        assert caller is not None
        assert [device.label for device in await office.devices.of(caller)] == ["Unknown device", "curl"]
        await office.devices.end(caller, first.server_side_session_id)
        assert [device.is_this for device in await office.devices.of(caller)] == [True]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "just now"), (59, "just now"), (60, "1 minute ago"), (7_199, "1 hour ago"), (172_800, "2 days ago")],
)
def test_times_are_shown_in_words(seconds: int, words: str) -> None:
    now = datetime.now(UTC)
    assert ago(now - timedelta(seconds=seconds), now) == words
