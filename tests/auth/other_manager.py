"""A token manager of another kind, to stand beside server-side sessions."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from coatcheck import (
    AuthenticationInfo,
    AuthSuccess,
    Page,
    SignInAttempt,
    StoreUnavailable,
    Token,
    TokenInfo,
    TokenRefusal,
)
from coatcheck.identifiers import UserId, user_id_of
from coatcheck.stores.records import UserEpochs
from coatcheck.tokens import TokenStanding

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from uuid import UUID

    from coatcheck.client_info import ClientInfo
    from coatcheck.stores.store import Transaction


class OtherTokenManager:
    """Keeps its tokens in a dictionary."""

    issuer = "other"

    def __init__(self) -> None:
        self.issued: dict[str, TokenInfo] = {}
        self.asked: list[str] = []
        self.is_down = False
        self.refusal = TokenRefusal.NOT_A_TOKEN

    def id_of(self, success: AuthSuccess) -> str:
        return f"id of {str(success.token)[:4]}"

    async def begin_sign_in(
        self, auth_user_id: str | UUID | None = None, *, transaction: Transaction | None = None
    ) -> SignInAttempt:
        return SignInAttempt(None if auth_user_id is None else user_id_of(auth_user_id), UserEpochs())

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
        return await self.create_token(auth_user_id=auth_user_id, method=method, scopes=scopes)

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
        token, now = secrets.token_hex(8), datetime.now(UTC)
        user_id = user_id_of(auth_user_id)
        self.issued[token] = TokenInfo(user_id, f"id of {token[:4]}", self.issuer, frozenset(), method, now, now, None)
        return AuthSuccess(self.issuer, Token(token), None, UserId(user_id), frozenset())

    async def validate_token(self, token: str) -> AuthenticationInfo | None:
        answer = await self.explain_token(token)
        return answer if isinstance(answer, AuthenticationInfo) else None

    async def explain_token(self, token: str) -> AuthenticationInfo | TokenRefusal:
        self.asked.append(token)
        if self.is_down:
            raise StoreUnavailable("down, for the test")
        found = self.issued.get(token)
        return self.refusal if found is None else AuthenticationInfo(found.user_id, found.scopes, found.token_id)

    async def examine_token(self, token: str) -> TokenStanding:
        return TokenStanding(await self.explain_token(token))

    async def list_tokens(
        self,
        *,
        auth_user_id: str | UUID | None = None,
        method: str | None = None,
        token_issuer: str | None = None,
        after: str | None = None,
        limit: int = 100,
        transaction: Transaction | None = None,
    ) -> Page[TokenInfo]:
        found = sorted(self._matching(auth_user_id, method), key=lambda token: token.token_id)
        rest = [token for token in found if after is None or token.token_id > after]
        return Page(rest[:limit], rest[limit - 1].token_id if len(rest) > limit else None)

    async def revoke_token(
        self,
        *,
        token_id: str,
        auth_user_id: str | UUID | None = None,
        token_issuer: str | None = None,
        transaction: Transaction | None = None,
    ) -> bool:
        return self._forget({token_id})

    async def revoke_all_tokens(
        self,
        *,
        auth_user_id: str | UUID,
        method: str | None = None,
        token_issuer: str | None = None,
        except_token_id: str | None = None,
        transaction: Transaction | None = None,
    ) -> tuple[str, ...]:
        ids = tuple(token.token_id for token in self._matching(auth_user_id, method))
        self._forget(set(ids))
        return ids

    def _forget(self, ids: set[str]) -> bool:
        before = len(self.issued)
        self.issued = {token: info for token, info in self.issued.items() if info.token_id not in ids}
        return len(self.issued) < before

    def _matching(self, auth_user_id: str | UUID | None, method: str | None) -> list[TokenInfo]:
        user_id = None if auth_user_id is None else user_id_of(auth_user_id)
        return [
            token
            for token in self.issued.values()
            if user_id in {None, token.user_id} and method in {None, token.method}
        ]
