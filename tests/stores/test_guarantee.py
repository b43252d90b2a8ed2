"""What a store says it can promise, against real servers in the states that lower it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from coatcheck import ConfigurationError, Guarantee, GuaranteeLevel, Pod, StoreUnavailable
from coatcheck.background.guarantee_watch import GuaranteeWatch
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.sql.postgresql.guarantee import judge_postgresql
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.stores.sql.sqlite.guarantee import file_system_of, judge_sqlite
from coatcheck.stores.sql.sqlite.store import SqliteStore
from coatcheck.testing.samples import ADA, insert, new_session, register
from tests.servers.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coatcheck.stores.store import Store

SOUND_SERVER = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "synchronous_standby_names": "",
    "transaction_read_only": "off",
    "in_recovery": "off",
}
SOUND_FILE = {"journal_mode": "wal", "synchronous": "FULL", "file_system": "ext4"}
WITH_STANDBYS = {"synchronous_standby_names": "ANY 1 (a, b)"}


@pytest.mark.parametrize(
    ("settings", "standbys", "level", "reason"),
    [
        ({}, [], GuaranteeLevel.STRICT, None),
        ({"synchronous_commit": "remote_apply"}, [], GuaranteeLevel.STRICT, None),
        (WITH_STANDBYS, ["async", "sync"], GuaranteeLevel.STRICT, None),
        (WITH_STANDBYS, ["quorum", "quorum"], GuaranteeLevel.STRICT, None),
        (WITH_STANDBYS, [], GuaranteeLevel.STRICT_UNTIL_FAILOVER, "none is connected"),
        (WITH_STANDBYS, ["async"], GuaranteeLevel.STRICT_UNTIL_FAILOVER, "none is connected"),
        (WITH_STANDBYS, ["async", None], GuaranteeLevel.STRICT_UNTIL_FAILOVER, "may not see whether one is connected"),
        (WITH_STANDBYS, ["sync", None], GuaranteeLevel.STRICT, None),
        ({}, ["async"], GuaranteeLevel.STRICT_UNTIL_FAILOVER, "no commit waits for them"),
        ({}, [None], GuaranteeLevel.STRICT_UNTIL_FAILOVER, "no commit waits for them"),
        ({"fsync": "off"}, [], GuaranteeLevel.STRICT_UNTIL_POWER_LOSS, "fsync is off"),
        ({"full_page_writes": "off"}, [], GuaranteeLevel.STRICT_UNTIL_POWER_LOSS, "full_page_writes is off"),
        ({"synchronous_commit": "local"}, [], GuaranteeLevel.STRICT_UNTIL_CRASH, "synchronous_commit"),
        ({"in_recovery": "on"}, [], GuaranteeLevel.EVENTUAL, "a standby"),
        ({"transaction_read_only": "on"}, [], GuaranteeLevel.EVENTUAL, "a standby"),
        ({"fsync": "off", "in_recovery": "on"}, ["async"], GuaranteeLevel.EVENTUAL, "a standby"),
    ],
)
def test_a_server_is_judged_by_the_weakest_of_its_settings(
    settings: dict[str, str], standbys: list[str | None], level: GuaranteeLevel, reason: str | None
) -> None:
    check(judge_postgresql(SOUND_SERVER | settings, standbys), level, reason)


@pytest.mark.parametrize(
    ("settings", "level", "reason"),
    [
        ({}, GuaranteeLevel.STRICT, None),
        ({"synchronous": "EXTRA", "journal_mode": "delete", "file_system": "tmpfs"}, GuaranteeLevel.STRICT, None),
        ({"synchronous": "NORMAL"}, GuaranteeLevel.STRICT_UNTIL_POWER_LOSS, "synchronous is NORMAL"),
        ({"synchronous": "OFF"}, GuaranteeLevel.STRICT_UNTIL_POWER_LOSS, "synchronous is OFF"),
        ({"journal_mode": "memory"}, GuaranteeLevel.STRICT_UNTIL_CRASH, "journal_mode is memory"),
        ({"file_system": "nfs4"}, GuaranteeLevel.BEST_EFFORT, "on a network (nfs4)"),
    ],
)
def test_a_file_is_judged_by_the_weakest_of_its_settings(
    settings: dict[str, str], level: GuaranteeLevel, reason: str | None
) -> None:
    check(judge_sqlite(SOUND_FILE | settings), level, reason)


def test_what_cannot_be_probed_is_a_condition() -> None:
    assert "The file is on a disk of this machine." in judge_sqlite(SOUND_FILE | {"file_system": ""}).conditions
    assert "No other server takes over." in judge_postgresql(SOUND_SERVER, []).conditions
    assert any(
        "synchronous standby" in one for one in judge_postgresql(SOUND_SERVER | WITH_STANDBYS, ["sync"]).conditions
    )


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw,relatime shared:9 - nfs4 server:/srv rw,vers=4.2
31 30 8:2 / /srv/local rw,relatime - xfs /dev/sdb1 rw
32 22 0:41 / /a\\040share rw - cifs //host/share rw
33 22 0:42 / /twice rw - ext4 /dev/sdc1 rw
34 22 0:43 / /twice rw - nfs server:/twice rw
no line of a table
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/sessions.db", "ext4"),
        ("/srv/sessions.db", "nfs4"),
        ("/srv/local/sessions.db", "xfs"),
        ("/srvice/sessions.db", "ext4"),
        ("/a share/sessions.db", "cifs"),
        ("/twice/sessions.db", "nfs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == kind


def test_without_mounts_the_file_system_is_not_known() -> None:
    assert file_system_of(Path("/var/lib/sessions.db"), "") == ""


async def test_a_file_on_a_local_disk_is_strict(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "sessions.db") as store:
        guarantee = await store.guarantee()
    check(guarantee, GuaranteeLevel.STRICT, None)
    assert guarantee.settings["journal_mode"] == "wal"
    assert guarantee.settings["synchronous"] == "FULL"
    assert guarantee.settings["sqlite_version"] == sqlite3.sqlite_version
    assert str(guarantee).startswith(
        "STRICT: After a revocation has returned, no validation that starts later succeeds"
    )


@pytest.mark.postgres
async def test_a_server_without_fsync_is_strict_until_the_power_is_lost(postgres_dsn: str) -> None:
    async with PostgresStore(postgres_dsn) as store:  # the tests' own server, which saves the time
        guarantee = await store.guarantee()
    check(guarantee, GuaranteeLevel.STRICT_UNTIL_POWER_LOSS, "fsync is off on the server.")
    assert guarantee.settings["server_version"]


@pytest.mark.postgres
async def test_a_standby_lowers_the_level_unless_commits_wait_for_it() -> None:
    server = PostgresServer(durable=True)
    try:
        async with PostgresStore(server.dsn()) as store:
            check(await store.guarantee(), GuaranteeLevel.STRICT, None)
            admin = await asyncpg.connect(server.dsn())
            with log_receiver(server):
                await until(admin, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'")
                check(await store.guarantee(), GuaranteeLevel.STRICT_UNTIL_FAILOVER, "no commit waits")
                await admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                await admin.execute("SELECT pg_reload_conf()")
                await until(admin, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
                check(await store.guarantee(), GuaranteeLevel.STRICT, None)
            await until(admin, "SELECT count(*) = 0 FROM pg_stat_replication")
            check(await store.guarantee(), GuaranteeLevel.STRICT_UNTIL_FAILOVER, "none is connected")
            await admin.close()
    finally:
        server.remove()


@pytest.mark.postgres
async def test_a_role_that_may_not_see_the_standbys_is_told_so_and_what_to_grant() -> None:
    server = PostgresServer(durable=True, settings={"synchronous_standby_names": "*"})
    try:
        admin = await asyncpg.connect(server.dsn())
        with log_receiver(server):
            await until(admin, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
            await admin.execute("CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app")
            async with PostgresStore(server.dsn().replace("postgres@", "app@")) as store:
                may_not_see = "may not see whether one is connected: GRANT pg_read_all_stats"
                check(await store.guarantee(), GuaranteeLevel.STRICT_UNTIL_FAILOVER, may_not_see)
                await admin.execute("GRANT pg_read_all_stats TO app")
                check(await store.guarantee(), GuaranteeLevel.STRICT, None)
        await admin.close()
    finally:
        server.remove()


@pytest.mark.postgres
async def test_what_we_write_in_a_weak_transaction_of_the_application_is_durable(postgres_dsn: str) -> None:
    async with PostgresStore(postgres_dsn) as store:
        await register(store)
        session = await insert(store, new_session())
        weak = {"server_settings": {"synchronous_commit": "off"}}
        url = postgres_dsn.replace("postgresql://", "postgresql+asyncpg://")
        engine = create_async_engine(url, connect_args=weak)
        shown = text("SHOW synchronous_commit")
        async with engine.connect() as connection:
            async with connection.begin():
                assert (await connection.execute(shown)).scalar_one() == "off"
                assert (await store.delete_sessions(SessionFilter(session_id=session.id), transaction=connection)).ended
                assert (await connection.execute(shown)).scalar_one() == "on"
            assert (await connection.execute(shown)).scalar_one() == "off"  # as it was, for what the application does
        await engine.dispose()
        assert not (await store.end_user_sessions(ADA)).ended


class TestPod:
    async def test_what_the_store_promises_is_logged(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="coatcheck.background.guarantee_watch"):
            async with pod_in(tmp_path, require=GuaranteeLevel.STRICT):
                pass
        (record,) = caplog.records
        assert record.levelno == logging.INFO
        assert "promises STRICT: After a revocation has returned" in record.getMessage()

    @pytest.mark.usefixtures("weak")
    async def test_less_than_strict_is_a_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="coatcheck.background.guarantee_watch"):
            async with pod_in(tmp_path):
                pass
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "Why not more: The file is on a network (nfs)" in record.getMessage()

    @pytest.mark.usefixtures("weak")
    async def test_the_pod_does_not_start_on_less_than_is_required(self, tmp_path: Path) -> None:
        pod = pod_in(tmp_path, require=GuaranteeLevel.STRICT_UNTIL_CRASH)
        with pytest.raises(ConfigurationError, match=r"does not promise STRICT_UNTIL_CRASH.*BEST_EFFORT.*\(nfs\)"):
            await pod.__aenter__()
        async with pod_in(tmp_path, require=GuaranteeLevel.BEST_EFFORT):
            pass

    def test_a_level_that_is_none_is_a_clear_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="GuaranteeLevel"):
            pod_in(tmp_path, require="STRICT")  # type: ignore[arg-type]  # on purpose

    @pytest.fixture
    def weak(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A machine whose mounts say that everything is on a network."""
        mounts = tmp_path / "mounts"
        mounts.write_text("22 1 8:1 / / rw - nfs server:/ rw\n")
        monkeypatch.setattr("coatcheck.stores.sql.sqlite.store._MOUNTS", mounts)


