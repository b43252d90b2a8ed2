"""Callers of an application: they sign in, validate, change scopes and revoke, and record the answers."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.history import TORN, History, Kind
from coatcheck import (
    Pod,
    RevocationIndeterminate,
    ServerSideSessionsConfig,
    ServerSideSessionsTokenManager,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from coatcheck import AuthServices
    from coatcheck.stores.store import Store

PEPPER = "a pepper of the chaos runs, 32 bytes"
USERS = 16
SESSIONS_EACH = 12  # few, so that calls on one session overlap
TRIES = 10
PAUSE_SECONDS = 0.02  # of a caller who has heard that the store is down


@dataclass
class Session:
    """One session, as its owner knows it. Only the owner changes it; all callers validate it."""

    id: str
    token: str
    version: int = 0
    is_ending: bool = False
    is_unclear: bool = False
    """A change of the scopes was not confirmed. It may still happen, so the scopes are not changed again."""


class Application:
    """A pod on the store under test, and its callers."""

    def __init__(self, store: str | Store, *, seed: int) -> None:
        """Prepare the pod; nothing is connected yet."""
        self._pod = Pod(store, environ={}, config_dir="no-such-folder", prune_interval=None)
        config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
        self._auth: AuthServices = self._pod.initialize_auth_services(token_manager_builders=[config])
        self._sessions = self._auth.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions
        self._chooser = random.Random(seed)  # noqa: S311 (no secret)
        self._all: list[Session] = []
        self._callers: list[asyncio.Task[None]] = []
        self._is_over = False
        self.history = History()

    async def __aenter__(self) -> Self:
        """Open the pod and create the users of the sessions."""
        await self._pod.__aenter__()
        self._users = [(await self._auth.auth_users.create()).id for _ in range(USERS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pod."""
        await self.stop()
        await self._pod.__aexit__(kind, error, trace)

    def start(self, callers: int) -> None:
        """Let this number of callers work until `stop`."""
        self._callers = [asyncio.create_task(self._work()) for _ in range(callers)]

    async def stop(self) -> None:
        """Let every caller finish its current call."""
        self._is_over = True
        await asyncio.gather(*self._callers)
        self._callers = []

    async def until_it_writes(self) -> None:
        """Wait until a sign-in succeeds, so that the store can be read and written."""
        while await self._create(Session("", "")) is None:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(PAUSE_SECONDS)

    async def validate_all(self) -> None:
        """Validate every session once more, ended ones too, each until there is an answer."""
        for session in self._all:
            while not await self._validate(session):  # noqa: ASYNC110 (there is no event to wait for)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _work(self) -> None:
        own: list[Session] = []
        while not self._is_over:
            own = [one for one in own if not one.is_ending]
            if len(own) < SESSIONS_EACH:
                made = await self._create(Session("", ""))
                own += [] if made is None else [made]
            choice = self._chooser.random()
            if choice < 0.80 or not own:
                done = not self._all or await self._validate(self._chooser.choice(self._all[-200:]))
            elif choice < 0.92:
                done = await self._rescope(self._chooser.choice(own))
            else:
                done = await self._revoke(self._chooser.choice(own))
            await asyncio.sleep(0 if done else PAUSE_SECONDS)

    async def _create(self, session: Session) -> Session | None:
        with self.history.record(Kind.CREATE, version=0) as call, suppress(StoreUnavailable):
            user = self._chooser.choice(self._users)
            made = await self._sessions.create_session(auth_user_id=user, method="chaos", scopes=_scopes(0))
            session.id, session.token = str(made.server_side_session_id), str(made.token)
            call.session = session.id
            call.ok()
            self._all.append(session)
            return session
        return None

    async def _validate(self, session: Session) -> bool:
        with self.history.record(Kind.VALIDATE, session.id) as call:
            try:
                info = await self._auth.token_manager.validate_token(session.token)
            except StoreUnavailable:
                call.fail()
                return False
            call.ok(None if info is None else _version(info.scopes))
        return True

    async def _rescope(self, session: Session) -> bool:
        if session.is_unclear:
            return True
        session.version += 1
        with self.history.record(Kind.RESCOPE, session.id, session.version) as call:
            try:
                found = await self._sessions.update_scopes(session_id=session.id, scopes=_scopes(session.version))
            except StoreUnavailable:
                session.is_unclear = True
                return False
            if found:
                call.ok()
            else:
                call.fail()
        return True

    async def _revoke(self, session: Session) -> bool:
        """Revoke, and retry if that was not confirmed, as an application would, until the caller gives up."""
        session.is_ending = True
        for _ in range(TRIES):
            with self.history.record(Kind.REVOKE, session.id) as call:
                try:
                    await self._sessions.revoke_session(session.id)
                except RevocationIndeterminate:
                    pass  # the outcome stays unknown in the record
                except StoreUnavailable:
                    call.fail()  # the session was not ended: the checker holds the store to that
                else:
                    call.ok()
                    return True
            await asyncio.sleep(PAUSE_SECONDS)
        return False


def _scopes(version: int) -> set[str]:
    """Two scopes that belong together: one without the other was never written."""
    return {f"left:{version}", f"right:{version}"}


def _version(scopes: Iterable[str]) -> int:
    versions = {scope.partition(":")[2] for scope in scopes}
    return int(versions.pop()) if len(versions) == 1 and len(list(scopes)) == 2 else TORN
