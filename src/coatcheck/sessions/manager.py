"""The token manager over server-side sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coatcheck.errors import SignInWhileAuthenticatedError
from coatcheck.identifiers import given_session_id, user_id_of
from coatcheck.pages import DEFAULT_PAGE_SIZE, Page
from coatcheck.sessions.limits import STRATEGY
from coatcheck.tokens import AuthenticationInfo, TokenInfo

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from collections.abc import Set as AbstractSet
    from uuid import UUID

    from coatcheck.client_info import ClientInfo
    from coatcheck.sessions.server_side_sessions import ServerSideSessions
    from coatcheck.sessions.session_info import SessionInfo
    from coatcheck.stores.store import Transaction
    from coatcheck.tokens import AuthSuccess, SignInAttempt, TokenRefusal, TokenStanding


class ServerSideSessionsTokenManager:
    """Tokens that are valid as long as the store has a row for their session.

    `server_side_sessions` gives more control over each session.
    """

    def __init__(self, server_side_sessions: ServerSideSessions) -> None:
        """Manage the tokens of these sessions."""
        self.server_side_sessions = server_side_sessions
        self._validator = server_side_sessions.validator

    @property
    def issuer(self) -> str:
        """Always "session"."""
        return STRATEGY

    async def begin_sign_in(
        self, auth_user_id: str | UUID | None = None, *, transaction: Transaction | None = None
    ) -> SignInAttempt:
        return await self.server_side_sessions.begin_sign_in(auth_user_id, transaction=transaction)

    async def issue_token(
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
        if caller is not None and caller.user_identifier != user_id_of(auth_user_id):
            raise SignInWhileAuthenticatedError
        return await self.create_token(
            auth_user_id=auth_user_id,
            method=method,
            scopes=scopes,
            attempt=attempt,
            client=client,
            replacing=replacing,
            transaction=transaction,
        )

    async def create_token(
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
        return await self.server_side_sessions.create_session(
            auth_user_id,
            method=method,
            scopes=scopes,
            attempt=attempt,
            client=client,
            replacing=replacing,
            transaction=transaction,
        )

    async def validate_token(self, token: str) -> AuthenticationInfo | None:
        answer = await self._validator.explain(token)
        return answer if isinstance(answer, AuthenticationInfo) else None

    def explain_token(self, token: str) -> Coroutine[Any, Any, AuthenticationInfo | TokenRefusal]:
        return self._validator.explain(token)

    def examine_token(self, token: str) -> Coroutine[Any, Any, TokenStanding]:
        return self._validator.examine(token)

    async def list_tokens(
        self,
        *,
        auth_user_id: str | UUID | None = None,
        method: str | None = None,
        token_issuer: str | None = None,
        after: str | None = None,
        limit: int = DEFAULT_PAGE_SIZE,
        transaction: Transaction | None = None,
    ) -> Page[TokenInfo]:
        """A page of tokens. Tokens past a deadline are not listed."""
        if token_issuer not in {None, STRATEGY}:
            return Page(())
        page = await self.server_side_sessions.list_sessions(
            auth_user_id, method=method, expired=False, after=after, limit=limit, transaction=transaction
        )
        return Page([_token_info(session) for session in page], page.next_after)

    async def revoke_token(
        self,
        *,
        token_id: str,
        auth_user_id: str | UUID | None = None,
        token_issuer: str | None = None,
        transaction: Transaction | None = None,
    ) -> bool:
        if token_issuer not in {None, STRATEGY}:
            return False
        return await self.server_side_sessions.revoke_session(
            given_session_id(token_id, name="token_id"), auth_user_id=auth_user_id, transaction=transaction
        )

    def ending_ticket(self, token: str) -> str | None:
        return self.server_side_sessions.ending_ticket(token)

    async def end_by_ticket(self, ticket: str) -> bool | None:
        return await self.server_side_sessions.end_by_ticket(ticket)

    async def revoke_all_tokens(
        self,
        *,
        auth_user_id: str | UUID,
        method: str | None = None,
        token_issuer: str | None = None,
        except_token_id: str | None = None,
        transaction: Transaction | None = None,
    ) -> tuple[str, ...]:
        if token_issuer not in {None, STRATEGY}:
            return ()
        spared = None if except_token_id is None else given_session_id(except_token_id, name="except_token_id")
        return await self.server_side_sessions.revoke_all_sessions(
            auth_user_id, method=method, except_session_id=spared, transaction=transaction
        )


def _token_info(session: SessionInfo) -> TokenInfo:
    return TokenInfo(
        user_id=session.user_id,
        token_id=session.id,
        token_issuer=STRATEGY,
        scopes=session.scopes,
        method=session.method,
        created_at=session.created_at,
        last_used_at=session.last_used_at,
        expires_at=session.expires_at,
        client=session.client,
    )