class ChangingStore:
    """Promises another level each time it is asked; None: it cannot answer."""

    def __init__(self, *levels: GuaranteeLevel | None) -> None:
        self._levels = list(levels)
        self.was_asked_for_all = asyncio.Event()

    def __repr__(self) -> str:
        return "the store"

    async def guarantee(self) -> Guarantee:
        if len(self._levels) == 1:
            self.was_asked_for_all.set()
        level = self._levels.pop(0) if len(self._levels) > 1 else self._levels[0]
        if level is None:
            raise StoreUnavailable("down, for the test")
        return Guarantee(level, (), (), {})


async def test_what_has_changed_is_told_once_and_an_outage_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    strict, weaker, weakest = (
        GuaranteeLevel.STRICT,
        GuaranteeLevel.STRICT_UNTIL_FAILOVER,
        GuaranteeLevel.BEST_EFFORT,
    )
    store = ChangingStore(strict, strict, None, weaker, weaker, None, weaker, weakest, weakest, strict, strict)
    watch = GuaranteeWatch(cast("Store", store), required=weaker, interval=timedelta(microseconds=1))
    with caplog.at_level(logging.INFO, logger="coatcheck"):
        await watch.start()
        await store.was_asked_for_all.wait()
        await watch.stop()
    told = [(record.levelname, record.getMessage().partition(": ")[0]) for record in caplog.records]
    assert told == [
        ("INFO", "the store promises STRICT"),
        ("WARNING", "the store promises STRICT_UNTIL_FAILOVER"),
        (
            "ERROR",
            "the store no longer promises STRICT_UNTIL_FAILOVER, which `require` asks for. It promises BEST_EFFORT",
        ),
        ("INFO", "the store promises STRICT"),
    ]


