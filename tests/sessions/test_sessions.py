"""Server-side sessions, on every store."""

from __future__ import annotations

import logging
import os
import traceback
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from coatcheck import (
    ConfigurationError,
    InvalidArgumentError,
    RevocationIndeterminate,
    Scope,
    StoreUnavailable,
    TokenRefusal,
    UserBlockedError,
    UserNotFoundError,
)
from coatcheck.events import RevokedAuthenticationAuthId, RevokedAuthenticationScope, RevokedAuthenticationUser
from coatcheck.stores.records import KeyHash, NewSession, Rehash
from coatcheck.testing.samples import unknown_id
from coatcheck.token_format import format_token, parse_token
from tests.kinds_of_store import WITH_TRANSACTIONS
from tests.vectors import VECTORS
from tests.worlds import OTHER_PEPPER, PEPPER, NewWorld, World

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck import AuthSuccess, SessionId, UserId
    from coatcheck.stores.records import Change, SessionFilter

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)


class TestValidating:
    async def test_a_text_that_is_no_token_and_a_token_without_session_are_refused(self, world: World) -> None:
        assert await world.tokens.validate_token("no token at all") is None
        unknown = format_token(unknown_id(), bytes(32))
        assert await world.tokens.validate_token(unknown) is None
        assert await world.tokens.explain_token(unknown) is TokenRefusal.UNKNOWN

    async def test_a_valid_token_gives_user_scopes_and_session(self, world: World) -> None:
        user = await world.user("notes:read", "notes:write")
        success = await world.sign_in(user)
        info = await world.tokens.validate_token(success.token)
        assert info is not None
        assert info.user_identifier == user.id
        assert info.scopes == {"notes:read", "notes:write"}
        assert info.auth_id == success.server_side_session_id

    async def test_a_wrong_secret_is_refused(self, world: World) -> None:
        success = await world.sign_in(await world.user())
        forged = format_token(success.server_side_session_id, bytes(32))
        assert await world.tokens.explain_token(forged) is TokenRefusal.WRONG_SECRET
        assert await world.tokens.validate_token(forged) is None

    async def test_a_session_under_another_pepper_is_refused(self, world: World, new_world: NewWorld) -> None:
        success = await world.sign_in(await world.user())
        other = await new_world(session_key_hash_pepper=OTHER_PEPPER)
        assert not await other.is_valid(success)
        assert await other.tokens.explain_token(success.token) is TokenRefusal.UNKNOWN_PEPPER

    @pytest.mark.parametrize("position", [0, 1])
    async def test_an_earlier_pepper_is_accepted_and_the_row_rehashed_on_use(
        self, world: World, new_world: NewWorld, position: int
    ) -> None:
        success = await world.sign_in(await world.user())
        before = await world.row(success)
        fallbacks = ["yet another pepper of many many bytes"]
        fallbacks.insert(position, PEPPER)
        rotated = await new_world(session_key_hash_pepper=OTHER_PEPPER, fallback_session_key_hash_peppers=fallbacks)
        assert await rotated.is_valid(success)
        await rotated.sessions.flush()
        after = await world.row(success)
        assert before is not None
        assert after is not None
        assert after.key.hash != before.key.hash
        assert after.key.pepper_id != before.key.pepper_id
        # The rotation has finished for this row: the old pepper may go.
        assert await (await new_world(session_key_hash_pepper=OTHER_PEPPER)).is_valid(success)
        assert not await world.is_valid(success)

    async def test_a_hash_of_the_superseded_scheme_is_accepted_and_rewritten_with_its_salt(
        self, new_world: NewWorld
    ) -> None:
        vector = VECTORS[1]
        world = await new_world(session_key_hash_pepper=vector.pepper)
        success = await world.sign_in(await world.user())
        row = await world.row(success)
        assert row is not None
        # Our row with the vector's secret: only the id differs from the vector's.
        legacy = KeyHash(vector.legacy_hash, vector.salt, None)
        await world.store.rehash_sessions([Rehash(row.id, row.key, legacy)])
        token = format_token(row.id, vector.secret)
        assert await world.tokens.validate_token(token) is not None
        await world.sessions.flush()
        rewritten = await world.row(success)
        assert rewritten is not None
        assert (rewritten.key.hash, rewritten.key.salt) == (vector.hash, vector.salt)
        assert await world.tokens.validate_token(token) is not None

    async def test_a_row_with_damaged_scopes_is_refused(self, world: World) -> None:
        success = await world.sign_in(await world.user("a"))
        await world.harness.corrupt_scopes(success.server_side_session_id)
        assert await world.tokens.explain_token(success.token) is TokenRefusal.CORRUPT


