"""The answer to a sign-in is read as it was written, and no other body is accepted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import AuthSuccess, InvalidArgumentError, Token, UserId
from coatcheck.scope import scope_set
from coatcheck.wire import auth_success_json, auth_success_of

SECRET = "c2Fzecret"
BODY: dict[str, object] = {
    "auth_strategy": "session",
    "token": SECRET,
    "token_expires_at": "2026-12-01T00:00:00.000001Z",
    "auth_user_id": "ada",
    "scope_names": ["notes:read", "notes:write"],
}


def test_the_body_has_five_members_with_sorted_scopes_and_a_time_in_utc() -> None:
    expires_at = datetime(2026, 12, 1, 0, 0, 0, 1, tzinfo=UTC)
    success = AuthSuccess("session", Token(SECRET), expires_at, UserId("ada"), scope_set({"notes:write", "notes:read"}))
    assert auth_success_json(success) == BODY
    assert auth_success_of(BODY) == success


@given(
    st.from_regex(r"[!-~]{0,60}", fullmatch=True),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.sets(st.sampled_from(["a", "notes:read", "x.y"])),
)
def test_every_field_is_read_back_as_it_was_written(token: str, expires_at: datetime | None, scopes: set[str]) -> None:
    """Every field is read back."""
    success = AuthSuccess("session", Token(token), expires_at, UserId("ada"), scope_set(scopes))
    assert auth_success_of(json.loads(json.dumps(auth_success_json(success)))) == success


def test_cookie_mode_has_an_empty_token() -> None:
    assert auth_success_of({**BODY, "token": ""}).token == ""


def test_unknown_members_and_another_spelling_of_utc_are_accepted() -> None:
    success = auth_success_of({**BODY, "more": 1, "token_expires_at": "2026-12-01T00:00:00+00:00"})
    assert success.token_expires_at == datetime(2026, 12, 1, tzinfo=timezone(timedelta(0)))


@pytest.mark.parametrize("name", ["auth_strategy", "token", "auth_user_id", "scope_names"])
def test_a_member_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=name) as refusal:
        auth_success_of({key: value for key, value in BODY.items() if key != name})
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": 5},
        {"token": None},
        {"token": SECRET + "\n"},
        {"token": SECRET + "ö"},
        {"auth_user_id": ""},
        {"auth_user_id": 7},
        {"scope_names": "notes:read"},
        {"scope_names": [1]},
        {"scope_names": ["a b"]},
        {"token_expires_at": 1_700_000_000},
        {"token_expires_at": "tomorrow"},
        {"token_expires_at": "2026-12-01T00:00:00"},
        {"token_expires_at": "2026-12-01T00:00:00+01:00"},
    ],
)
def test_a_member_that_is_wrong_is_refused_without_showing_the_token(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        auth_success_of({**BODY, **wrong})
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("value", [None, [], "session", 1, [["token", SECRET]]])
def test_a_body_that_is_not_an_object_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match="JSON object"):
        auth_success_of(value)
