"""Creating sessions, so that none appears after all sessions of its user were ended."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coatcheck.client_info import UNKNOWN_CLIENT
from coatcheck.clock import EPOCH, LATEST, MAX_TIME_US, duration_us, from_us, to_us
from coatcheck.errors import (
    InvalidArgumentError,
    SignInError,
    SignInSupersededError,
    StoreUnavailable,
    UserBlockedError,
    UserNotFoundError,
)
from coatcheck.events.publishing import published
from coatcheck.identifiers import new_session_id, session_id_of
from coatcheck.scope import scope_set
from coatcheck.sessions.limits import STRATEGY
from coatcheck.stores.hooks import run_hook
from coatcheck.stores.records import InsertRefusal, NewSession, UserEpochs
from coatcheck.token_format import Secret, format_token
from coatcheck.tokens import AuthSuccess, SignInAttempt, Token

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from datetime import datetime, timedelta

    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck.client_info import ClientInfo
    from coatcheck.events import EventBus
    from coatcheck.identifiers import UserId
    from coatcheck.scope import Scope
    from coatcheck.sessions.key_hash import KeyHasher
    from coatcheck.sessions.pepper_registry import PepperRegistry
    from coatcheck.sessions.settings import ServerSideSessionsSettings
    from coatcheck.stores.records import SessionRecord
    from coatcheck.stores.store import InsideTransaction, Store, Transaction
    from coatcheck.tokens import AuthenticationInfo
    from coatcheck.user_source import UserSource

_MAX_TRIES = 5


@dataclass(frozen=True, slots=True)
class _User:
    """A user at the time of a sign-in. The epochs were read before the rest."""

    epochs: UserEpochs
    scopes: frozenset[Scope]
    blocked: bool


class SessionCreator:
    """Begins sign-ins, and creates their sessions."""

    def __init__(
        self,
        store: Store,
        hasher: KeyHasher,
        peppers: PepperRegistry,
        settings: ServerSideSessionsSettings,
        bus: EventBus,
        user_source: UserSource | None,
    ) -> None:
        """`user_source` None: users live in the store. The session that a new one replaces is published on `bus`."""
        self._store = store
        self._hasher = hasher
        self._peppers = peppers
        self._settings = settings
        self._bus = bus
        self._user_source = user_source

    async def begin(self, user_id: UserId | None, transaction: Transaction | None) -> SignInAttempt:
        """Note the user's epochs, or where the user is not known yet the store's position. The user need not exist."""
        if user_id is None:
            return SignInAttempt(None, began_at=await self._store.read_position(transaction=transaction))
        record = await self._store.read_user(user_id, transaction=transaction)
        return SignInAttempt(user_id, UserEpochs() if record is None else record.epochs)

    async def create(
        self,
        user_id: UserId,
        *,
        method: str,
        scopes: AbstractSet[str] | None,
        expires_at: datetime | None,
        expire_after_unused_for: timedelta | None,
        skip_user_blocked_check: bool,
        attempt: SignInAttempt | None,
        client: ClientInfo | None,
        replacing: AuthenticationInfo | None,
        transaction: Transaction | None,
    ) -> AuthSuccess:
        """Insert a session and make its token. The arguments are those of `ServerSideSessions.create_session`."""
        if attempt is not None and attempt.user_id not in {None, user_id}:
            raise InvalidArgumentError("attempt was begun for another user; begin one for this user")
        if transaction is None:  # in the caller's it would wait for its end, where one writes at a time
            await self._peppers.before_insert()
        own_scopes = None if scopes is None else scope_set(scopes)
        expires_at_us = None if expires_at is None else _deadline_us(expires_at)
        lifetime = self._settings.default_session_lifetime
        unused_for = expire_after_unused_for or self._settings.default_session_inactivity_timeout

        replaced = None if replacing is None else session_id_of(replacing.auth_id)
        scopes_are_its_own = own_scopes is not None
        revocations = None if attempt is None or attempt.epochs is None else attempt.epochs.revocations
        for _ in range(_MAX_TRIES):
            user = await self._look_up(user_id, transaction)
            if user.blocked and not skip_user_blocked_check:
                raise UserBlockedError(user_id)
            if revocations is None:  # of the first read: a later read would hide a revocation that came in between
                revocations = user.epochs.revocations
            secret = Secret(secrets.token_bytes(self._settings.session_key_secret_length))
            session = NewSession(
                id=new_session_id(user_id),
                user_id=user_id,
                method=method,
                scopes=user.scopes if own_scopes is None else own_scopes,
                follows_user=own_scopes is None,
                expires_at_us=expires_at_us,
                lifetime_us=None if lifetime is None else duration_us(lifetime),
                expire_after_unused_for_us=None if unused_for is None else duration_us(unused_for),
                key=self._hasher.hash(secret),
                client=client or UNKNOWN_CLIENT,
                replaces=replaced,
            )
            insertion = self._store.insert_session(
                session,
                expected_revocations=revocations,
                expected_rescopes=None if scopes_are_its_own and self._user_source is None else user.epochs.rescopes,
                began_at=None if attempt is None else attempt.began_at,
                user_scopes=None if self._user_source is None else user.scopes,
                inside_transaction=self._hook_for(session),
                transaction=transaction,
            )
            if replacing is None or replaced is None:
                outcome = await insertion
            else:
                outcome = await published(
                    self._bus, insertion, user_id=replacing.user_identifier, transaction=transaction
                )
            if outcome is InsertRefusal.USER_REVOKED:
                raise await self._why_revoked(user_id, transaction, skip_user_blocked_check=skip_user_blocked_check)
            if outcome is not InsertRefusal.USER_RESCOPED:
                return _success(outcome.session, secret)
        raise StoreUnavailable(f"the scopes of a user changed {_MAX_TRIES} times during one sign-in; try again")

    async def _look_up(self, user_id: UserId, transaction: Transaction | None) -> _User:
        record = await self._store.read_user(user_id, transaction=transaction)
        if self._user_source is not None:
            access = await self._user_source.get(user_id, transaction=transaction)
            epochs = UserEpochs() if record is None else record.epochs
            return _User(epochs, scope_set(access.scopes), access.blocked)
        if record is None or not record.is_registered:
            raise UserNotFoundError(user_id)
        return _User(record.epochs, record.scopes, record.blocked)

    async def _why_revoked(
        self, user_id: UserId, transaction: Transaction | None, *, skip_user_blocked_check: bool
    ) -> SignInError:
        """The error that says why the user's sessions ended meanwhile: deleted, blocked, or signed out everywhere."""
        try:
            user = await self._look_up(user_id, transaction)
        except UserNotFoundError as gone:
            return gone
        if user.blocked and not skip_user_blocked_check:
            return UserBlockedError(user_id)
        return SignInSupersededError(user_id)

    def _hook_for(self, session: NewSession) -> InsideTransaction | None:
        hook = self._settings.on_session_created
        if hook is None:
            return None

        async def call(connection: AsyncConnection) -> None:
            await run_hook("on_session_created", connection, lambda: hook(session.user_id, session.id, connection))

        return call


def _deadline_us(expires_at: datetime) -> int:
    deadline_us = to_us(expires_at, name="expires_at")
    if not 0 <= deadline_us <= MAX_TIME_US:
        raise InvalidArgumentError(f"expires_at must lie between the years {EPOCH.year} and {LATEST.year}")
    return deadline_us


def _success(session: SessionRecord, secret: bytes) -> AuthSuccess:
    return AuthSuccess(
        auth_strategy=STRATEGY,
        token=Token(format_token(session.id, secret)),
        token_expires_at=None if session.expires_at_us is None else from_us(session.expires_at_us),
        auth_user_id=session.user_id,
        scope_names=session.scopes or frozenset(),
    )
