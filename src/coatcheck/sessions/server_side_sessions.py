"""Server-side sessions: create, validate, list, change and end them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coatcheck.errors import InvalidArgumentError, SignOutUnconfirmedError
from coatcheck.events.publishing import published
from coatcheck.identifiers import given_session_id, session_id_of, user_id_of
from coatcheck.pages import DEFAULT_PAGE_SIZE, Page, page_size
from coatcheck.scope import scope_set
from coatcheck.sessions.admin import ServerSideSessionsAdmin
from coatcheck.sessions.creation import SessionCreator
from coatcheck.sessions.ending_tickets import EndingTickets
from coatcheck.sessions.endings import Endings
from coatcheck.sessions.finishing import Finisher
from coatcheck.sessions.limits import check_duration, check_method
from coatcheck.sessions.pepper_registry import PepperRegistry
from coatcheck.sessions.session_info import session_info
from coatcheck.sessions.touch_channel import TouchChannel
from coatcheck.sessions.validation import Validator
from coatcheck.stores.records import SessionFilter
from coatcheck.tokens import AuthenticationInfo, TokenRefusal

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from collections.abc import Set as AbstractSet
    from datetime import datetime, timedelta
    from uuid import UUID

    from coatcheck.client_info import ClientInfo
    from coatcheck.events import EventBus
    from coatcheck.identifiers import SessionId, UserId
    from coatcheck.scope import Scope
    from coatcheck.sessions.ports import FinishesCalls, Touches
    from coatcheck.sessions.session_info import SessionInfo
    from coatcheck.sessions.settings import ServerSideSessionsSettings
    from coatcheck.stores.store import Store, Transaction
    from coatcheck.tokens import AuthSuccess, SignInAttempt, TokenStanding
    from coatcheck.user_source import UserSource


class ServerSideSessions:
    """The sessions of one store. `admin` has the calls for operators, `peppers` compares peppers with the store's."""

    def __init__(
        self,
        store: Store,
        settings: ServerSideSessionsSettings,
        *,
        bus: EventBus,
        user_source: UserSource | None = None,
        touches: Touches | None = None,
        finisher: FinishesCalls | None = None,
    ) -> None:
        """`user_source` None: users live in the store (`AuthUsers`).

        `touches` and `finisher` replace the parts that need an event loop; None: `TouchChannel` and `Finisher`.
        """
        hasher = settings.key_hasher()
        self._store = store
        self._bus = bus
        self._touches = TouchChannel(store) if touches is None else touches
        self.peppers: PepperRegistry = PepperRegistry(store, settings.peppers)
        self._creator = SessionCreator(store, hasher, self.peppers, settings, bus, user_source)
        self._tickets = EndingTickets(settings.peppers)
        self._endings = Endings(bus, Finisher() if finisher is None else finisher)
        self.validator: Validator = Validator(store, hasher, self._touches)
        self.admin: ServerSideSessionsAdmin = ServerSideSessionsAdmin(store, settings.peppers, bus, self._endings)

    def explain(self, token: str) -> Coroutine[Any, Any, AuthenticationInfo | TokenRefusal]:
        """The caller that the token stands for, or the reason why there is none.

        The answer comes from a store read that starts after the call.

        Raises:
            StoreUnavailable: the store cannot answer.
        """
        return self.validator.explain(token)

    def examine(self, token: str) -> Coroutine[Any, Any, TokenStanding]:
        """The caller and the time until a deadline, without counting as a use. For connections that are kept open.

        Raises:
            StoreUnavailable: the store cannot answer.
        """
        return self.validator.examine(token)

    async def begin_sign_in(
        self, auth_user_id: str | UUID | None = None, *, transaction: Transaction | None = None
    ) -> SignInAttempt:
        """Begin a sign-in, before the credentials are read. Give the attempt to `create_session`.

        If all sessions of the user are ended in between, this sign-in is stopped too. If the password's hash were read
        first, a change of the password could end the sessions between that read and the begin, and be missed.

        Without `auth_user_id` it begins before the user is known, with the store's position: see
        docs/how-to/sign-in.md.
        """
        return await self._creator.begin(None if auth_user_id is None else user_id_of(auth_user_id), transaction)

    async def create_session(
        self,
        auth_user_id: str | UUID,
        *,
        method: str,
        scopes: AbstractSet[str] | None = None,
        expires_at: datetime | None = None,
        expire_after_unused_for: timedelta | None = None,
        skip_user_blocked_check: bool = False,
        attempt: SignInAttempt | None = None,
        client: ClientInfo | None = None,
        replacing: AuthenticationInfo | None = None,
        transaction: Transaction | None = None,
    ) -> AuthSuccess:
        """Sign a user in on one device.

        Args:
            auth_user_id: the user of the session.
            method: how the user signed in ("email", "google", ...), 1 to 255 characters.
            scopes: exactly the scopes of this session, a subset of the user's or not. None: the user's scopes; the
                session then follows their changes.
            expires_at: the absolute deadline, an aware datetime; wins over the default lifetime.
            expire_after_unused_for: the inactivity timeout, 1 second to 10 years; wins over the default.
            skip_user_blocked_check: for trusted callers: let a blocked user in.
            attempt: the result of `begin_sign_in`. If all sessions of the user were ended since then, this sign-in is
                refused.
            client: the device of the session, for lists of devices.
            replacing: the session that the client had until now, of this user or another. It ends in the step that
                makes the new one, so that no session is left over and none can be planted (session fixation).
            transaction: the caller's transaction; the session appears when it is committed.

        Raises:
            UserNotFoundError: there is no such user.
            UserBlockedError: the user is blocked.
            SignInSupersededError: all sessions of the user were ended meanwhile.
            InvalidArgumentError: an argument is not allowed; the message names it and what is.
            StoreUnavailable: the store cannot answer.
        """
        return await self._creator.create(
            user_id_of(auth_user_id),
            method=check_method(method),
            scopes=scopes,
            expires_at=expires_at,
            expire_after_unused_for=check_duration("expire_after_unused_for", expire_after_unused_for),
            skip_user_blocked_check=skip_user_blocked_check,
            attempt=attempt,
            client=client,
            replacing=replacing,
            transaction=transaction,
        )

    async def list_sessions(
        self,
        auth_user_id: str | UUID | None = None,
        *,
        method: str | None = None,
        expired: bool | None = None,
        after: str | None = None,
        limit: int = DEFAULT_PAGE_SIZE,
        transaction: Transaction | None = None,
    ) -> Page[SessionInfo]:
        """Sessions in order of id, a page at a time; every filter comes before the limit.

        Args:
            auth_user_id: only sessions of this user; None: sessions of all users.
            method: only sessions with this method of sign-in.
            expired: True: only sessions past a deadline; False: only live ones; None: both.
            after: the `next_after` of the page before.
            limit: the size of the page, 1 to 1000.
            transaction: read inside the caller's transaction.
        """
        start = None if after is None else session_id_of(after)
        if after is not None and start is None:
            raise InvalidArgumentError("after must be the next_after of an earlier page")
        user_id = None if auth_user_id is None else user_id_of(auth_user_id)
        page = await self._store.list_sessions(
            SessionFilter(user_id=user_id, method=method),
            expired=expired,
            after=start,
            limit=page_size(limit),
            transaction=transaction,
        )
        return Page([session_info(listed) for listed in page], page.next_after)

    async def get_session(
        self,
        session_id: str | UUID,
        *,
        auth_user_id: str | UUID | None = None,
        transaction: Transaction | None = None,
    ) -> SessionInfo | None:
        """One session, live or past a deadline; None if there is none. With `auth_user_id` it must be that user's.

        Raises:
            InvalidArgumentError: `session_id` is not a UUID, a token for example.
        """
        wanted = given_session_id(session_id)
        user_id = None if auth_user_id is None else user_id_of(auth_user_id)
        page = await self._store.list_sessions(
            SessionFilter(user_id=user_id, session_id=wanted), limit=1, transaction=transaction
        )
        return session_info(page[0]) if page else None

    async def revoke_session(
        self,
        session_id: str | UUID,
        *,
        auth_user_id: str | UUID | None = None,
        transaction: Transaction | None = None,
    ) -> bool:
        """End one session now. True if there was one; an unknown id ends nothing.

        With `auth_user_id` the session is ended only if it is that user's: one statement decides both. After this
        returns, no validation that starts later succeeds, on any server. Inside the caller's transaction, that holds
        from the commit on.

        Raises:
            InvalidArgumentError: `session_id` is not a UUID, a token for example; nothing was ended.
            RevocationIndeterminate: it is not known whether the session has ended; treat it as live and try again.
            StoreUnavailable: nothing was ended.
        """
        wanted = given_session_id(session_id)
        user_id = None if auth_user_id is None else user_id_of(auth_user_id)
        which = SessionFilter(user_id=user_id, session_id=wanted)
        deletion = self._store.delete_sessions(which, transaction=transaction)
        change = await self._endings.run(deletion, user_id=user_id, transaction=transaction)
        return bool(change.ended)

    def ending_ticket(self, token: str) -> str | None:
        """A text that can end the session of this token, later, and can do nothing else; None if it is not a token.

        For a client that gives up its token before the end of its session is confirmed. The store is not asked.
        """
        return self._tickets.ticket_for(token)

    async def end_by_ticket(self, ticket: str) -> bool | None:
        """End the session of an `ending_ticket`. False if it is over already, None if the text is no ticket at all.

        The secret of the token in the ticket is checked, as it is of any token.

        Raises:
            SignOutUnconfirmedError: the pepper with which the ticket was sealed, or that of its session, is not
                configured here, so the session may live; or the text was made up.
            RevocationIndeterminate, StoreUnavailable: as `revoke_session`; the ticket stays good.
        """
        token = self._tickets.token_in(ticket)
        if token is None:
            return None
        standing = await self.validator.examine(token)
        if standing.answer is TokenRefusal.UNKNOWN_PEPPER:
            raise SignOutUnconfirmedError
        holder = standing.answer if isinstance(standing.answer, AuthenticationInfo) else standing.holder
        return holder is not None and await self.revoke_session(holder.auth_id, auth_user_id=holder.user_identifier)

    async def revoke_all_sessions(
        self,
        auth_user_id: str | UUID,
        *,
        method: str | None = None,
        except_session_id: str | UUID | None = None,
        transaction: Transaction | None = None,
    ) -> tuple[SessionId, ...]:
        """End all sessions of a user now, and the user's sign-ins that are under way; return the ids.

        With `method` only sessions with this method of sign-in end, with `except_session_id` all but this one ("sign
        out my other devices"). Sign-ins under way end in any case.

        Raises:
            RevocationIndeterminate: it is not known which sessions have ended; treat all as live and try again.
            StoreUnavailable: nothing was ended.
        """
        user_id = user_id_of(auth_user_id)
        spared = None if except_session_id is None else given_session_id(except_session_id, name="except_session_id")

        ending = self._store.end_user_sessions(
            user_id, method=method, except_session_id=spared, transaction=transaction
        )
        change = await self._endings.run(ending, user_id=user_id, transaction=transaction)
        return tuple(one.session_id for one in change.ended)

    async def update_scopes(
        self,
        *,
        scopes: AbstractSet[str] | None,
        session_id: str | UUID | None = None,
        auth_user_id: str | UUID | None = None,
        transaction: Transaction | None = None,
    ) -> bool:
        """Change the scopes of one session, or of a user and all their sessions. The next validation sees the change.

        With `session_id`: the session gets exactly these scopes; None makes it follow its user again. The result is
        False if there is no such session; with `auth_user_id` as well, it must be that user's. With `auth_user_id`
        alone: sessions that follow the user get these scopes, the others lose the scopes that the user lost. This is
        for applications with users of their own: `AuthUsers.update` does it by itself.

        Raises:
            InvalidArgumentError: neither id is given, `session_id` is not a UUID, or `scopes` is not allowed.
            StoreUnavailable: the store cannot answer.
        """
        wanted = None if scopes is None else scope_set(scopes)
        user_id = None if auth_user_id is None else user_id_of(auth_user_id)
        if session_id is not None:
            return await self._update_session_scopes(session_id, wanted, user_id, transaction)
        if user_id is None:
            raise InvalidArgumentError("give session_id, auth_user_id or both")
        if wanted is None:
            raise InvalidArgumentError("scopes must be given for a user; an empty set takes all scopes away")
        rescope = self._store.set_user_scopes(user_id, wanted, transaction=transaction)
        await published(self._bus, rescope, user_id=user_id, transaction=transaction)
        return True

    @property
    def dropped_writes(self) -> int:
        """The number of touches and rehashes that were dropped so far, because the store was too slow or unreachable.

        For a metric. After a dropped touch the inactivity timeout may end a session too early, never too late.
        """
        return self._touches.dropped

    async def flush(self) -> None:
        """Write the touches and rehashes that are waiting."""
        await self._touches.flush()

    async def close(self) -> None:
        """Finish the revocations that are under way and write the waiting touches. The pod calls this."""
        await self._endings.close()
        await self._touches.close()

    async def _update_session_scopes(
        self,
        session_id: str | UUID,
        scopes: frozenset[Scope] | None,
        user_id: UserId | None,
        transaction: Transaction | None,
    ) -> bool:
        wanted = given_session_id(session_id)
        rescope = self._store.set_session_scopes(wanted, scopes, user_id=user_id, transaction=transaction)
        change = await published(self._bus, rescope, user_id=user_id, transaction=transaction)
        return change is not None
