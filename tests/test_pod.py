"""The pod: its store, its services and its lifespan."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from coatcheck import (
    AuthServices,
    ConfigurationError,
    NotOpenError,
    Pod,
    Scope,
    ServerSideSessionsConfig,
    ServerSideSessionsConfigFromPasswords,
    ServerSideSessionsTokenManager,
    StoreUnavailable,
)
from coatcheck.background.pruner import Pruner
from coatcheck.events import EventBus
from coatcheck.identifiers import UserId, new_session_id
from coatcheck.stores.records import EndedSession, ExpiredSweep, IdleSweep
from coatcheck.stores.sql.sqlite.store import SqliteStore
from tests.auth.other_manager import OtherTokenManager
from tests.servers.ports import free_port
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from pathlib import Path

    from coatcheck.identifiers import SessionId

KEY = "serverSideSessionKeyHashPepper"
VARIABLE = f"SERVERPOD_PASSWORD_{KEY}"


def pod_in(folder: Path, **options: object) -> Pod:
    return Pod(**{"config_dir": folder / "config", "environ": {VARIABLE: PEPPER}, **options})  # type: ignore[arg-type]  # options of several types


def builders() -> list[ServerSideSessionsConfig]:
    return [ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]


class TestPasswords:
    async def test_the_documented_use_of_a_pod_works(self, tmp_path: Path) -> None:
        folder = tmp_path / "config"
        folder.mkdir()
        (folder / "passwords.yaml").write_text(f"development:\n  {KEY}: '{PEPPER}'\n", encoding="utf-8")
        pod = pod_in(tmp_path, environ={})
        pepper = pod.get_password(KEY)
        assert pepper is not None
        auth = pod.initialize_auth_services(
            token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=pepper)]
        )
        assert isinstance(auth, AuthServices)
        assert pod.auth_services is auth
        async with pod:
            user = await auth.auth_users.create(scopes={Scope("notes:read")})
            success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
            info = await auth.token_manager.validate_token(success.token)
            assert info is not None
            assert len(await auth.token_manager.list_tokens(auth_user_id=user.id)) == 1
            await auth.auth_users.update(user.id, scopes={Scope("notes:write")})
            await auth.token_manager.revoke_token(token_id=info.auth_id)
            assert await auth.token_manager.validate_token(success.token) is None

    def test_the_pepper_is_taken_from_the_passwords(self, tmp_path: Path) -> None:
        lifetime = timedelta(days=30)
        auth = pod_in(tmp_path).initialize_auth_services(
            token_manager_builders=[ServerSideSessionsConfigFromPasswords(default_session_lifetime=lifetime)]
        )
        assert auth.get_token_manager(ServerSideSessionsTokenManager).issuer == "session"

    def test_a_missing_pepper_names_the_key_and_the_variable(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=f"{KEY}' is missing.*{VARIABLE}"):
            pod_in(tmp_path, environ={}).initialize_auth_services(
                token_manager_builders=[ServerSideSessionsConfigFromPasswords()]
            )

    def test_the_other_options_pass_through_and_are_checked(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="session_key_secret_length"):
            pod_in(tmp_path).initialize_auth_services(
                token_manager_builders=[ServerSideSessionsConfigFromPasswords(session_key_secret_length=1)]
            )

    @pytest.mark.parametrize(
        ("variables", "mode"),
        [
            ({}, "development"),
            ({"SERVERPOD_RUN_MODE": "staging"}, "staging"),
            ({"SERVERPOD_RUN_MODE": "staging", "COATCHECK_RUN_MODE": "production"}, "production"),
        ],
    )
    def test_the_run_mode_comes_from_the_environment(
        self, tmp_path: Path, variables: dict[str, str], mode: str
    ) -> None:
        assert pod_in(tmp_path, environ=variables).run_mode == mode
        assert pod_in(tmp_path, environ=variables, run_mode="test").run_mode == "test"


class TestStore:
    async def test_without_a_url_the_store_is_a_file_beside_the_config(self, tmp_path: Path) -> None:
        async with pod_in(tmp_path):
            assert (tmp_path / "coatcheck.db").is_file()

    async def test_the_variable_names_the_store_and_the_argument_wins(self, tmp_path: Path) -> None:
        environ = {"COATCHECK_STORE": f"sqlite:///{tmp_path}/by-variable.db"}
        async with pod_in(tmp_path, environ=environ):
            assert (tmp_path / "by-variable.db").is_file()
        async with pod_in(tmp_path, environ=environ, store=f"sqlite:///{tmp_path}/by-argument.db"):
            assert (tmp_path / "by-argument.db").is_file()

    @pytest.mark.parametrize(
        "url", ["mysql://root:hush@host/db", "sqlite:///", "sqlite:///:memory:", "sqlite://", "hush", "postgresql"]
    )
    def test_a_url_that_names_no_store_is_a_clear_error_without_the_url(self, tmp_path: Path, url: str) -> None:
        with pytest.raises(ConfigurationError, match=r"sqlite:///relative/path\.db") as caught:
            pod_in(tmp_path, store=url)
        assert "root:hush" not in str(caught.value)

    def test_a_password_in_the_store_url_is_not_shown(self, tmp_path: Path) -> None:
        pod = pod_in(tmp_path, store="postgresql://ann:hush@db.example:5432/app")
        assert repr(pod) == "Pod(PostgresStore(db.example/app), run_mode='development')"

    async def test_a_store_whose_folder_is_missing_does_not_open(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="there is no folder"):
            async with pod_in(tmp_path, store=f"sqlite:///{tmp_path}/no/such/folder.db"):
                pass

    @pytest.mark.postgres
    async def test_a_store_that_cannot_be_reached_is_unavailable(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable):
            async with pod_in(tmp_path, store=f"postgresql://ann@127.0.0.1:{free_port()}/notes"):
                pass

    async def test_a_call_before_the_pod_is_open_is_a_clear_error(self, tmp_path: Path) -> None:
        auth = pod_in(tmp_path).initialize_auth_services(token_manager_builders=builders())
        with pytest.raises(NotOpenError, match="async with pod"):
            await auth.token_manager.list_tokens()


class TestServices:
    def test_auth_services_before_initialize_auth_services_is_a_clear_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="initialize_auth_services"):
            _ = pod_in(tmp_path).auth_services

    def test_configuring_again_replaces_the_services(self, tmp_path: Path) -> None:
        pod = pod_in(tmp_path)
        first = pod.initialize_auth_services(token_manager_builders=builders())
        second = pod.initialize_auth_services(token_manager_builders=builders())
        assert pod.auth_services is second is not first

    def test_a_configuration_that_fails_leaves_the_services_as_they_were(self, tmp_path: Path) -> None:
        pod = pod_in(tmp_path)
        first = pod.initialize_auth_services(token_manager_builders=builders())
        with pytest.raises(ConfigurationError):
            pod.initialize_auth_services(token_manager_builders=[])
        assert pod.auth_services is first

    def test_a_manager_that_is_already_built_is_taken_as_it_is(self, tmp_path: Path) -> None:
        other = OtherTokenManager()
        auth = pod_in(tmp_path).initialize_auth_services(token_manager_builders=[other, *builders()])
        assert auth.get_token_manager(OtherTokenManager) is other
        assert auth.token_manager.primary is other

    def test_a_kind_of_manager_that_is_not_configured_is_a_clear_error(self, tmp_path: Path) -> None:
        auth = pod_in(tmp_path).initialize_auth_services(token_manager_builders=builders())
        with pytest.raises(
            ConfigurationError, match=r"OtherTokenManager is configured.*ServerSideSessionsTokenManager"
        ):
            auth.get_token_manager(OtherTokenManager)

    def test_an_item_that_is_neither_builder_nor_manager_is_a_clear_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="not dict; for server-side sessions"):
            pod_in(tmp_path).initialize_auth_services(token_manager_builders=[{}])  # type: ignore[list-item]  # the point of the test


class TestLifespan:
    async def test_waiting_touches_are_written_at_shutdown(self, tmp_path: Path) -> None:
        clock = _Clock()
        store = SqliteStore(tmp_path / "a.db", clock=clock)
        pod = pod_in(tmp_path, store=store)
        auth = pod.initialize_auth_services(token_manager_builders=builders())
        async with pod:
            user = await auth.auth_users.create()
            success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
            clock.now += 120_000_000
            assert await auth.token_manager.validate_token(success.token) is not None
        async with store:
            reading = await store.read_session(success.server_side_session_id)
        assert reading is not None
        assert reading.last_used_at_us == clock.now

    async def test_the_pod_prunes_in_the_background(self, tmp_path: Path) -> None:
        clock = _Clock()
        store = _WatchedStore(tmp_path / "a.db", clock=clock)
        pod = pod_in(tmp_path, store=store, prune_interval=timedelta(milliseconds=1))
        auth = pod.initialize_auth_services(
            token_manager_builders=[
                ServerSideSessionsConfig(session_key_hash_pepper=PEPPER, default_session_lifetime=timedelta(seconds=1))
            ]
        )
        async with pod:
            user = await auth.auth_users.create()
            success = await auth.token_manager.create_token(auth_user_id=user.id, method="email")
            clock.now += 1_000_000
            await store.pruned.wait()
            assert await store.read_session(success.server_side_session_id) is None

    async def test_one_process_at_a_time_prunes(self, tmp_path: Path) -> None:
        clock = _Clock()
        interval = timedelta(minutes=10)
        async with SqliteStore(tmp_path / "a.db", clock=clock) as store:
            first, second = (Pruner(store, EventBus(), interval=interval) for _ in range(2))
            assert await first.prune() == 0
            assert await second.prune() is None
            clock.now += 600_000_000
            assert await second.prune() == 0
            assert await first.prune() is None

    @pytest.mark.parametrize(
        ("lock_for", "locks", "pruned"),
        [
            pytest.param(timedelta(minutes=1), 1, 1500, id="not half of it is over"),
            pytest.param(timedelta(0), 2, 500, id="it is over, and somebody else has it"),
        ],
    )
    async def test_a_long_prune_renews_its_lock_when_it_has_to(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lock_for: timedelta, locks: int, pruned: int
    ) -> None:
        store = _FullStore(tmp_path / "a.db")
        pruner = Pruner(store, EventBus())
        monkeypatch.setattr(pruner, "_lock_for", lock_for)
        monkeypatch.setattr("coatcheck.background.pruner._PAUSE_SECONDS", 0)
        assert await pruner.prune() == pruned
        assert store.locks == locks

    async def test_pruning_goes_on_after_an_outage(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        store = _WatchedStore(tmp_path / "a.db", failures=2)
        with caplog.at_level(logging.WARNING, logger="coatcheck"):
            async with pod_in(tmp_path, store=store, prune_interval=timedelta(milliseconds=1)):
                await store.tried_again.wait()
        assert [record.message for record in caplog.records] == ["pruning put off: down, for the test"] * 2

    def test_a_prune_interval_of_zero_is_a_clear_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="prune_interval"):
            pod_in(tmp_path, prune_interval=timedelta(0))


class _Clock:
    now = 1_800_000_000_000_000

    def now_us(self) -> int:
        return self.now


class _FullStore(SqliteStore):
    """A store with three chunks of expired sessions, which gives the lock once."""

    locks = 0
    expired = 1500

    async def try_lock(self, name: str, holder: str, duration: timedelta) -> bool:
        del name, holder, duration
        self.locks += 1
        return self.locks == 1

    async def prune_expired(self, limit: int) -> ExpiredSweep:
        deleted = min(limit, self.expired)
        self.expired -= deleted
        ended = tuple(EndedSession(UserId("ada"), new_session_id(UserId("ada"))) for _ in range(deleted))
        return ExpiredSweep(self.expired == 0, ended=ended)

    async def prune_idle(self, after: SessionId | None, window: int) -> IdleSweep:
        del after, window
        return IdleSweep(None)


class _WatchedStore(SqliteStore):
    """A store that tells when sessions were pruned, and that can fail to give the lock a few times."""

    def __init__(self, path: Path, *, clock: _Clock | None = None, failures: int = 0) -> None:
        super().__init__(path, clock=clock)
        self.pruned = asyncio.Event()
        self.tried_again = asyncio.Event()
        self._failures = failures

    async def try_lock(self, name: str, holder: str, duration: timedelta) -> bool:
        if self._failures:
            self._failures -= 1
            raise StoreUnavailable("down, for the test")
        self.tried_again.set()
        return await super().try_lock(name, holder, duration)

    async def prune_expired(self, limit: int) -> ExpiredSweep:
        sweep = await super().prune_expired(limit)
        if sweep.ended:
            self.pruned.set()
        return sweep