def pod_in(folder: Path, *, require: GuaranteeLevel | None = None) -> Pod:
    return Pod(f"sqlite:///{folder / 'sessions.db'}", config_dir=folder, environ={}, require=require)


def check(guarantee: Guarantee, level: GuaranteeLevel, reason: str | None) -> None:
    """The level, the reason for it in words and, whatever the level, what it depends on."""
    assert guarantee.level is level
    assert (reason is None) == (guarantee.reasons == ())
    assert reason is None or any(reason in one for one in guarantee.reasons)
    assert guarantee.conditions
    assert all(sentence.endswith(".") for sentence in (*guarantee.reasons, *guarantee.conditions, guarantee.promise))
    assert guarantee.level.name in str(guarantee)


@contextmanager
def log_receiver(server: PostgresServer) -> Iterator[None]:
    """Something that takes the server's log as a standby does: PostgreSQL's own pg_receivewal."""
    process = server.start_program("pg_receivewal", "--dbname", server.dsn(), "--directory", ".", "--synchronous")
    try:
        yield
    finally:
        process.terminate()
        process.wait()


async def until(connection: asyncpg.Connection[asyncpg.Record], question: str) -> None:
    while not await connection.fetchval(question):  # noqa: ASYNC110 (there is no event to wait for)
        await asyncio.sleep(0.01)