class TestScopes:
    async def test_explicit_scopes_are_exactly_the_sessions_own(self, world: World) -> None:
        user = await world.user("a", "b")
        for own in ({"a"}, {"c"}, {"a", "c"}, set[str]()):
            success = await world.sign_in(user, scopes=own)
            assert success.scope_names == own
            info = await world.tokens.validate_token(success.token)
            assert info is not None
            assert info.scopes == own

    async def test_without_explicit_scopes_a_session_has_its_users(self, world: World) -> None:
        success = await world.sign_in(await world.user("a", "b"))
        assert success.scope_names == {"a", "b"}

    async def test_a_plain_text_is_not_taken_for_a_set_of_scopes(self, world: World) -> None:
        user = await world.user()
        with pytest.raises(InvalidArgumentError, match="scopes must be a collection"):
            await world.sign_in(user, scopes="admin")

    async def test_changing_a_sessions_scopes_is_seen_by_the_next_validation_and_announced(self, world: World) -> None:
        user = await world.user("a", "b")
        success = await world.sign_in(user)
        assert await world.sessions.update_scopes(session_id=success.server_side_session_id, scopes={"b", "c"})
        info = await world.tokens.validate_token(success.token)
        assert info is not None
        assert info.scopes == {"b", "c"}
        assert world.heard == [
            RevokedAuthenticationScope(user.id, frozenset({Scope("a")}), success.server_side_session_id)
        ]

    async def test_a_session_can_be_made_to_follow_its_user_again(self, world: World) -> None:
        user = await world.user("a")
        success = await world.sign_in(user, scopes={"x"})
        await world.sessions.update_scopes(session_id=success.server_side_session_id, scopes=None)
        await world.auth.auth_users.update(user.id, scopes={"b"})
        info = await world.tokens.validate_token(success.token)
        assert info is not None
        assert info.scopes == {"b"}

    async def test_changing_the_scopes_of_a_session_that_is_gone_changes_nothing(self, world: World) -> None:
        success = await world.sign_in(await world.user("a"))
        await world.sessions.revoke_session(success.server_side_session_id)
        assert not await world.sessions.update_scopes(session_id=success.server_side_session_id, scopes={"a"})
        assert not await world.is_valid(success)

    async def test_a_call_for_one_user_does_not_change_the_scopes_of_another_users_session(self, world: World) -> None:
        ann, bob = await world.user("a"), await world.user()
        success = await world.sign_in(ann)
        change = world.sessions.update_scopes
        session_id = success.server_side_session_id
        assert not await change(session_id=session_id, auth_user_id=bob.id, scopes={"x"})
        assert (await world.tokens.explain_token(success.token)).scopes == {"a"}  # type: ignore[union-attr]  # valid
        assert await change(session_id=session_id, auth_user_id=ann.id, scopes={"x"})
        assert (await world.tokens.explain_token(success.token)).scopes == {"x"}  # type: ignore[union-attr]  # valid

    async def test_a_change_of_scopes_must_name_a_session_or_a_user(self, world: World) -> None:
        with pytest.raises(InvalidArgumentError, match="session_id, auth_user_id or both"):
            await world.sessions.update_scopes(scopes={"a"})
        with pytest.raises(InvalidArgumentError, match="scopes must be given"):
            await world.sessions.update_scopes(scopes=None, auth_user_id="y")


