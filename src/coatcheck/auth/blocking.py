"""The calls of token managers, sessions and users as they block, for threads without an event loop.

Made by `make format` (scripts/blocking-api) from the asynchronous classes; change it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.pages import DEFAULT_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from datetime import datetime, timedelta
    from uuid import UUID

    from coatcheck.auth.multi import MultiTokenManager
    from coatcheck.auth.users import AuthUser, AuthUsers
    from coatcheck.client_info import ClientInfo
    from coatcheck.from_thread import BlockingCaller
    from coatcheck.identifiers import SessionId
    from coatcheck.pages import Page
    from coatcheck.sessions.admin import PepperUsage, ServerSideSessionsAdmin
    from coatcheck.sessions.server_side_sessions import ServerSideSessions
    from coatcheck.sessions.session_info import SessionInfo
    from coatcheck.stores.records import EndedSession
    from coatcheck.stores.store import Transaction
    from coatcheck.tokens import (
        AuthenticationInfo,
        AuthSuccess,
        SignInAttempt,
        TokenInfo,
        TokenManager,
        TokenRefusal,
        TokenStanding,
    )


class BlockingTokenManager:
    """`MultiTokenManager`, whose calls block until they are done."""

    def __init__(self, calls: MultiTokenManager, call: BlockingCaller) -> None:
        """Make the calls of `calls` by way of `call`."""
        self._calls = calls
        self._call = call

    @property
    def primary(self) -> TokenManager:
        """The manager that issues tokens."""
        return self._calls.primary

    @property
    def issuer(self) -> str:
        """The issuer of the primary manager."""
        return self._calls.issuer

    def begin_sign_in(
        self, auth_user_id: str | UUID | None = None, *, transaction: Transaction | None = None
    ) -> SignInAttempt:
        """Begin a sign-in, before the credentials are read. Give the attempt to the call that issues the token.

        See `MultiTokenManager.begin_sign_in`.
        """
        return self._call(self._calls.begin_sign_in, auth_user_id, transaction=transaction)

    def issue_token(
        self,
        *,
        auth_user_id: str | UUID,
        method: str,
        caller: AuthenticationInfo | None,
        scopes: AbstractSet[str] | None = None,
        attempt: SignInAttempt | None = None,
        client: ClientInfo | None = None,
        replacing: AuthenticationInfo | None = None,
        transaction: Transaction | None = None,
    ) -> AuthSuccess:
        """Issue a token under the sign-in policy: a `caller` who is signed in may only sign in as the same user.

        See `MultiTokenManager.issue_token`.
        """
        return self._call(
            self._calls.issue_token,
            auth_user_id=auth_user_id,
            method=method,
            caller=caller,
            scopes=scopes,
            attempt=attempt,
            client=client,
            replacing=replacing,
            transaction=transaction,
        )

    def create_token(
        self,
        *,
        auth_user_id: str | UUID,
        method: str,
        scopes: AbstractSet[str] | None = None,
        attempt: SignInAttempt | None = None,
        client: ClientInfo | None = None,
        replacing: AuthenticationInfo | None = None,
        transaction: Transaction | None = None,
    ) -> AuthSuccess:
        """Issue a token without any policy. With `scopes` None it gets the user's scopes, and follows their changes.

        See `MultiTokenManager.create_token`.
        """
        return self._call(
            self._calls.create_token,
            auth_user_id=auth_user_id,
            method=method,
            scopes=scopes,
            attempt=attempt,
            client=client,
            replacing=replacing,
            transaction=transaction,
        )

    def validate_token(self, token: str) -> AuthenticationInfo | None:
        """The caller that the token stands for; None if the token is not valid.

        See `MultiTokenManager.validate_token`.
        """
        return self._call(self._calls.validate_token, token)

    def explain_token(self, token: str) -> AuthenticationInfo | TokenRefusal:
        """The caller that the token stands for, or the reason why there is none."""
        return self._call(self._calls.explain_token, token)

    def examine_token(self, token: str) -> TokenStanding:
        """The caller and the time until a deadline, without counting as a use: the idle deadline does not move.

        See `MultiTokenManager.examine_token`.
        """
        return self._call(self._calls.examine_token, token)

    def list_tokens(
        self,
        *,
        auth_user_id: str | UUID | None = None,
        method: str | None = None,
        token_issuer: str | None = None,
        after: str | None = None,
        limit: int = DEFAULT_PAGE_SIZE,
        transaction: Transaction | None = None,
    ) -> Page[TokenInfo]:
        """The issued tokens that match, a page at a time; `after` is the last page's `next_after`."""
        return self._call(
            self._calls.list_tokens,
            auth_user_id=auth_user_id,
            method=method,
            token_issuer=token_issuer,
            after=after,
            limit=limit,
            transaction=transaction,
        )

    def revoke_token(
        self,
        *,
        token_id: str,
        auth_user_id: str | UUID | None = None,
        token_issuer: str | None = None,
        transaction: Transaction | None = None,
    ) -> bool:
        """End one token. True if there was one; an unknown id is no error. With `auth_user_id`, only if it is theirs.

        See `MultiTokenManager.revoke_token`.
        """
        return self._call(
            self._calls.revoke_token,
            token_id=token_id,
            auth_user_id=auth_user_id,
            token_issuer=token_issuer,
            transaction=transaction,
        )

    def ending_ticket(self, token: str) -> str | None:
        """A text that can end this token, later, and can do nothing else. None: there is no ticket for this token.

        See `MultiTokenManager.ending_ticket`.
        """
        return self._calls.ending_ticket(token)

    def end_by_ticket(self, ticket: str) -> bool | None:
        """End the token of a ticket. False if it has ended already, None if the text is no ticket at all.

        See `MultiTokenManager.end_by_ticket`.
        """
        return self._call(self._calls.end_by_ticket, ticket)

    def revoke_all_tokens(
        self,
        *,
        auth_user_id: str | UUID,
        method: str | None = None,
        token_issuer: str | None = None,
        except_token_id: str | None = None,
        transaction: Transaction | None = None,
    ) -> tuple[str, ...]:
        """End all tokens of a user that match, and the user's sign-ins that are under way. Returns the ids.

        See `MultiTokenManager.revoke_all_tokens`.
        """
        return self._call(
            self._calls.revoke_all_tokens,
            auth_user_id=auth_user_id,
            method=method,
            token_issuer=token_issuer,
            except_token_id=except_token_id,
            transaction=transaction,
        )


