"""Devices: a user's live sessions, each with a label that says on what it was made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from coatcheck import Scope

if TYPE_CHECKING:
    from coatcheck import AuthenticationInfo, ServerSideSessions, SessionInfo

SESSION_LIFETIME, INACTIVITY_TIMEOUT = timedelta(days=90), timedelta(days=14)
READ_ONLY = frozenset({Scope("notes:read")})


@dataclass(frozen=True)
class Device:
    """One live session as its owner sees it."""

    session: SessionInfo
    is_this: bool

    @property
    def label(self) -> str:
        """What to call it."""
        return self.session.client.label or "Unknown device"

    @property
    def may_write(self) -> bool:
        """Whether notes can be written from it."""
        return "notes:write" in self.session.scopes


class Devices:
    """Lists, ends and restricts a user's sessions. Whose they are is always the caller's own id."""

    def __init__(self, sessions: ServerSideSessions) -> None:
        """The devices behind these sessions."""
        self._sessions = sessions

    async def of(self, caller: AuthenticationInfo) -> list[Device]:
        """The caller's live sessions: this one first, then those used last."""
        page = await self._sessions.list_sessions(caller.user_identifier, expired=False)
        live = list(page)
        while page.next_after is not None:
            page = await self._sessions.list_sessions(caller.user_identifier, expired=False, after=page.next_after)
            live += page
        found = [Device(session, is_this=session.id == caller.auth_id) for session in live]
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
        return await self._sessions.update_scopes(
            session_id=session_id, auth_user_id=caller.user_identifier, scopes=None if may_write else READ_ONLY
        )