class TestDeadlines:
    async def test_an_explicit_deadline_wins_over_the_default_lifetime(self, new_world: NewWorld) -> None:
        world = await new_world(default_session_lifetime=timedelta(days=30))
        user, now = await world.user(), await world.now()
        by_default = await world.sign_in(user)
        assert by_default.token_expires_at == now + timedelta(days=30)
        explicit = await world.sign_in(user, expires_at=now + timedelta(days=1))
        assert explicit.token_expires_at == now + timedelta(days=1)

    async def test_without_lifetime_a_token_has_no_deadline(self, world: World) -> None:
        assert (await world.sign_in(await world.user())).token_expires_at is None

    async def test_a_session_is_valid_until_the_microsecond_of_its_deadline(self, world: World) -> None:
        deadline = await world.now() + 10 * SECOND
        success = await world.sign_in(await world.user(), expires_at=deadline)
        await world.harness.advance(10 * SECOND - MICROSECOND)
        assert await world.is_valid(success)
        await world.harness.advance(MICROSECOND)
        assert await world.tokens.explain_token(success.token) is TokenRefusal.EXPIRED

    async def test_each_use_starts_the_inactivity_timeout_again(self, new_world: NewWorld) -> None:
        world = await new_world(default_session_inactivity_timeout=MINUTE)
        success = await world.sign_in(await world.user())
        for _ in range(5):
            await world.harness.advance(59 * SECOND)
            assert await world.is_valid(success)
            await world.sessions.flush()
        await world.harness.advance(MINUTE)
        assert await world.tokens.explain_token(success.token) is TokenRefusal.INACTIVE

    async def test_an_explicit_inactivity_timeout_wins_over_the_default(self, new_world: NewWorld) -> None:
        world = await new_world(default_session_inactivity_timeout=MINUTE)
        success = await world.sign_in(await world.user(), expire_after_unused_for=SECOND)
        await world.harness.advance(SECOND)
        assert not await world.is_valid(success)

    async def test_a_timeout_of_one_second_keeps_an_active_user_in(self, new_world: NewWorld) -> None:
        """Near the deadline the use is written before the answer, without waiting for the channel."""
        world = await new_world(default_session_inactivity_timeout=SECOND)
        success = await world.sign_in(await world.user())
        for _ in range(10):
            await world.harness.advance(timedelta(milliseconds=950))
            assert await world.is_valid(success)
        await world.harness.advance(SECOND)
        assert not await world.is_valid(success)

    async def test_a_use_is_written_once_a_minute_at_most(self, world: World) -> None:
        success = await world.sign_in(await world.user())
        first = await world.row(success)
        await world.harness.advance(MINUTE - MICROSECOND)
        assert await world.is_valid(success)
        await world.sessions.flush()
        assert await world.row(success) == first
        await world.harness.advance(MICROSECOND)
        assert await world.is_valid(success)
        await world.sessions.flush()
        later = await world.row(success)
        assert first is not None
        assert later is not None
        assert later.last_used_at_us == first.last_used_at_us + 60_000_000

    async def test_only_the_holder_of_the_secret_learns_that_a_session_has_expired(self, world: World) -> None:
        success = await world.sign_in(await world.user(), expires_at=await world.now() + SECOND)
        await world.harness.advance(SECOND)
        forged = format_token(success.server_side_session_id, bytes(32))
        assert await world.tokens.explain_token(forged) is TokenRefusal.WRONG_SECRET
        assert await world.tokens.explain_token(success.token) is TokenRefusal.EXPIRED

    async def test_a_clock_that_jumps_ahead_and_back_does_not_extend_a_session(self, new_world: NewWorld) -> None:
        world = await new_world(default_session_inactivity_timeout=10 * MINUTE)
        success = await world.sign_in(await world.user())
        await world.harness.advance(5 * MINUTE)
        assert await world.is_valid(success)
        await world.sessions.flush()
        await world.harness.advance(-4 * MINUTE)  # the clock is set back: the last use is now four minutes ahead
        assert await world.is_valid(success)
        await world.sessions.flush()
        await world.harness.advance(10 * MINUTE)
        assert await world.tokens.explain_token(success.token) is TokenRefusal.INACTIVE

    @pytest.mark.parametrize("wrong", [datetime(2030, 1, 1), "tomorrow", 5])  # noqa: DTZ001 (naive on purpose)
    async def test_a_deadline_without_time_zone_is_a_clear_error(self, world: World, wrong: object) -> None:
        user = await world.user()
        with pytest.raises(InvalidArgumentError, match="expires_at must be a datetime with a time zone"):
            await world.sign_in(user, expires_at=wrong)

    @pytest.mark.parametrize(
        "wrong", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)], ids=["the last", "the first"]
    )
    async def test_a_deadline_at_the_ends_of_time_is_a_clear_error(self, world: World, wrong: datetime) -> None:
        user = await world.user()
        with pytest.raises(InvalidArgumentError, match="expires_at must lie between the years 1970 and 9998"):
            await world.sign_in(user, expires_at=wrong)

    @pytest.mark.parametrize("wrong", [timedelta(0), timedelta(days=4000), 60])
    async def test_an_inactivity_timeout_outside_the_limits_is_a_clear_error(self, world: World, wrong: object) -> None:
        user = await world.user()
        with pytest.raises((InvalidArgumentError, ConfigurationError), match="expire_after_unused_for must be"):
            await world.sign_in(user, expire_after_unused_for=wrong)