class BlockingAuthUsers:
    """`AuthUsers`, whose calls block until they are done."""

    def __init__(self, calls: AuthUsers, call: BlockingCaller) -> None:
        """Make the calls of `calls` by way of `call`."""
        self._calls = calls
        self._call = call

    def create(
        self,
        *,
        id: str | UUID | None = None,
        scopes: AbstractSet[str] = frozenset(),
        blocked: bool = False,
        transaction: Transaction | None = None,
    ) -> AuthUser:
        """Create a user, by default without scopes and not blocked. Without an `id` it gets a new UUID.

        See `AuthUsers.create`.
        """
        return self._call(self._calls.create, id=id, scopes=scopes, blocked=blocked, transaction=transaction)

    def get(self, user_id: str | UUID, *, transaction: Transaction | None = None) -> AuthUser:
        """The user with this id.

        See `AuthUsers.get`.
        """
        return self._call(self._calls.get, user_id, transaction=transaction)

    def list(
        self, *, after: str | None = None, limit: int = DEFAULT_PAGE_SIZE, transaction: Transaction | None = None
    ) -> Page[AuthUser]:
        """Users in order of id, at most `limit` (1 to 1000) after the id `after`."""
        return self._call(self._calls.list, after=after, limit=limit, transaction=transaction)

    def update(
        self,
        user_id: str | UUID,
        *,
        scopes: AbstractSet[str] | None = None,
        blocked: bool | None = None,
        transaction: Transaction | None = None,
    ) -> AuthUser:
        """Change a user's scopes, whether they are blocked, or both; None leaves a field alone.

        See `AuthUsers.update`.
        """
        return self._call(self._calls.update, user_id, scopes=scopes, blocked=blocked, transaction=transaction)

    def delete(self, user_id: str | UUID, *, transaction: Transaction | None = None) -> None:
        """Delete a user and all their sessions.

        See `AuthUsers.delete`.
        """
        return self._call(self._calls.delete, user_id, transaction=transaction)


