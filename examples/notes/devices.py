"""Devices: a user's live sessions, each with a label that says on what it was made."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Column, Index, Table, Text, delete, insert, select
from ua_parser import parse

from coatcheck import Scope
from database import metadata, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck import AuthenticationInfo, ServerSideSessions, SessionId, SessionInfo, UserId
    from coatcheck.stores.store import Store

SESSION_LIFETIME, INACTIVITY_TIMEOUT = timedelta(days=90), timedelta(days=14)
READ_ONLY = frozenset({Scope("notes:read")})

_MAX_USER_AGENT_LENGTH = 512  # a header may be of any length, and parsing it costs by its length
_PRODUCT = re.compile(r"[\w.-]{1,40}(?=/)")  # of "python-httpx/0.28.1", the name (RFC 9110 section 10.1.5)
_NICER = {"Mac OS X": "macOS", "HeadlessChrome": "Chrome", "Mobile Safari": "Safari", "Chrome Mobile": "Chrome"}

devices = Table(
    "notes_devices",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("label", Text, nullable=False),
)
Index("notes_devices_user_id", devices.c.user_id)

_label: ContextVar[str] = ContextVar("label", default="Unknown device")


@contextmanager
def signing_in_on(user_agent: str) -> Iterator[None]:
    """Sessions that are made in this block get the label of this User-Agent."""
    before = _label.set(label_of(user_agent))
    try:
        yield
    finally:
        _label.reset(before)


async def remember_device(user_id: UserId, session_id: SessionId, connection: AsyncConnection) -> None:
    """Keep the label of a new session. The `on_session_created` of our sessions: it runs in their transaction."""
    await connection.execute(insert(devices).values(session_id=session_id, user_id=user_id, label=_label.get()))


@dataclass(frozen=True)
class Device:
    """One live session as its owner sees it."""

    session: SessionInfo
    label: str
    is_this: bool

    @property
    def may_write(self) -> bool:
        """Whether notes can be written from it."""
        return "notes:write" in self.session.scopes


class Devices:
    """Lists, ends and restricts a user's sessions. Whose they are is always the caller's own id."""

    def __init__(self, store: Store, sessions: ServerSideSessions) -> None:
        """`sessions` are those that `store` keeps."""
        self._store = store
        self._sessions = sessions

    async def of(self, caller: AuthenticationInfo) -> list[Device]:
        """The caller's live sessions: this one first, then those used last."""
        user_id = caller.user_identifier
        async with transaction(self._store) as tx:
            # Labels before sessions: a label whose session is not there any more belongs to one that is over. In the
            # other order it could belong to one that was made in between.
            mine = select(devices.c.session_id, devices.c.label).where(devices.c.user_id == user_id)
            labels = {row.session_id: row.label for row in await tx.execute(mine)}
            live = await self._live_sessions(user_id, tx)
            over = labels.keys() - {session.id for session in live}
            if over:
                await tx.execute(delete(devices).where(devices.c.session_id.in_(over)))
        found = [
            Device(session, labels.get(session.id, "Unknown device"), is_this=session.id == caller.auth_id)
            for session in live
        ]
        return sorted(found, key=lambda device: (device.is_this, device.session.last_used_at), reverse=True)

    async def end(self, caller: AuthenticationInfo, session_id: str) -> bool:
        """End one of the caller's sessions. False if they have no such session."""
        return await self._sessions.revoke_session(session_id, auth_user_id=caller.user_identifier)

    async def end_others(self, caller: AuthenticationInfo) -> int:
        """End all of the caller's sessions but the one they are using; says how many."""
        ended = await self._sessions.revoke_all_sessions(caller.user_identifier, except_session_id=caller.auth_id)
        return len(ended)

    async def end_all(self, caller: AuthenticationInfo) -> None:
        """End all of the caller's sessions, and the sign-ins that are under way."""
        await self._sessions.revoke_all_sessions(caller.user_identifier)

    async def set_may_write(self, caller: AuthenticationInfo, session_id: str, *, may_write: bool) -> bool:
        """Let one of the caller's sessions only read, or do again what its user may. False if it is not theirs.

        The next request of that session sees it; it does not have to sign in again.
        """
        async with transaction(self._store) as tx:
            theirs = await self._live_sessions(caller.user_identifier, tx)
            if session_id not in {session.id for session in theirs}:
                return False
            return await self._sessions.update_scopes(
                session_id=session_id, scopes=None if may_write else READ_ONLY, transaction=tx
            )

    async def _live_sessions(self, user_id: str, tx: AsyncConnection) -> list[SessionInfo]:
        page = await self._sessions.list_sessions(user_id, expired=False, transaction=tx)
        found = list(page)
        while page.next_after is not None:
            page = await self._sessions.list_sessions(user_id, expired=False, after=page.next_after, transaction=tx)
            found += page
        return found


def label_of(user_agent: str) -> str:
    """A User-Agent in words: "Firefox on Linux". What a client says about itself, so never more than a label."""
    parsed = parse(user_agent[:_MAX_USER_AGENT_LENGTH])
    product = _PRODUCT.match(user_agent)
    client = parsed.user_agent.family if parsed.user_agent else product[0] if product else "Unknown device"
    system = parsed.os.family if parsed.os else None
    client, system = _NICER.get(client, client), _NICER.get(system or "", system)
    return client if system is None else f"{client} on {system}"
