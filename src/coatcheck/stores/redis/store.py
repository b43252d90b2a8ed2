"""The store on Redis 7 or Valkey: every step that has to be atomic is one script on the server that has the shard.

A user is in one shard with all their sessions, and the shard is part of each session's id (`identifiers.py`), so that
a session is found by its id alone. Lists and pruning are in `listing`, the keys in `scripts/prelude.lua`.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from coatcheck.clock import duration_us
from coatcheck.errors import ConfigurationError, InvalidArgumentError, RevocationIndeterminate, StoreUnavailable
from coatcheck.hidden import HiddenText, shown_when_made
from coatcheck.identifiers import SHARDS, SessionId, UserId, shard_of_session, shard_of_user
from coatcheck.stores.announcement import Announcement, from_others
from coatcheck.stores.given_positions import check_position
from coatcheck.stores.records import (
    Change,
    EndedSession,
    ExpiredSweep,
    IdleSweep,
    Insertion,
    InsertRefusal,
    ListedSession,
    NewSession,
    PepperCount,
    PepperRecord,
    Position,
    Rehash,
    ScopeChange,
    SessionFilter,
    SessionReading,
    SessionUse,
    UserChange,
    UserRecord,
    epoch_step,
)
from coatcheck.stores.redis import guarantee, positions, scans
from coatcheck.stores.redis.listener import Listener
from coatcheck.stores.redis.packing import listed_of, pack, packed_key
from coatcheck.stores.redis.scans import ended_in
from coatcheck.stores.redis.setup_mistakes import setup_mistake
from coatcheck.stores.redis.startup_checks import check, check_rights, check_rights_on_keys, facts_of_each
from coatcheck.stores.redis.stored_format import check_format
from coatcheck.stores.redis.transport.calls import ServerCalls
from coatcheck.stores.redis.url import Address, parse_url
from coatcheck.stores.redis.user_hash import user_of, user_row
from coatcheck.stores.scope_text import decode_scopes, encode_scopes
from coatcheck.stores.starting import telling_what_failed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.clock import Clock
    from coatcheck.pages import Page
    from coatcheck.scope import Scope
    from coatcheck.stores.guarantee import Guarantee
    from coatcheck.stores.redis.transport.connection import Reply
    from coatcheck.stores.store import InsideTransaction, Transaction

_WINDOW = 500  # how many of a shard's sessions one step of a deletion looks at
_EVERYTHING = 2**31
_LOOK_SECONDS = 2.0  # at a server, when the store could not be opened
_REFUSALS = {b"revoked": InsertRefusal.USER_REVOKED, b"rescoped": InsertRefusal.USER_RESCOPED}


class RedisStore:
    """Sessions and users in Redis 7 or newer, or Valkey. The servers' clocks decide about deadlines.

    Each call is atomic by itself, but for three that reach over several users: `delete_sessions` without a user or a
    session, pruning, and a sign-in that replaces a session of another user (first it is inserted, then the other ends).
    """

    has_transactions = False

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        remap: Callable[[Address], Address] | None = None,
        timeout_seconds: float = 5.0,
    ) -> None:
        """A store on the servers that `url` names.

        Args:
            url: `redis://user:password@host:6379/0`, `redis+cluster://host:6379,host:6379`,
                `redis+sentinel://host:26379,host:26379/service` or `unix:///path/to/socket`; with TLS `rediss`.
                `?prefix=` is what all keys begin with ("coatcheck"), `?replicas=` how many replicas must have a
                revocation before it returns (1 on a Cluster, each that sentinels might promote, else 0), `?ca_certs=` a
                file of certificates. docs/how-to/redis.md has all of them.
            clock: for tests; None: the servers' own clocks.
            remap: where to connect to a server that members of a Cluster, or sentinels, call by an address (behind
                NAT).
            timeout_seconds: after so long without an answer the store counts as unavailable; one member of a Cluster,
                or the primary that sentinels watch over, after half of it.

        Raises:
            ConfigurationError: `url` is not of that form.
        """
        url = HiddenText(url)
        self._target = parse_url(url)
        self._timeout_seconds = timeout_seconds
        self._calls = ServerCalls(
            self._target,
            clock=clock,
            remap=remap or (lambda address: address),
            timeout_seconds=timeout_seconds,
        )

    @shown_when_made
    def __repr__(self) -> str:
        """Show the servers, and nothing else of the URL."""
        service = "" if self._target.sentinels is None else f"/{self._target.sentinels.service}"
        return f"RedisStore({','.join(map(str, self._target.addresses))}{service}/{self._target.database})"

    # --- lifespan ---

    async def open(self) -> None:
        """Connect, and check the version of what is stored.

        Of a Cluster one primary is enough: its users are served, others wait.

        With sentinels it connects to the primary that they watch over.

        Raises:
            ConfigurationError: the server is too old, or of another kind than the URL says; refuses user, password or
                database, or does not allow what is needed; a file with certificates cannot be used; or the data are
                those of a newer version that this one may not use.
        """
        if self._calls.opening.is_here:
            return
        self._calls.opening.begin()
        try:
            with telling_what_failed(self):
                await self._open_and_check()
        except BaseException:
            await self._calls.close()
            raise

    async def _open_and_check(self) -> None:
        try:
            await self._calls.open()
            await check_rights(self._calls)
            check(await facts_of_each(self._calls), is_cluster=self._target.is_cluster)
            await check_rights_on_keys(self._calls)
            await check_format(self._calls)
        except StoreUnavailable as unavailable:
            limit_seconds = min(self._timeout_seconds / 5, _LOOK_SECONDS)
            found = self._calls.servers.all()
            mistake = await setup_mistake(self._target, self._calls.seeds, found, limit_seconds=limit_seconds)
            if mistake is None:
                raise
            raise ConfigurationError(mistake) from unavailable

    async def close(self) -> None:
        await self._calls.close()

    async def __aenter__(self) -> Self:
        """Open the store."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        await self.close()

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        raise _no_transactions()

    def read_tables(
        self,
        transaction: Transaction | None = None,  # noqa: ARG002 (there can be none)
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        raise ConfigurationError("a Redis store holds no tables of an application's")

    async def connection_of(self, transaction: Transaction) -> AsyncConnection:  # noqa: ARG002 (there can be none)
        raise _no_transactions()

    async def guarantee(self) -> Guarantee:
        # Each primary is asked; the weakest counts, and one that is down is a condition.
        self._calls.opening.check()
        facts = await facts_of_each(self._calls)
        return guarantee.judge(
            facts,
            is_cluster=self._target.is_cluster,
            sentinels=self._target.sentinels,
            replicas=self._calls.replicas_now(),
            silent=len(self._calls.servers.all()) - len(facts),
        )

    def announcements(self) -> AsyncGenerator[Announcement | None, None]:
        self._calls.opening.check()
        listener = Listener(
            self._calls.servers,
            self._calls.connection,
            lambda shard, channel, text: self._calls.ask_server(shard, "PUBLISH", channel, text),
            channel=self._calls.keys.channel,
            own_channel=f"{self._calls.keys.channel}:{secrets.token_hex(8)}",
            answer_seconds=self._timeout_seconds,
        )
        return from_others(listener.texts(), self._calls.opening.name)

    # --- the path of every request ---

    def read_session(self, session_id: SessionId) -> Awaitable[SessionReading | None]:
        # Reads that arrive while one is under way go together in the next.
        return self._calls.read_session(session_id)

    async def touch_sessions(self, uses: Sequence[SessionUse]) -> frozenset[SessionId]:
        self._calls.opening.check()  # it may turn out that there is nothing to ask
        latest: dict[SessionId, int] = {}
        for use in uses:
            latest[use.session_id] = max(use.used_at_us, latest.get(use.session_id, use.used_at_us))
        by_shard: dict[str, list[str | int]] = {}
        for session_id, used_at_us in latest.items():
            by_shard.setdefault(shard_of_session(session_id), []).extend((session_id, used_at_us))
        touched = await asyncio.gather(
            *(self._calls.run("touch_sessions", shard, *theirs) for shard, theirs in by_shard.items())
        )
        return frozenset(SessionId(id_.decode()) for ids in touched for id_ in ids)

    async def rehash_sessions(self, rehashes: Sequence[Rehash]) -> None:
        by_shard: dict[str, list[str | bytes]] = {}
        for rehash in rehashes:
            arguments = (rehash.session_id, *packed_key(rehash.old), *packed_key(rehash.new))
            by_shard.setdefault(shard_of_session(rehash.session_id), []).extend(arguments)
        await asyncio.gather(
            *(self._calls.run("rehash_sessions", shard, *theirs) for shard, theirs in by_shard.items())
        )

    # --- sign-in ---

    async def read_user(self, user_id: UserId, *, transaction: Transaction | None = None) -> UserRecord | None:
        _without_transaction(transaction)
        return user_of(user_id, await self._calls.read(shard_of_user(user_id), *user_row(self._calls.keys, user_id)))

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
        # A replaced session of another user ends once this one is there.
        _without_transaction(transaction, inside_transaction)
        check_position(began_at, positions.FORM)
        shard = shard_of_user(session.user_id)
        if shard_of_session(session.id) != shard:
            raise InvalidArgumentError("the session's id was made for another user; make one with new_session_id")
        lifetime_us = session.lifetime_us if session.expires_at_us is None else None
        replaced = session.replaces
        is_near = replaced is not None and shard_of_session(replaced) == shard
        # A sign-in that ends another session is confirmed as every ending is.
        reply = await (self._calls.end if is_near else self._calls.run)(
            "insert_session",
            shard,
            session.id,
            session.user_id,
            pack(session),
            "" if lifetime_us is None else lifetime_us,
            expected_revocations,
            "" if expected_rescopes is None else expected_rescopes,
            "" if user_scopes is None else encode_scopes(user_scopes),
            replaced if is_near and replaced is not None else "",
            "" if began_at is None else positions.of_shard(began_at, shard),
        )
        if reply == b"taken":
            raise StoreUnavailable("the id of the new session is taken")
        if isinstance(reply, bytes):
            return _REFUSALS[reply]
        created_at, *near = reply
        ended: Sequence[EndedSession] = ended_in(near)
        if replaced is not None and not is_near:
            ended = await self._delete_one(SessionFilter(session_id=replaced), replaced)
        return Insertion(session.inserted(int(created_at)), ended=tuple(ended), announced=_announced_of(ended))

    # --- ending and changing sessions ---

    async def delete_sessions(
        self, which: SessionFilter, *, limit: int | None = None, transaction: Transaction | None = None
    ) -> Change:
        # Without a user or a session each shard is a step by itself.
        _without_transaction(transaction)
        if which.session_id is not None:
            ended = await self._delete_one(which, which.session_id)
        elif which.user_id is not None:
            left = "" if limit is None else limit
            arguments = (which.user_id, which.method or "", left, "", _EVERYTHING)
            _, *pairs = await self._calls.end("delete_matching", shard_of_user(which.user_id), *arguments)
            ended = ended_in(pairs)
        else:
            ended = await self._delete_in_all_shards(which.method, limit)
        return Change(ended=tuple(ended), announced=_announced_of(ended))

    async def end_user_sessions(
        self,
        user_id: UserId,
        *,
        method: str | None = None,
        except_session_id: SessionId | None = None,
        transaction: Transaction | None = None,
    ) -> Change:
        _without_transaction(transaction)
        arguments = (user_id, method or "", except_session_id or "", epoch_step())
        ids = await self._calls.end("end_user_sessions", shard_of_user(user_id), *arguments)
        ended = _all_of(user_id, ids)
        everything = (Announcement(user_id, spared=except_session_id),)
        return Change(ended=ended, announced=everything if method is None else _announced_of(ended))

    async def set_session_scopes(
        self,
        session_id: SessionId,
        scopes: frozenset[Scope] | None,
        *,
        user_id: UserId | None = None,
        transaction: Transaction | None = None,
    ) -> ScopeChange | None:
        _without_transaction(transaction)
        arguments = (session_id, user_id or "", "" if scopes is None else encode_scopes(scopes))
        reply = await self._calls.end("set_session_scopes", shard_of_session(session_id), *arguments)
        if reply is None:
            return None
        changed, before = reply
        session = listed_of(session_id, changed).session
        held = decode_scopes(before.decode(errors="replace")) or frozenset()
        removed = held - (session.scopes or frozenset())
        announced = (Announcement(session.user_id, session_id, removed_scopes=removed),) if removed else ()
        return ScopeChange(session, removed, announced=announced)

    async def set_user_scopes(
        self, user_id: UserId, scopes: frozenset[Scope], *, transaction: Transaction | None = None
    ) -> UserChange:
        _without_transaction(transaction)
        arguments = (user_id, encode_scopes(scopes), "", "", epoch_step())
        reply = await self._calls.end("change_user", shard_of_user(user_id), *arguments)
        return _change_of(user_id, reply, is_blocked=False)

    # --- reading lists ---

    async def list_sessions(
        self,
        which: SessionFilter,
        *,
        expired: bool | None = None,
        after: SessionId | None = None,
        limit: int = 100,
        transaction: Transaction | None = None,
    ) -> Page[ListedSession]:
        _without_transaction(transaction)
        return await scans.list_sessions(self._calls, which, expired=expired, after=after, limit=limit)

    # --- pruning ---

    async def prune_expired(self, limit: int) -> ExpiredSweep:
        return await scans.prune_expired(self._calls, limit)

    async def prune_idle(self, after: SessionId | None, window: int) -> IdleSweep:
        return await scans.prune_idle(self._calls, after, window)

    async def try_lock(self, name: str, holder: str, duration: timedelta) -> bool:
        shard = SHARDS[0]
        key = self._calls.keys.lock(shard, name)
        return bool(await self._calls.run_on("try_lock", key, shard, holder, duration_us(duration)))

    async def count_by_pepper(self) -> Sequence[PepperCount]:
        return await scans.count_by_pepper(self._calls)

    # --- peppers ---

    async def read_peppers(self) -> Sequence[PepperRecord]:
        text = await self._calls.read(SHARDS[0], "GET", self._calls.keys.peppers(SHARDS[0]))
        pairs = (pair.partition("=") for pair in (text or b"").decode().split(";") if pair)
        return sorted((PepperRecord(id_, bytes.fromhex(check)) for id_, _, check in pairs), key=lambda one: one.id)

    async def register_peppers(self, peppers: Sequence[PepperRecord]) -> None:
        if peppers:
            arguments = [part for pepper in peppers for part in (pepper.id, pepper.check_value.hex())]
            key = self._calls.keys.peppers(SHARDS[0])
            await self._calls.run_on("register_peppers", key, SHARDS[0], *arguments)

    # --- users kept in the store ---

    async def read_position(self, *, transaction: Transaction | None = None) -> Position:
        _without_transaction(transaction)
        return positions.encode(await self._calls.read_every_shard_that_answers(positions.command_of(self._calls.keys)))

    async def insert_user(
        self, user_id: UserId, *, scopes: frozenset[Scope], blocked: bool, transaction: Transaction | None = None
    ) -> UserRecord | None:
        _without_transaction(transaction)
        arguments = (user_id, encode_scopes(scopes), int(blocked))
        row = await self._calls.run("insert_user", shard_of_user(user_id), *arguments)
        return None if row is None else user_of(user_id, row)

    async def list_users(
        self, *, after: UserId | None = None, limit: int = 100, transaction: Transaction | None = None
    ) -> Page[UserRecord]:
        _without_transaction(transaction)
        return await scans.list_users(self._calls, after=after, limit=limit)

    async def update_user(
        self,
        user_id: UserId,
        *,
        scopes: frozenset[Scope] | None = None,
        blocked: bool | None = None,
        transaction: Transaction | None = None,
    ) -> UserChange | None:
        _without_transaction(transaction)
        changes = ("" if scopes is None else encode_scopes(scopes), "" if blocked is None else int(blocked))
        reply = await self._calls.end("change_user", shard_of_user(user_id), user_id, *changes, 1, epoch_step())
        return None if reply is None else _change_of(user_id, reply, is_blocked=bool(blocked))

    async def delete_user(self, user_id: UserId, *, transaction: Transaction | None = None) -> Change | None:
        _without_transaction(transaction)
        ids = await self._calls.end("delete_user", shard_of_user(user_id), user_id, epoch_step())
        if ids is None:
            return None
        return Change(ended=_all_of(user_id, ids), announced=(Announcement(user_id),))

    # --- steps ---

    async def _delete_one(self, which: SessionFilter, session_id: SessionId) -> Sequence[EndedSession]:
        arguments = (session_id, which.user_id or "", which.method or "")
        user = await self._calls.end("delete_session", shard_of_session(session_id), *arguments)
        return () if user is None else (EndedSession(UserId(user.decode()), session_id),)

    async def _delete_in_all_shards(self, method: str | None, limit: int | None) -> Sequence[EndedSession]:
        # Every shard, also one that seems empty: a first attempt may have emptied it, which is to be sure now.
        ended: list[EndedSession] = []
        for shard in SHARDS:
            after: str | bytes = b""
            while limit is None or len(ended) < limit:
                left = "" if limit is None else limit - len(ended)
                arguments = ("", method or "", left, after, _WINDOW)
                try:
                    after, *gone = await self._calls.end("delete_matching", shard, *arguments)
                except StoreUnavailable as error:
                    if not ended:
                        raise
                    message = f"the deletion is half done: the store failed after {len(ended)} sessions; repeat it"
                    raise RevocationIndeterminate(message) from error
                ended += ended_in(gone)
                if not after:
                    break
        return tuple(sorted(ended, key=lambda one: one.session_id))


def _without_transaction(*given: object) -> None:
    """Refuse what a caller gives to have something done inside a transaction."""
    if any(one is not None for one in given):
        raise _no_transactions()


def _no_transactions() -> ConfigurationError:
    return ConfigurationError("a Redis store has no transactions that span several calls")


def _announced_of(ended: Iterable[EndedSession]) -> tuple[Announcement, ...]:
    """The announcements that the scripts make of sessions that end one by one."""
    return tuple(Announcement(one.user_id, one.session_id) for one in ended)


def _all_of(user_id: UserId, ids: Iterable[bytes]) -> tuple[EndedSession, ...]:
    return tuple(EndedSession(user_id, SessionId(id_.decode())) for id_ in ids)


def _change_of(user_id: UserId, reply: Reply, *, is_blocked: bool) -> UserChange:
    row, removed_text, ids = reply
    user = user_of(user_id, row)
    if user is None:
        raise StoreUnavailable("the user went while they were changed")
    removed = decode_scopes(removed_text.decode()) or frozenset()
    announced = [Announcement(user_id, removed_scopes=removed)] if removed else []
    if is_blocked:
        announced.append(Announcement(user_id))
    return UserChange(user, removed, ended=_all_of(user_id, ids), announced=tuple(announced))