class BlockingServerSideSessions:
    """`ServerSideSessions`, whose calls block until they are done."""

    def __init__(self, calls: ServerSideSessions, call: BlockingCaller) -> None:
        """Make the calls of `calls` by way of `call`."""
        self._calls = calls
        self._call = call

    def explain(self, token: str) -> AuthenticationInfo | TokenRefusal:
        """The caller that the token stands for, or the reason why there is none.

        See `ServerSideSessions.explain`.
        """
        return self._call(self._calls.explain, token)

    def examine(self, token: str) -> TokenStanding:
        """The caller and the time until a deadline, without counting as a use. For connections that are kept open.

        See `ServerSideSessions.examine`.
        """
        return self._call(self._calls.examine, token)

    def begin_sign_in(
        self, auth_user_id: str | UUID | None = None, *, transaction: Transaction | None = None
    ) -> SignInAttempt:
        """Begin a sign-in, before the credentials are read. Give the attempt to `create_session`.

        See `ServerSideSessions.begin_sign_in`.
        """
        return self._call(self._calls.begin_sign_in, auth_user_id, transaction=transaction)

    def create_session(
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

        See `ServerSideSessions.create_session`.
        """
        return self._call(
            self._calls.create_session,
            auth_user_id,
            method=method,
            scopes=scopes,
            expires_at=expires_at,
            expire_after_unused_for=expire_after_unused_for,
            skip_user_blocked_check=skip_user_blocked_check,
            attempt=attempt,
            client=client,
            replacing=replacing,
            transaction=transaction,
        )

    def list_sessions(
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

        See `ServerSideSessions.list_sessions`.
        """
        return self._call(
            self._calls.list_sessions,
            auth_user_id,
            method=method,
            expired=expired,
            after=after,
            limit=limit,
            transaction=transaction,
        )

    def get_session(
        self, session_id: str | UUID, *, auth_user_id: str | UUID | None = None, transaction: Transaction | None = None
    ) -> SessionInfo | None:
        """One session, live or past a deadline; None if there is none. With `auth_user_id` it must be that user's.

        See `ServerSideSessions.get_session`.
        """
        return self._call(self._calls.get_session, session_id, auth_user_id=auth_user_id, transaction=transaction)

    def revoke_session(
        self, session_id: str | UUID, *, auth_user_id: str | UUID | None = None, transaction: Transaction | None = None
    ) -> bool:
        """End one session now. True if there was one; an unknown id ends nothing.

        See `ServerSideSessions.revoke_session`.
        """
        return self._call(self._calls.revoke_session, session_id, auth_user_id=auth_user_id, transaction=transaction)

    def ending_ticket(self, token: str) -> str | None:
        """A text that can end the session of this token, later, and can do nothing else; None if it is not a token.

        See `ServerSideSessions.ending_ticket`.
        """
        return self._calls.ending_ticket(token)

    def end_by_ticket(self, ticket: str) -> bool | None:
        """End the session of an `ending_ticket`. False if it is over already, None if the text is no ticket at all.

        See `ServerSideSessions.end_by_ticket`.
        """
        return self._call(self._calls.end_by_ticket, ticket)

    def revoke_all_sessions(
        self,
        auth_user_id: str | UUID,
        *,
        method: str | None = None,
        except_session_id: str | UUID | None = None,
        transaction: Transaction | None = None,
    ) -> tuple[SessionId, ...]:
        """End all sessions of a user now, and the user's sign-ins that are under way; return the ids.

        See `ServerSideSessions.revoke_all_sessions`.
        """
        return self._call(
            self._calls.revoke_all_sessions,
            auth_user_id,
            method=method,
            except_session_id=except_session_id,
            transaction=transaction,
        )

    def update_scopes(
        self,
        *,
        scopes: AbstractSet[str] | None,
        session_id: str | UUID | None = None,
        auth_user_id: str | UUID | None = None,
        transaction: Transaction | None = None,
    ) -> bool:
        """Change the scopes of one session, or of a user and all their sessions. The next validation sees the change.

        See `ServerSideSessions.update_scopes`.
        """
        return self._call(
            self._calls.update_scopes,
            scopes=scopes,
            session_id=session_id,
            auth_user_id=auth_user_id,
            transaction=transaction,
        )

    @property
    def dropped_writes(self) -> int:
        """The number of touches and rehashes that were dropped so far, because the store was too slow or unreachable.

        See `ServerSideSessions.dropped_writes`.
        """
        return self._calls.dropped_writes

    def flush(self) -> None:
        """Write the touches and rehashes that are waiting."""
        return self._call(self._calls.flush)


class BlockingServerSideSessionsAdmin:
    """`ServerSideSessionsAdmin`, whose calls block until they are done."""

    def __init__(self, calls: ServerSideSessionsAdmin, call: BlockingCaller) -> None:
        """Make the calls of `calls` by way of `call`."""
        self._calls = calls
        self._call = call

    def delete_sessions(
        self,
        *,
        auth_user_id: str | UUID | None = None,
        session_id: str | UUID | None = None,
        method: str | None = None,
        transaction: Transaction | None = None,
    ) -> tuple[EndedSession, ...]:
        """Delete the sessions that match all given filters, and return their user ids and session ids.

        See `ServerSideSessionsAdmin.delete_sessions`.
        """
        return self._call(
            self._calls.delete_sessions,
            auth_user_id=auth_user_id,
            session_id=session_id,
            method=method,
            transaction=transaction,
        )

    def delete_expired_sessions(self, *, expired: bool = True, inactive: bool = True, chunk_size: int = 500) -> int:
        """Delete sessions past their absolute (`expired`) and their idle (`inactive`) deadline; return their number.

        See `ServerSideSessionsAdmin.delete_expired_sessions`.
        """
        return self._call(
            self._calls.delete_expired_sessions, expired=expired, inactive=inactive, chunk_size=chunk_size
        )

    def pepper_usage(self) -> tuple[PepperUsage, ...]:
        """The number of sessions under each pepper; a fallback with 0 can be removed. Reads every row of the store."""
        return self._call(self._calls.pepper_usage)
