"""The token is equal to Serverpod's byte for byte, and is accepted in one spelling only."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coatcheck.errors import InvalidArgumentError
from coatcheck.identifiers import (
    SHARDS,
    SessionId,
    UserId,
    new_session_id,
    session_id_to_bytes,
    shard_of_session,
    shard_of_user,
)
from coatcheck.token_format import format_token, parse_token, session_id_in
from tests.vectors import VECTORS, Vector

ADA = UserId("ada")
A_TOKEN = VECTORS[0].token


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_a_token_is_written_as_serverpod_writes_it(vector: Vector) -> None:
    assert format_token(vector.session_id, vector.secret) == vector.token


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_a_token_of_serverpod_is_read(vector: Vector) -> None:
    parsed = parse_token(vector.token)
    assert parsed is not None
    assert parsed.session_id == vector.session_id
    assert parsed.secret == vector.secret


def test_a_token_with_the_default_secret_has_68_characters_and_no_padding() -> None:
    token = format_token(new_session_id(ADA), bytes(32))
    assert len(token) == 68
    assert token.startswith("c2Fz")
    assert "=" not in token


def test_new_session_ids_are_uuids_of_version_7_in_canonical_form() -> None:
    ids = {new_session_id(ADA) for _ in range(1000)}
    assert len(ids) == 1000
    for session_id in ids:
        assert session_id[14] == "7"
        assert session_id[19] in "89ab"
        assert session_id == session_id.lower()


def test_new_session_ids_sort_by_the_millisecond_they_were_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1_000_000, 2_000_000, 1_800_000_000_000_000_000])
    monkeypatch.setattr("coatcheck.identifiers.time.time_ns", lambda: next(moments))
    first, second, third = new_session_id(ADA), new_session_id(ADA), new_session_id(ADA)
    assert first < second < third
    assert int.from_bytes(session_id_to_bytes(third)[:6], "big") == 1_800_000_000_000


@given(secret=st.binary(min_size=16, max_size=1024))
@example(secret=bytes(16))
@example(secret=b"\xff" * 1024)
def test_every_allowed_secret_makes_a_token_that_is_read_back(secret: bytes) -> None:
    session_id = new_session_id(ADA)
    assert parse_token(format_token(session_id, secret)) == (session_id, secret)


@given(position=st.integers(0, len(A_TOKEN) - 1), character=st.characters())
def test_no_other_text_is_read_as_the_same_token(position: int, character: str) -> None:
    mutated = A_TOKEN[:position] + character + A_TOKEN[position + 1 :]
    parsed = parse_token(mutated)
    if mutated != A_TOKEN and parsed is not None:
        original = parse_token(A_TOKEN)
        assert parsed != original


@given(st.text())
def test_no_text_makes_the_parser_raise(text: str) -> None:
    assert parse_token(text) is None


NOT_TOKENS = {
    "empty": "",
    "one character": "c",
    "prefix only": "c2Fz",
    "a megabyte": "c2Fz" + "A" * 1_000_000,
    "truncated": A_TOKEN[:-1],
    "truncated by a group": VECTORS[0].token[:40],
    "wrong prefix": base64.urlsafe_b64encode(b"sax" + bytes(48)).decode(),
    "standard alphabet": base64.b64encode(b"sas" + b"\xfb\xff" * 24).decode(),
    "padding added": A_TOKEN + "=",
    "padding group added": A_TOKEN + "====",
    "padding missing": VECTORS[4].token.rstrip("="),
    "padding in the middle": A_TOKEN[:8] + "=" + A_TOKEN[9:],
    "bits after the last byte": VECTORS[4].token[:-2] + "B=",
    "line feed at the end": A_TOKEN + "\n",
    "line feed inside": A_TOKEN[:10] + "\n" + A_TOKEN[10:],
    "space before": " " + A_TOKEN,
    "control byte": A_TOKEN[:10] + "\x00" + A_TOKEN[11:],
    "full-width letters": "\uff43\uff12\uff26\uff5a" + A_TOKEN[4:],
    "a letter outside ASCII": A_TOKEN[:-1] + "é",
    "a lone surrogate": A_TOKEN[:-1] + "\ud800",
    "a secret of 15 bytes": base64.urlsafe_b64encode(b"sas" + bytes(16 + 15)).decode(),
    "a secret of 1025 bytes": base64.urlsafe_b64encode(b"sas" + bytes(16 + 1025)).decode(),
    "the id alone": str(new_session_id(ADA)),
}


@pytest.mark.parametrize("text", NOT_TOKENS.values(), ids=NOT_TOKENS.keys())
def test_a_text_that_is_not_a_token_is_refused(text: str) -> None:
    assert parse_token(text) is None


@pytest.mark.parametrize("value", [None, b"c2Fz", 7, ["c2Fz"], {"$gt": ""}])
def test_a_value_that_is_not_text_is_refused(value: object) -> None:
    assert parse_token(value) is None  # type: ignore[arg-type]  # the point of the test


def test_the_session_id_is_read_from_a_token() -> None:
    assert session_id_in(VECTORS[0].token) == VECTORS[0].session_id


@pytest.mark.parametrize(("text", "says"), [("", "cookie mode"), ("eyJhbGciOiJIUzI1NiJ9.e30.x", "not a server-side")])
def test_a_token_without_session_id_is_a_clear_error(text: str, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        session_id_in(text)


def test_the_parts_of_a_token_do_not_show_the_secret() -> None:
    parsed = parse_token(A_TOKEN)
    assert parsed is not None
    assert repr(parsed) == f"ParsedToken(session_id={SessionId(VECTORS[0].session_id)!r})"


@given(user=st.text(st.characters(codec="utf-8"), min_size=1, max_size=255))
def test_a_session_id_says_which_shard_its_user_is_in(user: str) -> None:
    """A store keeps all sessions of a user together, and finds each by its id alone."""
    assert shard_of_session(new_session_id(UserId(user))) == shard_of_user(UserId(user))


def test_the_shard_of_a_user_never_changes() -> None:
    """The shard is part of ids that databases already contain."""
    assert [shard_of_user(UserId(user)) for user in ("ada", "bob", "zo\u00eb")] == ["3c", "79", "e2"]


def test_users_spread_over_all_shards() -> None:
    assert {shard_of_user(UserId(f"user {number}")) for number in range(5000)} == set(SHARDS)
