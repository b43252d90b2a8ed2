"""Announcements beneath the protocol: the text, who else may write it, and what is lost and said to be."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
from contextlib import aclosing, closing
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from coatcheck.identifiers import SessionId, UserId
from coatcheck.scope import scope_set
from coatcheck.stores.announcement import MAX_BYTES, Announcement, decode, encode
from coatcheck.stores.records import SessionFilter
from coatcheck.stores.sql.postgresql import listener as postgresql_listener
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.stores.sql.sqlite import outbox as sqlite_outbox
from coatcheck.stores.sql.sqlite.store import SqliteStore
from coatcheck.testing.conformance.announcing import Listening
from coatcheck.testing.samples import ADA, sign_in
from tests.stores.harnesses import PostgresHarness, SqliteHarness, StandingClock

if TYPE_CHECKING:
    from pathlib import Path

SESSION = SessionId("019bea92-71f5-71cd-84bb-86c3d1c42710")
LONGEST_SCOPES = scope_set({f"{number:03}" + "~" * 252 for number in range(100)})


@pytest.mark.parametrize(
    "announcement",
    [
        Announcement(ADA),
        Announcement(ADA, spared=SESSION),
        Announcement(ADA, SESSION),
        Announcement(ADA, removed_scopes=scope_set({"a", "b"})),
        Announcement(UserId('o\'neil "%s" \\ \U0001f9e5'), SESSION, removed_scopes=frozenset()),
    ],
)
def test_what_is_written_is_read(announcement: Announcement) -> None:
    (text,) = encode(announcement, "somebody")
    assert decode(text) == ("somebody", announcement)


@pytest.mark.parametrize("user", ["\U0001f9e5" * 255, '"' * 255, "a"])
def test_no_text_is_longer_than_postgresql_carries(user: str) -> None:
    texts = list(encode(Announcement(UserId(user), SESSION, LONGEST_SCOPES, SESSION), "0123456789abcdef"))
    assert max(len(text.encode()) for text in texts) <= MAX_BYTES
    decoded = [decode(text) for text in texts]
    assert frozenset[str]().union(*(one[1].removed_scopes or () for one in decoded if one)) == LONGEST_SCOPES


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", '"ada"', "{", "[" * 100_000, '{"v":1}', '{"v":2,"user":"ada"}', '{"user":"ada"}'),
        *('{"v":1,"user":""}', '{"v":1,"user":5}', '{"v":1,"user":"ada","session":"x"}'),
        *('{"v":1,"user":"ada","except":null}', '{"v":1,"user":"ada","scopes":"admin"}'),
        *('{"v":1,"user":"ada","scopes":[1]}', '{"v":1,"user":"ada","scopes":[["a"]]}', '{"v":1,"user":"\\ud800"}'),
    ],
)
def test_what_is_no_announcement_is_none(text: str) -> None:
    assert decode(text) is None


def test_what_a_later_version_adds_is_passed_over() -> None:
    assert decode('{"v":1,"user":"ada","origin":"x","reason":"theft"}') == ("x", Announcement(ADA))


FOREIGN = json.dumps({"v": 1, "user": "ada", "session": SESSION.upper()}, indent=2)


@pytest.mark.postgres
async def test_a_server_in_another_language_may_announce_on_postgresql(postgres_dsn: str) -> None:
    async with PostgresStore(postgres_dsn) as store, Listening(store) as listening:
        foreign = await asyncpg.connect(postgres_dsn)
        await foreign.execute("SELECT pg_notify('coatcheck_announcements', $1)", FOREIGN)
        assert await listening.next() == Announcement(ADA, SESSION)
        await foreign.execute("NOTIFY coatcheck_announcements, 'what is this?'")
        assert await listening.next() is None
        await foreign.close()


async def test_a_server_in_another_language_may_announce_on_sqlite(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "a.db") as store, Listening(store) as listening:
        with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as foreign:
            insert = "INSERT INTO coatcheck_announcements (announced_at, text) VALUES (0, ?)"
            foreign.execute(insert, (FOREIGN,))
            assert await listening.next() == Announcement(ADA, SESSION)
            foreign.execute(insert, ("what is this?",))
            assert await listening.next() is None


@pytest.mark.postgres
async def test_a_connection_that_the_server_ends_is_made_again(postgres_dsn: str) -> None:
    async with (
        PostgresStore(postgres_dsn) as store,
        PostgresStore(postgres_dsn) as other,
        Listening(store) as listening,
    ):
        admin = await asyncpg.connect(postgres_dsn)
        ended = await admin.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        await admin.close()
        assert len(ended) == 1
        assert [await listening.next(), await listening.next()] == [None, None]  # lost, and found again
        session = await sign_in(other)
        await other.delete_sessions(SessionFilter(session_id=session.id))
        assert await listening.next() == Announcement(ADA, session.id)


@pytest.mark.postgres
async def test_a_line_that_carries_nothing_any_more_is_found_out(
    postgres_admin_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody says that it broke, as where a firewall forgets it: the heartbeat finds out."""
    monkeypatch.setattr(postgresql_listener, "_HEARTBEAT_SECONDS", 0.001)
    async with PostgresHarness(postgres_admin_dsn) as harness:
        monkeypatch.setattr(harness.store, "_timeout_seconds", 0.5)
        async with Listening(harness.store) as listening:
            harness.proxy.black_hole()
            assert await listening.next() is None