class TestSigningIn:
    async def test_a_blocked_user_may_not_sign_in(self, world: World) -> None:
        user = await world.user(blocked=True)
        with pytest.raises(UserBlockedError):
            await world.sign_in(user)
        assert len(await world.sessions.list_sessions(user.id)) == 0

    async def test_a_trusted_caller_may_skip_the_check(self, world: World) -> None:
        user = await world.user(blocked=True)
        assert await world.is_valid(await world.sign_in(user, skip_user_blocked_check=True))

    async def test_an_unknown_user_is_not_found(self, world: World) -> None:
        with pytest.raises(UserNotFoundError, match="no-such-user"):
            await world.sessions.create_session("no-such-user", method="email")

    @pytest.mark.parametrize("wrong", ["", "x" * 256, "a\nb", 7])
    async def test_a_method_that_is_not_allowed_is_a_clear_error(self, world: World, wrong: object) -> None:
        user = await world.user()
        with pytest.raises(InvalidArgumentError, match="method must be text of 1 to 255"):
            await world.sign_in(user, method=wrong)

    @pytest.mark.parametrize("wrong", ["", "x" * 256, "a\x00b", 7, None])
    async def test_a_user_id_that_is_not_allowed_is_a_clear_error(self, world: World, wrong: object) -> None:
        with pytest.raises(InvalidArgumentError, match="auth_user_id"):
            await world.sessions.create_session(wrong, method="email")  # type: ignore[arg-type]  # the point of the test

    async def test_the_secret_has_the_configured_length(self, new_world: NewWorld) -> None:
        world = await new_world(session_key_secret_length=64, session_key_hash_salt_length=8)
        success = await world.sign_in(await world.user())
        parsed, row = parse_token(success.token), await world.row(success)
        assert parsed is not None
        assert row is not None
        assert (len(parsed.secret), len(row.key.salt)) == (64, 8)
        # Tokens of another length stay good when the setting changes.
        assert await (await new_world(session_key_secret_length=16)).is_valid(success)

    @WITH_TRANSACTIONS
    async def test_the_hook_runs_inside_the_inserting_transaction(self, new_world: NewWorld) -> None:
        seen: list[tuple[UserId, SessionId, int]] = []

        async def look(user_id: UserId, session_id: SessionId, connection: AsyncConnection) -> None:
            found = await connection.execute(
                text("SELECT count(*) FROM coatcheck_sessions WHERE user_id = :id"), {"id": user_id}
            )
            seen.append((user_id, session_id, found.scalar_one()))

        world = await new_world(on_session_created=look)
        success = await world.sign_in(await world.user())
        assert seen == [(success.auth_user_id, success.server_side_session_id, 1)]

    @WITH_TRANSACTIONS
    async def test_if_the_hook_raises_there_is_no_session_and_its_error_arrives(self, new_world: NewWorld) -> None:
        async def refuse(_user: UserId, _session: SessionId, _connection: AsyncConnection) -> None:
            raise OSError("the application's own, not the store's")

        world = await new_world(on_session_created=refuse)
        user = await world.user()
        with pytest.raises(OSError, match="the application's own"):
            await world.sign_in(user)
        assert len(await world.sessions.list_sessions(user.id)) == 0

    @WITH_TRANSACTIONS
    async def test_a_session_of_a_transaction_that_rolls_back_does_not_exist(self, world: World) -> None:
        user = await world.user()
        made: list[AuthSuccess] = []
        with pytest.raises(ZeroDivisionError):
            async with world.store.transaction() as transaction:
                made.append(await world.sign_in(user, transaction=transaction))
                raise ZeroDivisionError
        assert not await world.is_valid(made[0])

    @WITH_TRANSACTIONS
    async def test_signing_up_and_in_commit_together(self, world: World) -> None:
        async with world.store.transaction() as transaction:
            user = await world.user("a", transaction=transaction)
            success = await world.sign_in(user, transaction=transaction)
            assert not await world.is_valid(success)
        assert await world.is_valid(success)

    async def test_no_two_sessions_share_a_hash_or_a_salt(self, world: World) -> None:
        user = await world.user()
        rows = [await world.row(await world.sign_in(user)) for _ in range(20)]
        assert len({row.key.hash for row in rows if row}) == 20
        assert len({row.key.salt for row in rows if row}) == 20

    async def test_the_store_holds_no_part_of_a_token(self, world: World) -> None:
        success = await world.sign_in(await world.user())
        parsed, row = parse_token(success.token), await world.row(success)
        assert parsed is not None
        assert row is not None
        assert parsed.secret not in row.key.hash + row.key.salt
        assert success.token not in repr(row)

    @WITH_TRANSACTIONS
    async def test_a_traceback_with_local_variables_shows_no_secret(
        self, world: World, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[bytes] = []

        def remember(length: int) -> bytes:
            made.append(os.urandom(length))
            return made[-1]

        async def fail(_user: UserId, _session: SessionId, _connection: AsyncConnection) -> None:
            raise ZeroDivisionError

        failing = await new_world(on_session_created=fail)
        user = await world.user()
        monkeypatch.setattr("coatcheck.sessions.creation.secrets.token_bytes", remember)
        with pytest.raises(ZeroDivisionError) as caught:
            await failing.sign_in(user)
        below_this_test = caught.value.with_traceback(caught.tb.tb_next)
        shown = "".join(traceback.TracebackException.from_exception(below_this_test, capture_locals=True).format())
        assert "secret = Secret(...)" in shown
        for secret in made:
            assert repr(bytes(secret)) not in shown
        assert PEPPER not in shown

    @WITH_TRANSACTIONS
    async def test_neither_logs_nor_errors_show_a_token_or_a_hash(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        user = await world.user()
        with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="sqlalchemy.engine"):
            success = await world.sign_in(user)
            assert await world.is_valid(success)
            row = await world.row(success)
            assert row is not None
            again = NewSession(row.id, row.user_id, "email", frozenset(), False, None, None, None, row.key)
            with pytest.raises(StoreUnavailable) as caught:  # the id is taken, which never happens to us
                await world.store.insert_session(again, expected_revocations=0, expected_rescopes=None)
            assert await world.sessions.revoke_session(row.id)
        told = caplog.text + repr(caught.value) + str(caught.value.__cause__)
        assert "INSERT INTO coatcheck_sessions" in told
        for secret in (
            str(success.token),
            repr(bytes(row.key.hash))[2:20],
            row.key.hash.hex(),
            repr(bytes(row.key.salt))[2:-1],
        ):
            assert secret not in told

    async def test_a_token_has_no_repr(self, world: World) -> None:
        success = await world.sign_in(await world.user())
        assert str(success.token) not in repr(success) + repr(success.token) + str(success)
        assert f"Bearer {success.token}".startswith("Bearer c2Fz")


class TestListing:
    async def test_filters_combine_and_none_lists_everyone(self, world: World) -> None:
        ann, bob = await world.user(), await world.user()
        await world.sign_in(ann)
        await world.sign_in(ann, method="google")
        await world.sign_in(ann, method="google", expires_at=await world.now() + SECOND)
        await world.sign_in(bob, method="google")
        await world.harness.advance(SECOND)
        listing = world.sessions.list_sessions
        assert len(await listing()) == 4
        assert len(await listing(ann.id)) == 3
        assert len(await listing(method="google")) == 3
        assert len(await listing(ann.id, method="google")) == 2
        assert len(await listing(ann.id, method="google", expired=False)) == 1
        assert len(await listing(expired=True)) == 1
        assert len(await listing(bob.id, expired=True)) == 0

    async def test_expired_is_filtered_before_the_limit(self, world: World) -> None:
        user = await world.user()
        soon = await world.now() + SECOND
        for _ in range(5):
            await world.sign_in(user, expires_at=soon)
        live = await world.sign_in(user)
        await world.harness.advance(SECOND)
        page = await world.sessions.list_sessions(user.id, expired=False, limit=1)
        assert [session.id for session in page] == [live.server_side_session_id]
        assert page.next_after is None

    async def test_pages_follow_each_other_without_gap_or_repeat(self, world: World) -> None:
        user = await world.user()
        made = sorted([(await world.sign_in(user)).server_side_session_id for _ in range(7)])
        seen, after, pages = [], None, 0
        while True:
            page = await world.sessions.list_sessions(user.id, limit=3, after=after)
            seen += [session.id for session in page]
            pages, after = pages + 1, page.next_after
            if after is None:
                break
        assert (seen, pages) == (made, 3)

    @pytest.mark.parametrize("limit", [0, -1, 1001, True, "10"])
    async def test_a_limit_outside_one_to_a_thousand_is_a_clear_error(self, world: World, limit: object) -> None:
        with pytest.raises(InvalidArgumentError, match="limit must be a whole number from 1 to 1000"):
            await world.sessions.list_sessions(limit=limit)  # type: ignore[arg-type]  # the point of the test

    async def test_a_foreign_continuation_is_a_clear_error(self, world: World) -> None:
        with pytest.raises(InvalidArgumentError, match="next_after"):
            await world.sessions.list_sessions(after="page 2")

    async def test_one_session_can_be_read_by_its_user_only(self, world: World) -> None:
        ann, bob = await world.user(), await world.user()
        session_id = (await world.sign_in(ann)).server_side_session_id
        found = await world.sessions.get_session(session_id, auth_user_id=ann.id)
        assert found is not None
        assert (found.id, found.user_id) == (session_id, ann.id)
        assert await world.sessions.get_session(session_id) == found
        assert await world.sessions.get_session(session_id, auth_user_id=bob.id) is None
        assert await world.sessions.get_session(unknown_id()) is None

    async def test_a_listing_has_its_times_in_utc(self, world: World) -> None:
        now = await world.now()
        await world.sign_in(await world.user(), expires_at=now + MINUTE, expire_after_unused_for=2 * SECOND)
        (session,) = await world.sessions.list_sessions()
        assert (session.created_at, session.last_used_at, session.expires_at) == (now, now, now + MINUTE)
        assert session.created_at.tzinfo is UTC
        assert session.expire_after_unused_for == 2 * SECOND
        assert session.follows_user


class TestRevoking:
    async def test_revoking_a_session_ends_it_and_no_other_and_is_announced(self, world: World) -> None:
        user = await world.user()
        one, other = await world.sign_in(user), await world.sign_in(user)
        assert await world.sessions.revoke_session(one.server_side_session_id)
        assert not await world.is_valid(one)
        assert await world.is_valid(other)
        assert world.heard == [RevokedAuthenticationAuthId(user.id, one.server_side_session_id)]

    async def test_revoking_a_missing_session_returns_false_and_announces_nothing(self, world: World) -> None:
        success = await world.sign_in(await world.user())
        assert await world.sessions.revoke_session(success.server_side_session_id)
        assert not await world.sessions.revoke_session(success.server_side_session_id)
        assert not await world.sessions.revoke_session(unknown_id())
        assert len(world.heard) == 1

    async def test_a_call_for_one_user_does_not_end_another_users_session(self, world: World) -> None:
        ann, bob = await world.user(), await world.user()
        success = await world.sign_in(ann)
        assert not await world.sessions.revoke_session(success.server_side_session_id, auth_user_id=bob.id)
        assert await world.is_valid(success)
        assert await world.sessions.revoke_session(success.server_side_session_id, auth_user_id=ann.id)

    async def test_revoking_all_sessions_of_a_user_ends_them_and_is_announced(self, world: World) -> None:
        ann, bob = await world.user(), await world.user()
        anns = [await world.sign_in(ann) for _ in range(3)]
        bobs = await world.sign_in(bob)
        ended = await world.sessions.revoke_all_sessions(ann.id)
        assert set(ended) == {success.server_side_session_id for success in anns}
        assert [await world.is_valid(success) for success in anns] == [False] * 3
        assert await world.is_valid(bobs)
        assert world.heard == [RevokedAuthenticationUser(ann.id)]

    async def test_revoking_by_method_leaves_other_methods(self, world: World) -> None:
        """Serverpod's `revokeAllSessions` ignores the method."""
        user = await world.user()
        email, google = await world.sign_in(user), await world.sign_in(user, method="google")
        assert await world.sessions.revoke_all_sessions(user.id, method="google") == (google.server_side_session_id,)
        assert await world.is_valid(email)
        assert not await world.is_valid(google)
        assert world.heard == [RevokedAuthenticationAuthId(user.id, google.server_side_session_id)]

    async def test_revoking_all_sessions_but_one_keeps_that_one(self, world: World) -> None:
        user = await world.user()
        this, other = await world.sign_in(user), await world.sign_in(user)
        ended = await world.sessions.revoke_all_sessions(user.id, except_session_id=this.server_side_session_id)
        assert ended == (other.server_side_session_id,)
        assert await world.is_valid(this)
        assert not await world.is_valid(other)
        with pytest.raises(InvalidArgumentError, match="except_session_id"):
            await world.sessions.revoke_all_sessions(user.id, except_session_id="this")
        assert await world.is_valid(this)

    @WITH_TRANSACTIONS
    async def test_a_revocation_of_a_transaction_that_rolls_back_did_not_happen(self, world: World) -> None:
        user = await world.user()
        success = await world.sign_in(user)
        with pytest.raises(ZeroDivisionError):
            async with world.store.transaction() as transaction:
                assert await world.sessions.revoke_session(success.server_side_session_id, transaction=transaction)
                assert await world.sessions.revoke_all_sessions(user.id, transaction=transaction) == ()
                raise ZeroDivisionError
        assert await world.is_valid(success)
        assert world.heard == []

    async def test_deleting_without_a_filter_is_an_error(self, world: World) -> None:
        success = await world.sign_in(await world.user())
        with pytest.raises(InvalidArgumentError, match="at least one"):
            await world.sessions.admin.delete_sessions()
        assert await world.is_valid(success)

    async def test_an_operator_deletes_by_any_combination_and_this_process_hears_of_it(self, world: World) -> None:
        ann, bob = await world.user(), await world.user()
        first = await world.sign_in(ann)
        second = await world.sign_in(ann, method="google")
        third = await world.sign_in(bob, method="google")
        delete = world.sessions.admin.delete_sessions
        assert await delete(auth_user_id=bob.id, method="email") == ()
        assert await delete(session_id=first.server_side_session_id, auth_user_id=bob.id) == ()
        (gone,) = await delete(auth_user_id=ann.id, method="google")
        assert (gone.user_id, gone.session_id) == (ann.id, second.server_side_session_id)
        (gone,) = await delete(session_id=first.server_side_session_id)
        assert gone.user_id == ann.id
        assert len(await delete(method="google")) == 1
        assert not await world.is_valid(third)
        assert world.heard == [
            RevokedAuthenticationAuthId(success.auth_user_id, success.server_side_session_id)
            for success in (second, first, third)
        ]

    async def test_a_deletion_that_an_outage_stops_half_way_is_indeterminate(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`StoreUnavailable` means that no session has ended. Here one chunk has, and its ids are not returned."""
        user = await world.user()
        for _ in range(2):
            await world.sign_in(user)
        delete_a_chunk, chunks = world.store.delete_sessions, 0

        async def failing(which: SessionFilter, *, limit: int | None = None) -> Change:
            nonlocal chunks
            chunks += 1
            if chunks == 1:
                return await delete_a_chunk(which, limit=limit)
            async with world.harness.outage():
                return await delete_a_chunk(which, limit=limit)

        monkeypatch.setattr("coatcheck.sessions.admin._DELETE_CHUNK", 1)
        monkeypatch.setattr(world.store, "delete_sessions", failing)
        with pytest.raises(RevocationIndeterminate, match="failed after 1 sessions"):
            await world.sessions.admin.delete_sessions(method="email")
        assert len(await world.sessions.list_sessions()) == 1


class TestPruning:
    @pytest.mark.parametrize(
        ("expired", "inactive", "left"),
        [
            (True, True, {"live"}),
            (True, False, {"live", "idle"}),
            (False, True, {"live", "old"}),
            (False, False, {"live", "old", "idle"}),
        ],
    )
    async def test_sessions_past_a_deadline_are_pruned_and_each_kind_can_be_kept(
        self, world: World, *, expired: bool, inactive: bool, left: set[str]
    ) -> None:
        user, soon = await world.user(), await world.now() + SECOND
        await world.sign_in(user, method="live", expires_at=soon + MINUTE, expire_after_unused_for=2 * MINUTE)
        await world.sign_in(user, method="old", expires_at=soon)
        await world.sign_in(user, method="idle", expire_after_unused_for=SECOND)
        await world.harness.advance(SECOND)
        deleted = await world.sessions.admin.delete_expired_sessions(expired=expired, inactive=inactive)
        assert {session.method for session in await world.sessions.list_sessions()} == left
        assert deleted == 3 - len(left)

    async def test_pruning_in_small_chunks_prunes_every_session(self, world: World) -> None:
        user, soon = await world.user(), await world.now() + SECOND
        for number in range(10):
            await world.sign_in(user, expires_at=soon if number % 2 else None, expire_after_unused_for=SECOND)
        live = await world.sign_in(user)
        await world.harness.advance(SECOND)
        assert await world.sessions.admin.delete_expired_sessions(chunk_size=3) == 10
        assert [session.id for session in await world.sessions.list_sessions()] == [live.server_side_session_id]

    async def test_an_operator_sees_a_rotation_finish(self, world: World, new_world: NewWorld) -> None:
        success = await world.sign_in(await world.user())
        rotated = await new_world(session_key_hash_pepper=OTHER_PEPPER, fallback_session_key_hash_peppers=[PEPPER])
        before = await rotated.sessions.admin.pepper_usage()
        assert [(usage.role, usage.sessions) for usage in before] == [("primary", 0), ("fallback", 1)]
        assert await rotated.is_valid(success)
        await rotated.sessions.flush()
        after = await rotated.sessions.admin.pepper_usage()
        assert [(usage.role, usage.sessions) for usage in after] == [("primary", 1), ("fallback", 0)]
        assert [(usage.role, usage.sessions) for usage in await world.sessions.admin.pepper_usage()] == [
            ("primary", 0),
            ("unknown", 1),
        ]
