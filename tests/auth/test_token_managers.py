"""Token managers, alone and together, on every store."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from coatcheck import (
    AuthenticationInfo,
    ConfigurationError,
    InvalidArgumentError,
    MultiTokenManager,
    Scope,
    ServerSideSessionsConfig,
    SignInWhileAuthenticatedError,
    StoreUnavailable,
    TokenManager,
    TokenRefusal,
)
from coatcheck.events import RevokedAuthenticationAuthId
from tests.auth.other_manager import OtherTokenManager
from tests.kinds_of_store import WITH_TRANSACTIONS
from tests.worlds import PEPPER, NewWorld, World

if TYPE_CHECKING:
    from coatcheck import AuthSuccess, AuthUser


@pytest.fixture
def other() -> OtherTokenManager:
    return OtherTokenManager()


@pytest.fixture
async def two(new_world: NewWorld, other: OtherTokenManager) -> World:
    """Two managers: server-side sessions first, then another kind of token."""
    return await new_world(builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER), other])


async def one_of_each(two: World, other: OtherTokenManager, user: AuthUser) -> tuple[AuthSuccess, AuthSuccess]:
    return (
        await two.tokens.create_token(auth_user_id=user.id, method="email"),
        await other.create_token(auth_user_id=user.id, method="google"),
    )


class TestIssuing:
    async def test_a_signed_in_caller_may_only_be_issued_a_token_of_their_own(self, world: World) -> None:
        ann, bob = await world.user(), await world.user()
        caller = await world.tokens.validate_token((await world.sign_in(ann)).token)
        again = await world.tokens.issue_token(auth_user_id=ann.id, method="email", caller=caller)
        assert await world.is_valid(again)
        with pytest.raises(SignInWhileAuthenticatedError):
            await world.tokens.issue_token(auth_user_id=bob.id, method="email", caller=caller)
        assert len(await world.tokens.list_tokens(auth_user_id=bob.id)) == 0

    async def test_any_spelling_of_a_uuid_is_the_callers_own_id(self, world: World) -> None:
        ann = await world.user()
        caller = AuthenticationInfo(ann.id, frozenset(), "x")
        for spelling in (ann.id.upper(), uuid.UUID(ann.id)):
            success = await world.tokens.issue_token(auth_user_id=spelling, method="email", caller=caller)
            assert success.auth_user_id == ann.id

    async def test_a_caller_who_is_not_signed_in_may_be_issued_any_users_token(self, world: World) -> None:
        ann = await world.user()
        assert await world.is_valid(await world.tokens.issue_token(auth_user_id=ann.id, method="email", caller=None))

    async def test_create_token_has_no_sign_in_policy(self, world: World) -> None:
        ann = await world.user("a")
        success = await world.tokens.create_token(auth_user_id=ann.id, method="email", scopes={"b"})
        assert success.auth_strategy == "session"
        assert success.auth_user_id == ann.id
        assert success.scope_names == {"b"}

    async def test_only_the_primary_issues(self, two: World, other: OtherTokenManager) -> None:
        user = await two.user()
        assert (await two.tokens.create_token(auth_user_id=user.id, method="email")).auth_strategy == "session"
        assert (
            await two.tokens.issue_token(auth_user_id=user.id, method="email", caller=None)
        ).auth_strategy == "session"
        assert other.issued == {}
        assert two.tokens.issuer == "session"


class TestValidating:
    async def test_each_managers_tokens_are_valid(self, two: World, other: OtherTokenManager) -> None:
        user = await two.user()
        for success in await one_of_each(two, other, user):
            info = await two.tokens.validate_token(success.token)
            assert info is not None
            assert info.user_identifier == user.id

    async def test_the_primary_is_asked_first_and_the_first_answer_wins(
        self, two: World, other: OtherTokenManager
    ) -> None:
        success = await two.tokens.create_token(auth_user_id=(await two.user()).id, method="email")
        assert await two.tokens.validate_token(success.token) is not None
        assert other.asked == []
        assert await two.tokens.validate_token("nobody's") is None
        assert other.asked == ["nobody's"]

    async def test_an_empty_text_is_not_a_valid_token(self, two: World) -> None:
        assert await two.tokens.validate_token("") is None
        assert await two.tokens.explain_token("") is TokenRefusal.NOT_A_TOKEN

    async def test_a_manager_that_cannot_answer_is_not_skipped(self, two: World, other: OtherTokenManager) -> None:
        other.is_down = True
        with pytest.raises(StoreUnavailable):
            await two.tokens.validate_token("perhaps the other's")

    async def test_the_refusal_for_the_tokens_holder_wins(self, two: World, other: OtherTokenManager) -> None:
        other.refusal = TokenRefusal.EXPIRED
        assert await two.tokens.explain_token("the other's, expired") is TokenRefusal.EXPIRED
        other.refusal = TokenRefusal.UNKNOWN
        assert await two.tokens.explain_token("unknown") is TokenRefusal.UNKNOWN


class TestListing:
    async def test_a_listing_reaches_every_manager_and_shows_no_token(
        self, two: World, other: OtherTokenManager
    ) -> None:
        user = await two.user("a")
        mine, others = await one_of_each(two, other, user)
        listed = await two.tokens.list_tokens(auth_user_id=user.id)
        assert {token.token_issuer for token in listed} == {"session", "other"}
        (session,) = [token for token in listed if token.token_issuer == "session"]
        assert session.token_id == mine.server_side_session_id
        assert (session.user_id, session.method, session.scopes) == (user.id, "email", {Scope("a")})
        assert str(mine.token) not in repr(listed)
        assert str(others.token) not in repr(listed)

    @pytest.mark.parametrize(
        ("filters", "issuers"),
        [
            ({"method": "email"}, ["session"]),
            ({"method": "google"}, ["other"]),
            ({"token_issuer": "session"}, ["session"]),
            ({"token_issuer": "other"}, ["other"]),
            ({"token_issuer": "other", "method": "email"}, []),
            ({"token_issuer": "jwt"}, []),
        ],
        ids=str,
    )
    async def test_filters_by_method_and_issuer_combine(
        self, two: World, other: OtherTokenManager, filters: dict[str, Any], issuers: list[str]
    ) -> None:
        user = await two.user()
        await one_of_each(two, other, user)
        assert [
            token.token_issuer for token in await two.tokens.list_tokens(auth_user_id=user.id, **filters)
        ] == issuers

    async def test_pages_go_from_one_manager_to_the_next(self, two: World, other: OtherTokenManager) -> None:
        user = await two.user()
        for _ in range(2):
            await one_of_each(two, other, user)
        seen: list[str] = []
        after, sizes = None, []
        while True:
            page = await two.tokens.list_tokens(auth_user_id=user.id, limit=1, after=after)
            seen += [token.token_id for token in page]
            sizes.append(len(page))
            after = page.next_after
            if after is None:
                break
        assert len(set(seen)) == len(seen) == 4
        assert sizes == [1, 1, 1, 1]
        with pytest.raises(InvalidArgumentError, match="next_after"):
            await two.tokens.list_tokens(after="9:x")

    async def test_a_token_past_its_deadline_is_not_listed(self, world: World) -> None:
        user = await world.user()
        now = await world.now()
        await world.sign_in(user, expires_at=now)
        assert len(await world.tokens.list_tokens(auth_user_id=user.id)) == 0


class TestRevoking:
    async def test_revoking_one_token_reaches_every_manager_and_is_announced(
        self, two: World, other: OtherTokenManager
    ) -> None:
        user = await two.user()
        mine, others = await one_of_each(two, other, user)
        assert await two.tokens.revoke_token(token_id=other.id_of(others))
        assert not await two.is_valid(others)
        assert await two.tokens.revoke_token(token_id=mine.server_side_session_id)
        assert not await two.is_valid(mine)
        assert two.heard == [RevokedAuthenticationAuthId(user.id, mine.server_side_session_id)]

    async def test_revoking_all_tokens_of_a_user_reaches_every_manager(
        self, two: World, other: OtherTokenManager
    ) -> None:
        user = await two.user()
        both = await one_of_each(two, other, user)
        ended = await two.tokens.revoke_all_tokens(auth_user_id=user.id)
        assert set(ended) == {both[0].server_side_session_id, other.id_of(both[1])}
        assert [await two.is_valid(success) for success in both] == [False, False]

    async def test_revoking_an_unknown_id_ends_no_token(self, world: World) -> None:
        success = await world.sign_in(await world.user())
        assert not await world.tokens.revoke_token(token_id="01a20a6d-8b9d-79ca-a1fb-3530ab3ed05d")
        assert await world.is_valid(success)
        assert world.heard == []

    async def test_an_issuer_leaves_the_tokens_of_others_alone(self, two: World, other: OtherTokenManager) -> None:
        user = await two.user()
        mine, others = await one_of_each(two, other, user)
        assert not await two.tokens.revoke_token(token_id=mine.server_side_session_id, token_issuer="other")
        assert not await two.tokens.revoke_token(token_id=mine.server_side_session_id, token_issuer="jwt")
        assert await two.tokens.revoke_all_tokens(auth_user_id=user.id, token_issuer="jwt") == ()
        assert await two.is_valid(mine)
        assert await two.tokens.revoke_all_tokens(auth_user_id=user.id, token_issuer="session") == (
            mine.server_side_session_id,
        )
        assert not await two.is_valid(mine)
        assert await two.is_valid(others)

    async def test_a_session_manager_alone_ignores_foreign_issuers(self, world: World) -> None:
        user = await world.user()
        success = await world.sign_in(user)
        manager = world.auth.token_manager.primary
        assert len(await manager.list_tokens(auth_user_id=user.id, token_issuer="jwt")) == 0
        assert not await manager.revoke_token(token_id=success.server_side_session_id, token_issuer="jwt")
        assert await manager.revoke_all_tokens(auth_user_id=user.id, token_issuer="jwt") == ()
        assert await world.is_valid(success)

    async def test_tokens_are_revoked_by_method_and_all_but_one(self, world: World) -> None:
        user = await world.user()
        email, google, kept = [await world.sign_in(user, method=name) for name in ("email", "google", "email")]
        await world.tokens.revoke_all_tokens(
            auth_user_id=user.id, method="email", except_token_id=kept.server_side_session_id
        )
        assert [await world.is_valid(success) for success in (email, google, kept)] == [False, True, True]


class TestTransactions:
    @WITH_TRANSACTIONS
    async def test_every_call_takes_part_in_the_callers_transaction(self, world: World) -> None:
        async with world.store.transaction() as tx:
            user = await world.user(transaction=tx)
            attempt = await world.tokens.begin_sign_in(user.id, transaction=tx)
            success = await world.tokens.issue_token(
                auth_user_id=user.id, method="email", caller=None, attempt=attempt, transaction=tx
            )
            other = await world.tokens.create_token(auth_user_id=user.id, method="email", transaction=tx)
            assert len(await world.tokens.list_tokens(auth_user_id=user.id, transaction=tx)) == 2
            assert await world.tokens.revoke_token(token_id=other.server_side_session_id, transaction=tx)
            assert len(await world.tokens.list_tokens(auth_user_id=user.id)) == 0
        assert await world.is_valid(success)
        assert not await world.is_valid(other)

    @WITH_TRANSACTIONS
    async def test_calls_in_a_transaction_that_rolls_back_have_no_effect(self, world: World) -> None:
        user = await world.user()
        before = await world.sign_in(user)
        with pytest.raises(ZeroDivisionError):
            async with world.store.transaction() as tx:
                await world.tokens.create_token(auth_user_id=user.id, method="email", transaction=tx)
                assert len(await world.tokens.revoke_all_tokens(auth_user_id=user.id, transaction=tx)) == 2
                raise ZeroDivisionError
        assert [token.token_id for token in await world.tokens.list_tokens(auth_user_id=user.id)] == [
            before.server_side_session_id
        ]
        assert await world.is_valid(before)
        assert world.heard == []

    @WITH_TRANSACTIONS
    async def test_an_argument_that_is_not_a_transaction_is_a_clear_error(self, world: World) -> None:
        user = await world.user()
        with pytest.raises(InvalidArgumentError, match="transaction must be a SQLAlchemy"):
            await world.tokens.create_token(auth_user_id=user.id, method="email", transaction="BEGIN")  # type: ignore[arg-type]  # the point of the test


class TestConfiguring:
    def test_no_manager_at_all_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match="at least one"):
            MultiTokenManager([])

    def test_two_managers_that_issue_under_one_name_are_an_error(self, other: OtherTokenManager) -> None:
        with pytest.raises(ConfigurationError, match="two token managers issue tokens as 'other'"):
            MultiTokenManager([other, OtherTokenManager()])

    async def test_every_manager_fits_the_protocol(self, two: World) -> None:
        assert isinstance(two.tokens, TokenManager)
        assert all(isinstance(manager, TokenManager) for manager in two.auth.token_manager.managers)


async def test_a_replaced_token_is_ended_whichever_manager_issued_it(two: World, other: OtherTokenManager) -> None:
    user = await two.user()
    _, foreign = await one_of_each(two, other, user)
    caller = await two.tokens.validate_token(foreign.token)
    assert caller is not None
    fresh = await two.tokens.create_token(auth_user_id=user.id, method="email", replacing=caller)
    assert await two.tokens.validate_token(foreign.token) is None
    assert await two.is_valid(fresh)
