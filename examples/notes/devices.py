"""Devices: a user's live sessions, each with a label of the device that it was made on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from coatcheck import InvalidArgumentError, Scope

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
        """The name of the device."""
        return self.session.client.label or "Unknown device"

    @property
    def may_write(self) -> bool:
        """Whether the device may write notes."""
        return "notes:write" in self.session.scopes


class Devices:
    """Lists, ends and restricts sessions. The user is always the caller."""

    def __init__(self, sessions: ServerSideSessions) -> None:
        """Show the devices of these sessions."""
        self._sessions = sessions

    async def of(self, caller: AuthenticationInfo) -> list[Device]:
        """The caller's live sessions: this one first, then the others, last used first."""
        page = await self._sessions.list_sessions(caller.user_identifier, expired=False)
        live = list(page)
        while page.next_after is not None:
            page = await self._sessions.list_sessions(caller.user_identifier, expired=False, after=page.next_after)
            live += page
        found = [Device(session, is_this=session.id == caller.auth_id) for session in live]
        return sorted(found, key=lambda device: (device.is_this, device.session.last_used_at), reverse=True)

    async def end(self, caller: AuthenticationInfo, session_id: str) -> bool:
        """End one of the caller's sessions. False if the caller has no such session."""
        try:
            return await self._sessions.revoke_session(session_id, auth_user_id=caller.user_identifier)
        except InvalidArgumentError:  # it comes from the request, and is no id at all
            return False

    async def end_others(self, caller: AuthenticationInfo) -> int:
        """End all of the caller's sessions except the current one; returns their number."""
        ended = await self._sessions.revoke_all_sessions(caller.user_identifier, except_session_id=caller.auth_id)
        return len(ended)

    async def end_all(self, caller: AuthenticationInfo) -> None:
        """End all of the caller's sessions, and the sign-ins that are under way."""
        await self._sessions.revoke_all_sessions(caller.user_identifier)

    async def set_may_write(self, caller: AuthenticationInfo, session_id: str, *, may_write: bool) -> bool:
        """Restrict one of the caller's sessions to reading, or lift that. False if the caller has no such session.

        The next request of that session sees the change; nobody has to sign in again.
        """
        scopes = None if may_write else READ_ONLY
        try:
            return await self._sessions.update_scopes(
                session_id=session_id, auth_user_id=caller.user_identifier, scopes=scopes
            )
        except InvalidArgumentError:  # as above
            return False