@pytest.mark.postgres
async def test_a_line_that_carries_nothing_before_it_listens_is_made_again(postgres_admin_dsn: str) -> None:
    async with PostgresHarness(postgres_admin_dsn) as harness:
        attempts = itertools.count()

        async def connect() -> asyncpg.Connection[asyncpg.Record]:
            await harness.proxy.heal()
            connection = await asyncpg.connect(harness.proxy.through(harness.dsn))
            if next(attempts) == 0:
                harness.proxy.black_hole()
            return connection

        async with aclosing(postgresql_listener.notifications(connect, timeout_seconds=0.2)) as heard:
            async with asyncio.timeout(30):
                assert await anext(heard) is None
            assert next(attempts) > 1


async def test_more_than_can_be_kept_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_listener, "_MAX_UNREAD", 3)
    inbox = postgresql_listener._Inbox()  # noqa: SLF001 (a flood of the server's would take long)
    for text in "abcd":
        inbox.put(None, 0, "", text)
    assert await inbox.take(0) == [None, "d"]


async def test_what_sqlite_has_forgotten_is_said_to_be_missing(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    async with harness, aclosing(sqlite_outbox.announcements(lambda: sqlite3.connect(harness.path))) as heard:
        assert await anext(heard) is None
        with harness.connection() as connection:  # one commit, and so one look
            for text in "abc":
                connection.execute(sqlite_outbox.INSERT, (0, text))
            connection.execute("DELETE FROM coatcheck_announcements WHERE text = 'a'")
        assert [await anext(heard) for _ in range(3)] == [None, "b", "c"]
        with harness.connection() as connection:
            connection.execute(sqlite_outbox.INSERT, (0, "d"))
        assert await anext(heard) == "d"


async def test_an_insert_that_is_rolled_back_leaves_no_gap(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    async with harness, aclosing(sqlite_outbox.announcements(lambda: sqlite3.connect(harness.path))) as heard:
        assert await anext(heard) is None
        with closing(sqlite3.connect(harness.path)) as connection:
            connection.execute(sqlite_outbox.INSERT, (0, "never"))
            connection.rollback()
            connection.execute(sqlite_outbox.INSERT, (0, "a"))
            connection.commit()
        assert await anext(heard) == "a"


async def test_sqlite_keeps_announcements_for_a_minute(tmp_path: Path) -> None:
    clock = StandingClock()
    async with SqliteStore(tmp_path / "a.db", clock=clock) as store:
        for seconds in (0, 59, 61, 130):
            clock.time_us += int(timedelta(seconds=seconds) / timedelta(microseconds=1))
            session = await sign_in(store)
            await store.delete_sessions(SessionFilter(session_id=session.id))
            await store.end_user_sessions(ADA)
        with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
            assert connection.execute("SELECT count(*) FROM coatcheck_announcements").fetchone() == (2,)


async def test_who_stops_listening_leaves_no_connection(tmp_path: Path) -> None:
    """Closed connections raise no ResourceWarning, which this suite turns into an error."""
    async with SqliteStore(tmp_path / "a.db") as store:
        listening = store.announcements()
        assert await anext(listening) is None
        waiting = asyncio.ensure_future(anext(listening))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await listening.aclose()
