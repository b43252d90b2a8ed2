"""Several token managers as one: the first issues, all validate, list and revoke."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from coatcheck.errors import ConfigurationError, InvalidArgumentError, SignOutUnconfirmedError
from coatcheck.identifiers import NotASessionIdError, refuse_token
from coatcheck.pages import DEFAULT_PAGE_SIZE, Page, page_size
from coatcheck.tokens import AuthenticationInfo, IssuesEndingTickets, TokenRefusal, TokenStanding

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from uuid import UUID

    from coatcheck.client_info import ClientInfo
    from coatcheck.stores.store import Transaction
    from coatcheck.tokens import AuthSuccess, SignInAttempt, TokenInfo, TokenManager


class MultiTokenManager:
    """The primary token manager and the additional ones, in the order in which they are asked.

    A manager that cannot answer (`StoreUnavailable`) is not skipped: it may be the one that knows the token.
    """

    def __init__(self, managers: Sequence[TokenManager]) -> None:
        """The first of `managers` is the primary.

        Raises:
            ConfigurationError: there is none, or two of them have the same issuer and could not be told apart.
        """
        if not managers:
            raise ConfigurationError("token_manager_builders must name at least one token manager")
        issuers = [manager.issuer for manager in managers]
        for issuer in issuers:
            if issuers.count(issuer) > 1:
                raise ConfigurationError(
                    f"two token managers issue tokens as {issuer!r}; give the second another issuer, or, for an "
                    "earlier pepper, use fallback_session_key_hash_peppers"
                )
        self.managers: tuple[TokenManager, ...] = tuple(managers)

    @property
    def primary(self) -> TokenManager:
        """The manager that issues tokens."""
        return self.managers[0]

    @property
    def issuer(self) -> str:
        """The issuer of the primary manager."""
        return self.primary.issuer

    async def begin_sign_in(
        self, auth_user_id: str | UUID | None = None, *, transaction: Transaction | None = None
    ) -> SignInAttempt:
        """See `TokenManager.begin_sign_in`; the primary begins it."""
        return await self.primary.begin_sign_in(auth_user_id, transaction=transaction)

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
        """See `TokenManager.issue_token`; the primary issues."""
        success = await self.primary.issue_token(
            auth_user_id=auth_user_id,
            method=method,
            caller=caller,
            scopes=scopes,
            attempt=attempt,
            client=client,
            replacing=replacing,
            transaction=transaction,
        )
        await self._end_elsewhere(replacing, transaction)
        return success

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
        """See `TokenManager.create_token`; the primary issues."""
        success = await self.primary.create_token(
            auth_user_id=auth_user_id,
            method=method,
            scopes=scopes,
            attempt=attempt,
            client=client,
            replacing=replacing,
            transaction=transaction,
        )
        await self._end_elsewhere(replacing, transaction)
        return success

    async def validate_token(self, token: str) -> AuthenticationInfo | None:
        """See `TokenManager.validate_token`; the first manager that knows the token answers."""
        answer = await self.explain_token(token)
        return answer if isinstance(answer, AuthenticationInfo) else None

    def explain_token(self, token: str) -> Coroutine[Any, Any, AuthenticationInfo | TokenRefusal]:
        """See `TokenManager.explain_token`. If several managers refuse, a refusal for the token's holder wins."""
        managers = self.managers  # not `primary`: the path of every request saves each call
        return managers[0].explain_token(token) if len(managers) == 1 else self._explain_by_all(token)

    async def examine_token(self, token: str) -> TokenStanding:
        """See `TokenManager.examine_token`. If several managers refuse, a refusal for the token's holder wins."""
        refusal = TokenStanding(TokenRefusal.NOT_A_TOKEN)
        for manager in self.managers:
            standing = await manager.examine_token(token)
            if isinstance(standing.answer, AuthenticationInfo):
                return standing
            if _says_more(standing.answer, refusal.answer):
                refusal = standing
        return refusal

    async def _explain_by_all(self, token: str) -> AuthenticationInfo | TokenRefusal:
        refusal = TokenRefusal.NOT_A_TOKEN
        for manager in self.managers:
            answer = await manager.explain_token(token)
            if isinstance(answer, AuthenticationInfo):
                return answer
            if _says_more(answer, refusal):
                refusal = answer
        return refusal

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
        """See `TokenManager.list_tokens`; the tokens of each manager follow those of the one before."""
        first, within = self._position(after)
        found: list[TokenInfo] = []
        room = page_size(limit)
        for number, manager in enumerate(self.managers[first:], start=first):
            if token_issuer not in {None, manager.issuer}:
                continue
            page = await manager.list_tokens(
                auth_user_id=auth_user_id,
                method=method,
                token_issuer=token_issuer,
                after=within if number == first else None,
                limit=room - len(found),
                transaction=transaction,
            )
            found.extend(page)
            if page.next_after is not None:
                return Page(found, f"{number}:{page.next_after}")
            if len(found) == room and number + 1 < len(self.managers):
                return Page(found, f"{number + 1}:")
        return Page(found)

    async def revoke_token(
        self,
        *,
        token_id: str,
        auth_user_id: str | UUID | None = None,
        token_issuer: str | None = None,
        transaction: Transaction | None = None,
    ) -> bool:
        """See `TokenManager.revoke_token`; reaches every manager."""
        refuse_token(token_id, name="token_id")
        ended, refusal, is_an_id = False, None, False
        for manager in self._issuing_as(token_issuer):
            try:
                ended |= await manager.revoke_token(
                    token_id=token_id, auth_user_id=auth_user_id, token_issuer=token_issuer, transaction=transaction
                )
                is_an_id = True
            except NotASessionIdError as error:  # it may be the id of another manager's token
                refusal = error
        if refusal is not None and not is_an_id:
            raise refusal
        return ended

    def ending_ticket(self, token: str) -> str | None:
        """See `IssuesEndingTickets`. None beside other managers: in an outage it is not known whose token it is."""
        only = self.managers[0] if len(self.managers) == 1 else None
        return only.ending_ticket(token) if isinstance(only, IssuesEndingTickets) else None

    async def end_by_ticket(self, ticket: str) -> bool | None:
        """See `IssuesEndingTickets`. A ticket is taken by the manager that has issued it, also beside others."""
        unconfirmed = None
        for manager in self.managers:
            try:
                ended = await manager.end_by_ticket(ticket) if isinstance(manager, IssuesEndingTickets) else None
            except SignOutUnconfirmedError as error:  # it may be another manager's
                unconfirmed = error
            else:
                if ended is not None:
                    return ended
        if unconfirmed is not None:
            raise unconfirmed
        return None

    async def revoke_all_tokens(
        self,
        *,
        auth_user_id: str | UUID,
        method: str | None = None,
        token_issuer: str | None = None,
        except_token_id: str | None = None,
        transaction: Transaction | None = None,
    ) -> tuple[str, ...]:
        """See `TokenManager.revoke_all_tokens`; reaches every manager."""
        ended: list[str] = []
        for manager in self._issuing_as(token_issuer):
            ended += await manager.revoke_all_tokens(
                auth_user_id=auth_user_id,
                method=method,
                token_issuer=token_issuer,
                except_token_id=except_token_id,
                transaction=transaction,
            )
        return tuple(ended)

    async def _end_elsewhere(self, replaced: AuthenticationInfo | None, transaction: Transaction | None) -> None:
        """End a replaced token that an additional manager has issued. The primary has ended its own already."""
        if replaced is None:
            return
        for manager in self.managers[1:]:
            with suppress(NotASessionIdError):  # then it is the id of another manager's token
                await manager.revoke_token(
                    token_id=replaced.auth_id, auth_user_id=replaced.user_identifier, transaction=transaction
                )

    def _issuing_as(self, token_issuer: str | None) -> Iterator[TokenManager]:
        return (manager for manager in self.managers if token_issuer in {None, manager.issuer})

    def _position(self, after: str | None) -> tuple[int, str | None]:
        """The manager with which a listing goes on, and the `after` of that manager's own listing."""
        if after is None:
            return 0, None
        number, separator, within = after.partition(":")
        numbers = [str(position) for position in range(len(self.managers))]
        if not separator or number not in numbers:
            raise InvalidArgumentError("after must be the next_after of an earlier page")
        return numbers.index(number), within or None


def _says_more(answer: TokenRefusal | AuthenticationInfo, than: TokenRefusal | AuthenticationInfo) -> bool:
    """Whether a manager's refusal is to be told, and not that of one that was asked before."""
    return _WEIGHTS.get(answer, 1) > _WEIGHTS.get(than, 1)


# Where one manager has such a session and cannot check it, no other can say that it is over. One whose secret is right
# is that of the token.
_WEIGHTS: dict[TokenRefusal | AuthenticationInfo, int] = {
    TokenRefusal.NOT_A_TOKEN: 0,
    TokenRefusal.UNKNOWN_PEPPER: 2,
    TokenRefusal.CORRUPT: 3,
    TokenRefusal.EXPIRED: 3,
    TokenRefusal.INACTIVE: 3,
}
