"""A complete store in memory: the shortest that keeps every promise of `stores/store.py`, and one for tests.

Its calls are in the order of the protocol. Each write is one step (`_write`) inside a transaction, the caller's or one
of its own, and the commit of that transaction announces what the step has ended or taken away (`step.announced`). The
transactions are in `database.py`, the rows in `tables.py`.

A call waits only while another's transaction is open: without an event loop, one `send(None)` runs it to its end.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from coatcheck.clock import duration_us
from coatcheck.errors import ConfigurationError, NotOpenError, StoreUnavailable
from coatcheck.opening import NOT_OPEN
from coatcheck.pages import Page
from coatcheck.stores.announcement import Announcement
from coatcheck.stores.given_positions import NUMBER, check_position
from coatcheck.stores.guarantee import Guarantee, GuaranteeLevel
from coatcheck.stores.records import (
    Change,
    ExpiredSweep,
    IdleSweep,
    Insertion,
    InsertRefusal,
    ListedSession,
    PepperCount,
    Position,
    ScopeChange,
    SessionFilter,
    SessionReading,
    UserChange,
    UserRecord,
)
from coatcheck.testing.memory.database import MemoryDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.clock import Clock
    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.records import NewSession, PepperRecord, Rehash, SessionUse
    from coatcheck.stores.store import InsideTransaction, Transaction
    from coatcheck.testing.memory.database import MemoryTransaction, Step
    from coatcheck.testing.memory.tables import Tables

_POSITION_FORM = re.compile(NUMBER)


class MemoryStore:
    """Sessions and users in the memory of this process: `Pod(store=MemoryStore())`. When it ends, they are gone."""

    has_transactions = True

    def __init__(self, *, clock: Clock | None = None, database: MemoryDatabase | None = None) -> None:
        """Not opened. `clock` None: this machine's. `database`: another store's, as a second process would have it."""
        self.database: MemoryDatabase = database or MemoryDatabase(clock)
        self._is_open = False

    def __repr__(self) -> str:
        """As it is made: there is nothing to connect to."""
        return "MemoryStore()"

    async def open(self) -> None:
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        async with self._write(None) as step:
            yield _as_connection(step.transaction)

    def read_tables(
        self,
        transaction: Transaction | None = None,  # noqa: ARG002 (it has no tables)
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        raise ConfigurationError(
            "MemoryStore holds no tables of an application's; test on a database that has them, by store= of the tester"
        )

    async def connection_of(self, transaction: Transaction) -> AsyncConnection:
        return _as_connection(self.database.checked(transaction))

    async def guarantee(self) -> Guarantee:
        self._read(None)  # raises where the store cannot answer
        gone = "When this process ends, everything is gone; no other process knows its sessions."
        return Guarantee(GuaranteeLevel.STRICT, reasons=(), conditions=(gone,), settings={"kept in": "memory"})

    def announcements(self) -> AsyncGenerator[Announcement | None, None]:
        return self.database.listen(self)

    # --- SessionReads ---

    async def read_session(self, session_id: SessionId) -> SessionReading | None:
        tables = self._read(None)
        found = tables.sessions.get(session_id)
        if found is None:
            return None
        one = found.session
        times = (one.last_used_at_us, one.expires_at_us, one.expire_after_unused_for_us)
        return SessionReading(one.id, one.user_id, one.scopes, *times, one.key, tables.now_us)

    async def touch_sessions(self, uses: Sequence[SessionUse]) -> frozenset[SessionId]:
        async with self._write(None) as step:
            there = [use for use in uses if use.session_id in step.tables.sessions]
            for use in sorted(there, key=lambda one: one.used_at_us):  # so that the latest counts
                step.tables.touch(use)
            return frozenset(use.session_id for use in there)

    async def rehash_sessions(self, rehashes: Sequence[Rehash]) -> None:
        async with self._write(None) as step:
            for rehash in rehashes:
                found = step.tables.sessions.get(rehash.session_id)
                if found is not None and found.session.key == rehash.old:
                    step.tables.update(replace(found.session, key=rehash.new))

    # --- Sessions ---

    async def insert_session(
        self,
        session: NewSession,
        *,
        expected_revocations: int,
        expected_rescopes: int | None,
        began_at: Position | None = None,
        user_scopes: frozenset[Scope] | None = None,
        inside_transaction: InsideTransaction | None = None,
        transaction: Transaction | None = None,
    ) -> Insertion | InsertRefusal:
        check_position(began_at, _POSITION_FORM)
        async with self._write(transaction) as step:
            user = step.tables.user(session.user_id)
            if user.epochs.revocations != expected_revocations or not (user.is_registered or user_scopes is not None):
                return InsertRefusal.USER_REVOKED
            if began_at is not None and step.tables.last_ending.get(user.id, 0) > int(began_at):
                return InsertRefusal.USER_REVOKED
            if expected_rescopes not in (None, user.epochs.rescopes):
                return InsertRefusal.USER_RESCOPED
            if session.id in step.tables.sessions:
                raise StoreUnavailable("the id of the new session is taken")

            if user_scopes is not None and (expected_rescopes is not None or user.id not in step.tables.users):
                step.tables.users[user.id] = replace(user, scopes=user.scopes | user_scopes)
            replaced = [one for one in step.tables.matching(SessionFilter()) if one.id == session.replaces]
            ending = step.tables.delete(replaced)
            inserted = session.inserted(step.tables.now_us)
            step.tables.sessions[session.id] = ListedSession(inserted, session.client)
            insertion = step.announced(Insertion(inserted, ended=ending.ended, announced=ending.announced))
            if inside_transaction is not None:
                await inside_transaction(_as_connection(step.transaction))
            return insertion

    async def list_sessions(
        self,
        which: SessionFilter,
        *,
        expired: bool | None = None,
        after: SessionId | None = None,
        limit: int = 100,
        transaction: Transaction | None = None,
    ) -> Page[ListedSession]:
        tables = self._read(transaction)
        found = [
            tables.sessions[one.id]
            for one in tables.matching(which, after=after)
            if expired in (None, tables.is_past_deadline(one) or tables.is_idle(one))
        ]
        return Page(found[:limit], next_after=found[limit - 1].session.id if len(found) > limit else None)

    async def set_session_scopes(
        self,
        session_id: SessionId,
        scopes: frozenset[Scope] | None,
        *,
        user_id: UserId | None = None,
        transaction: Transaction | None = None,
    ) -> ScopeChange | None:
        async with self._write(transaction) as step:
            for before in step.tables.matching(SessionFilter(user_id=user_id, session_id=session_id)):
                now = step.tables.user(before.user_id).scopes if scopes is None else scopes
                session = replace(before, scopes=now, follows_user=scopes is None)
                step.tables.update(session)
                removed = (before.scopes or frozenset()) - now
                lost = (Announcement(session.user_id, session.id, removed),) if removed else ()
                return step.announced(ScopeChange(session, removed, announced=lost))
            return None

    async def delete_sessions(
        self, which: SessionFilter, *, limit: int | None = None, transaction: Transaction | None = None
    ) -> Change:
        async with self._write(transaction) as step:
            return step.announced(step.tables.delete(step.tables.matching(which)[:limit]))

    async def end_user_sessions(
        self,
        user_id: UserId,
        *,
        method: str | None = None,
        except_session_id: SessionId | None = None,
        transaction: Transaction | None = None,
    ) -> Change:
        async with self._write(transaction) as step:
            return step.announced(step.tables.end_user(user_id, method=method, spared=except_session_id))

    # --- Users ---

    async def read_user(self, user_id: UserId, *, transaction: Transaction | None = None) -> UserRecord | None:
        return self._read(transaction).users.get(user_id)

    async def read_position(self, *, transaction: Transaction | None = None) -> Position:
        self._read(transaction)  # raises where that is none of ours
        return Position(str(self._read(None).endings))  # without the endings of the transaction, which may be undone

    async def insert_user(
        self, user_id: UserId, *, scopes: frozenset[Scope], blocked: bool, transaction: Transaction | None = None
    ) -> UserRecord | None:
        async with self._write(transaction) as step:
            before, now_us = step.tables.user(user_id), step.tables.now_us
            if before.is_registered:
                return None
            user = UserRecord(user_id, now_us, scopes, blocked, is_registered=True, epochs=before.epochs)
            step.tables.users[user_id] = user
            return user

    async def list_users(
        self, *, after: UserId | None = None, limit: int = 100, transaction: Transaction | None = None
    ) -> Page[UserRecord]:
        users = sorted(self._read(transaction).users.values(), key=lambda user: user.id)
        found = [user for user in users if user.is_registered and (after is None or user.id > after)]
        return Page(found[:limit], next_after=found[limit - 1].id if len(found) > limit else None)

    async def set_user_scopes(
        self, user_id: UserId, scopes: frozenset[Scope], *, transaction: Transaction | None = None
    ) -> UserChange:
        async with self._write(transaction) as step:
            return step.announced(step.tables.rescope_user(user_id, scopes))

    async def update_user(
        self,
        user_id: UserId,
        *,
        scopes: frozenset[Scope] | None = None,
        blocked: bool | None = None,
        transaction: Transaction | None = None,
    ) -> UserChange | None:
        async with self._write(transaction) as step:
            user = step.tables.user(user_id)
            if not user.is_registered:
                return None
            rescope = UserChange(user) if scopes is None else step.tables.rescope_user(user_id, scopes)
            ending = step.tables.end_user(user_id) if blocked else Change()
            user = step.tables.users[user_id]
            user = replace(user, blocked=user.blocked if blocked is None else blocked)
            step.tables.users[user_id] = user
            announced = rescope.announced + ending.announced
            return step.announced(UserChange(user, rescope.removed_scopes, ended=ending.ended, announced=announced))

    async def delete_user(self, user_id: UserId, *, transaction: Transaction | None = None) -> Change | None:
        async with self._write(transaction) as step:
            if not step.tables.user(user_id).is_registered:
                return None
            ending = step.tables.end_user(user_id)
            user = step.tables.users[user_id]  # its epochs stay, for sign-ins that are under way
            step.tables.users[user_id] = replace(user, scopes=frozenset(), blocked=False, is_registered=False)
            return step.announced(ending)

    # --- Upkeep ---

    async def prune_expired(self, limit: int) -> ExpiredSweep:
        async with self._write(None) as step:
            past = [one for one in step.tables.matching(SessionFilter()) if step.tables.is_past_deadline(one)]
            return ExpiredSweep(len(past) < limit, ended=step.tables.delete(past[:limit]).ended)

    async def prune_idle(self, after: SessionId | None, window: int) -> IdleSweep:
        async with self._write(None) as step:
            next_ones = step.tables.matching(SessionFilter(), after=after)[:window]
            idle = step.tables.delete(filter(step.tables.is_idle, next_ones))
            return IdleSweep(next_ones[-1].id if len(next_ones) == window else None, ended=idle.ended)

    async def try_lock(self, name: str, holder: str, duration: timedelta) -> bool:
        async with self._write(None) as step:
            now_us = step.tables.now_us
            held_by, until_us = step.tables.locks.get(name, (holder, now_us))
            if held_by != holder and now_us < until_us:
                return False
            step.tables.locks[name] = (holder, now_us + duration_us(duration))
            return True

    async def count_by_pepper(self) -> Sequence[PepperCount]:
        counts = Counter(one.session.key.pepper_id for one in self._read(None).sessions.values())
        return [PepperCount(pepper_id, sessions) for pepper_id, sessions in counts.items()]

    # --- Peppers ---

    async def read_peppers(self) -> Sequence[PepperRecord]:
        return sorted(self._read(None).peppers.values(), key=lambda pepper: pepper.id)

    async def register_peppers(self, peppers: Sequence[PepperRecord]) -> None:
        async with self._write(None) as step:
            for pepper in peppers:
                step.tables.peppers.setdefault(pepper.id, pepper)

    # --- the steps of all calls ---

    def _read(self, transaction: Transaction | None) -> Tables:
        return self._opened().read(transaction)

    def _write(self, transaction: Transaction | None) -> AbstractAsyncContextManager[Step]:
        return self._opened().write(transaction, caller=self)

    def _opened(self) -> MemoryDatabase:
        if not self._is_open:
            raise NotOpenError(NOT_OPEN)
        return self.database


def _as_connection(transaction: MemoryTransaction) -> AsyncConnection:
    # The protocol has the transaction of a SQL store, which hooks run statements in. This one says that it cannot.
    return cast("AsyncConnection", transaction)
