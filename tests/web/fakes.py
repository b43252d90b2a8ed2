"""A token manager in memory that counts what a store would be asked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from coatcheck.errors import InvalidArgumentError, RevocationIndeterminate, StoreUnavailable
from coatcheck.identifiers import SessionId, UserId, session_id_of, user_id_of
from coatcheck.pages import Page, page_size
from coatcheck.scope import scope_set
from coatcheck.token_format import format_token, parse_token
from coatcheck.tokens import (
    AuthenticationInfo,
    AuthSuccess,
    SignInAttempt,
    Token,
    TokenInfo,
    TokenRefusal,
    TokenStanding,
)
from coatcheck.web import SessionCookie

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

SID = SessionCookie(name="sid")
"""The session cookie of the tests: `__Host-sid`."""


@dataclass
class FakeSession:
    secret: bytes
    info: TokenInfo
    refusal: TokenRefusal | None = None


@dataclass
class FakeTokenManager:
    """Behaves as the real manager does towards the web layer."""

    issuer: str = "session"
    reads: int = 0
    explained: int = 0
    issued: int = 0
    ends_in_us: int | None = None
    is_down: bool = False
    revocations_are_lost: bool = False
    sessions: dict[str, FakeSession] = field(default_factory=dict)

    def sign_in(self, user_id: str = "ann", scopes: Iterable[str] = (), method: str = "email") -> Token:
        self.issued += 1
        session_id, secret = SessionId(f"01890a5d-ac96-774b-8000-{self.issued:012x}"), os.urandom(32)
        now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        info = TokenInfo(UserId(user_id), session_id, "session", scope_set(list(scopes)), method, now, now, None)
        self.sessions[session_id] = FakeSession(secret, info)
        return Token(format_token(session_id, secret))

    def session_of(self, token: str) -> FakeSession:
        parsed = parse_token(token)
        assert parsed is not None
        return self.sessions[parsed.session_id]

    def end(self, token: str, refusal: TokenRefusal) -> None:
        self.session_of(token).refusal = refusal

    def rescope(self, token: str, scopes: Iterable[str]) -> None:
        session = self.session_of(token)
        session.info = replace(session.info, scopes=scope_set(list(scopes)))

    async def explain_token(self, token: str) -> AuthenticationInfo | TokenRefusal:
        self.explained += 1
        parsed = parse_token(token)
        if parsed is None:
            return TokenRefusal.NOT_A_TOKEN
        self._read()
        session = self.sessions.get(parsed.session_id)
        if session is None:
            return TokenRefusal.UNKNOWN
        if session.secret != parsed.secret:
            return TokenRefusal.WRONG_SECRET
        if session.refusal is not None:
            return session.refusal
        return AuthenticationInfo(session.info.user_id, session.info.scopes, session.info.token_id)

    async def examine_token(self, token: str) -> TokenStanding:
        answer = await self.explain_token(token)
        return TokenStanding(answer, self.ends_in_us if isinstance(answer, AuthenticationInfo) else None)

    async def validate_token(self, token: str) -> AuthenticationInfo | None:
        answer = await self.explain_token(token)
        return answer if isinstance(answer, AuthenticationInfo) else None

    async def list_tokens(
        self, *, auth_user_id: str | UUID | None = None, after: str | None = None, limit: int = 100, **_: object
    ) -> Page[TokenInfo]:
        self._read()
        if after is not None and session_id_of(after) is None:
            raise InvalidArgumentError("after must be the next_after of an earlier page")
        matching = [
            session.info
            for key, session in sorted(self.sessions.items())
            if session.info.user_id == auth_user_id and (after is None or key > after)
        ]
        page = matching[: page_size(limit)]
        return Page(page, page[-1].token_id if len(matching) > len(page) else None)

    async def revoke_token(self, *, token_id: str, auth_user_id: str | UUID | None = None, **_: object) -> bool:
        self._write()
        session = self.sessions.get(token_id)
        if session is None or session.info.user_id != auth_user_id:
            return False
        del self.sessions[token_id]
        return True

    async def revoke_all_tokens(self, *, auth_user_id: str | UUID, **_: object) -> tuple[str, ...]:
        self._write()
        ended = tuple(key for key, session in self.sessions.items() if session.info.user_id == auth_user_id)
        for key in ended:
            del self.sessions[key]
        return ended

    async def create_token(self, *, auth_user_id: str | UUID, method: str, **_: object) -> AuthSuccess:
        user_id = user_id_of(auth_user_id)
        return AuthSuccess("session", self.sign_in(user_id, (), method), None, user_id, frozenset())

    async def issue_token(self, *, auth_user_id: str | UUID, method: str, **_: object) -> AuthSuccess:
        return await self.create_token(auth_user_id=auth_user_id, method=method)

    async def begin_sign_in(self, auth_user_id: str | UUID | None = None, **_: object) -> SignInAttempt:
        raise NotImplementedError

    def _read(self) -> None:
        self.reads += 1
        if self.is_down:
            raise StoreUnavailable("the store at postgresql://db.internal cannot be reached")

    def _write(self) -> None:
        self._read()
        if self.revocations_are_lost:
            raise RevocationIndeterminate("the connection broke before the answer came")


@dataclass
class FakeAuth:
    """Stands in for AuthServices."""

    token_manager: FakeTokenManager = field(default_factory=FakeTokenManager)
