"""Operators' calls on sessions: pruning, deleting by filter, watching a pepper rotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coatcheck.errors import InvalidArgumentError, RevocationIndeterminate, StoreUnavailable
from coatcheck.events.publishing import published
from coatcheck.stores.records import SessionFilter

if TYPE_CHECKING:
    from uuid import UUID

    from coatcheck.events import EventBus
    from coatcheck.sessions.endings import Endings
    from coatcheck.sessions.key_hash import Pepper
    from coatcheck.stores.records import EndedSession
    from coatcheck.stores.store import Store, Transaction

from coatcheck.identifiers import SessionId, given_session_id, user_id_of
from coatcheck.pages import page_size

_DELETE_CHUNK = 500


@dataclass(frozen=True, slots=True)
class PepperUsage:
    """The number of sessions that are hashed under one pepper.

    `pepper_id` None: rows that do not name their pepper. `role` is "primary", "fallback", or "unknown" for a pepper
    that is not configured here: sessions under it do not validate.
    """

    pepper_id: str | None
    """A short name made of the pepper, which does not give it away; None: the session has none."""
    role: str
    """One of "primary", "fallback" and "unknown"."""
    sessions: int
    """The number of sessions under it."""


class ServerSideSessionsAdmin:
    """Operators' side of `ServerSideSessions`."""

    def __init__(self, store: Store, peppers: tuple[Pepper, ...], bus: EventBus, endings: Endings) -> None:
        """`peppers` are the configured ones, primary first."""
        self._store = store
        self._peppers = peppers
        self._bus = bus
        self._endings = endings

    async def delete_sessions(
        self,
        *,
        auth_user_id: str | UUID | None = None,
        session_id: str | UUID | None = None,
        method: str | None = None,
        transaction: Transaction | None = None,
    ) -> tuple[EndedSession, ...]:
        """Delete the sessions that match all given filters, and return their user ids and session ids.

        The sessions of one user, all or those with this `method`, are deleted in one step, which also stops the user's
        sign-ins that are under way, as `revoke_all_sessions` does. A `session_id`, or a `method` of all users, stops
        no sign-in. Without a transaction sessions of all users are deleted in chunks.

        Raises:
            InvalidArgumentError: no filter is given, or `session_id` is not a UUID.
            RevocationIndeterminate: the outcome is not known, or some sessions were deleted before the store failed.
        """
        if auth_user_id is None and session_id is None and method is None:
            raise InvalidArgumentError("give at least one of auth_user_id, session_id and method")
        one = None if session_id is None else given_session_id(session_id)
        user_id = None if auth_user_id is None else user_id_of(auth_user_id)
        if user_id is not None and one is None:
            ending = self._store.end_user_sessions(user_id, method=method, transaction=transaction)
            return (await self._endings.run(ending, user_id=user_id, transaction=transaction)).ended
        which = SessionFilter(user_id=user_id, session_id=one, method=method)
        if transaction is None:
            return await self._endings.finish(self._delete_in_chunks(which))
        deletion = self._store.delete_sessions(which, transaction=transaction)
        return (await self._endings.run(deletion, user_id=user_id, transaction=transaction)).ended

    async def delete_expired_sessions(
        self, *, expired: bool = True, inactive: bool = True, chunk_size: int = 500
    ) -> int:
        """Delete sessions past their absolute (`expired`) and their idle (`inactive`) deadline; return their number.

        Each chunk of `chunk_size` rows (1 to 1000) is a transaction of its own. Rows that other transactions have
        locked are skipped.
        """
        page_size(chunk_size, name="chunk_size")
        deleted = 0
        while expired:
            step = await self._store.prune_expired(chunk_size)
            await self._bus.publish_change(step)
            deleted += len(step.ended)
            expired = not step.is_done
        after: SessionId | None = None
        while inactive:
            sweep = await self._store.prune_idle(after, chunk_size)
            await self._bus.publish_change(sweep)
            deleted += len(sweep.ended)
            after = sweep.next_after
            inactive = after is not None
        return deleted

    async def pepper_usage(self) -> tuple[PepperUsage, ...]:
        """The number of sessions under each pepper; a fallback with 0 can be removed. Reads every row of the store."""
        roles = {pepper.id: "fallback" for pepper in self._peppers} | {self._peppers[0].id: "primary"}
        counted = {one.pepper_id: one.sessions for one in await self._store.count_by_pepper()}
        for pepper in self._peppers:
            counted.setdefault(pepper.id, 0)
        usages = [
            PepperUsage(pepper_id, roles.get(pepper_id or "", "unknown"), sessions)
            for pepper_id, sessions in counted.items()
        ]
        order = ("primary", "fallback", "unknown")
        return tuple(sorted(usages, key=lambda usage: (order.index(usage.role), usage.pepper_id or "")))

    async def _delete_in_chunks(self, which: SessionFilter) -> tuple[EndedSession, ...]:
        deleted: list[EndedSession] = []
        while True:
            try:
                deletion = self._store.delete_sessions(which, limit=_DELETE_CHUNK)
                chunk = await published(self._bus, deletion, user_id=which.user_id, transaction=None)
            except StoreUnavailable as error:
                if not deleted:
                    raise
                message = f"the deletion is half done: the store failed after {len(deleted)} sessions; repeat it"
                raise RevocationIndeterminate(message) from error
            deleted.extend(chunk.ended)
            if len(chunk.ended) < _DELETE_CHUNK:
                return tuple(deleted)
