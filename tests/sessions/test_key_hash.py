"""Hashes are equal to Serverpod's byte for byte, and nothing else matches."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.sessions.key_hash import KeyHasher, Match, Pepper
from coatcheck.stores.records import KeyHash
from tests.vectors import VECTORS, Vector

SECRET = bytes(range(32))


def hasher(*peppers: str, salt_length: int = 16) -> KeyHasher:
    primary, *fallbacks = map(Pepper, peppers or ("a pepper of thirty-two bytes ok!",))
    return KeyHasher(primary, fallbacks, salt_length=salt_length)


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_a_hash_is_made_as_serverpod_makes_it(vector: Vector) -> None:
    stored = KeyHash(b"", vector.salt, None)
    assert hasher(vector.pepper).rehash(vector.secret, stored).hash == vector.hash


@pytest.mark.parametrize("vector", VECTORS, ids=str)
@pytest.mark.parametrize("legacy", [False, True], ids=["current", "legacy"])
def test_a_hash_of_serverpod_is_accepted(vector: Vector, *, legacy: bool) -> None:
    stored = KeyHash(vector.legacy_hash if legacy else vector.hash, vector.salt, None)
    match = hasher(vector.pepper).check(vector.secret, stored)
    assert match is Match.OUTDATED  # the row names no pepper yet, or has a hash of the old scheme
    assert hasher(vector.pepper).check(vector.secret[:-1] + b"?", stored) is None
    assert hasher(vector.pepper + "?").check(vector.secret, stored) is None


def test_a_legacy_hash_is_rewritten_in_the_current_scheme_with_its_salt() -> None:
    vector = VECTORS[0]
    stored = KeyHash(vector.legacy_hash, vector.salt, None)
    rewritten = hasher(vector.pepper).rehash(vector.secret, stored)
    assert rewritten == KeyHash(vector.hash, vector.salt, Pepper(vector.pepper).id)


@pytest.mark.parametrize("length", [0, 1, 32, 63, 66, 128])
def test_a_hash_of_any_other_length_is_refused(length: int) -> None:
    assert hasher().check(SECRET, KeyHash(bytes(length), bytes(16), None)) is None


@pytest.mark.parametrize("version", [0, 2, 255])
def test_a_hash_of_another_version_is_refused(version: int) -> None:
    good = hasher().hash(SECRET)
    assert hasher().check(SECRET, KeyHash(bytes([version]) + good.hash[1:], good.salt, good.pepper_id)) is None


def test_only_a_known_scheme_under_a_named_and_configured_pepper_tells_that_a_secret_is_wrong() -> None:
    ours = hasher()
    key = ours.hash(SECRET)
    legacy = KeyHash(ours.primary.digest(SECRET), key.salt, key.pepper_id)
    assert [ours.can_check(one) for one in (key, legacy)] == [True, True]
    for unknown in (b"", b"\x02" + key.hash[1:], key.hash + b"?"):
        assert not ours.can_check(KeyHash(unknown, key.salt, key.pepper_id))
    assert not ours.can_check(KeyHash(key.hash, key.salt, None))
    assert not hasher("another pepper of enough characters").can_check(key)


def test_the_same_secret_is_never_hashed_alike() -> None:
    first, second = hasher().hash(SECRET), hasher().hash(SECRET)
    assert first.hash != second.hash
    assert hasher().check(SECRET, KeyHash(first.hash, second.salt, first.pepper_id)) is None


@pytest.mark.parametrize("length", [8, 16, 1024])
def test_salts_have_the_configured_length(length: int) -> None:
    assert len(hasher(salt_length=length).hash(SECRET).salt) == length


def test_an_earlier_pepper_is_accepted_at_any_position_and_asks_for_a_rehash() -> None:
    old = hasher("pepper one pepper one").hash(SECRET)
    for order in (["two" * 5, "pepper one pepper one"], ["two" * 5, "three" * 5, "pepper one pepper one"]):
        assert hasher(*order).check(SECRET, old) is Match.OUTDATED


def test_a_pepper_that_is_no_longer_configured_matches_nothing() -> None:
    assert hasher("two" * 5).check(SECRET, hasher("one" * 5).hash(SECRET)) is None


def test_a_row_that_names_the_wrong_pepper_does_not_match_under_another() -> None:
    stored = hasher("one" * 5).hash(SECRET)
    mislabelled = KeyHash(stored.hash, stored.salt, Pepper("two" * 5).id)
    assert hasher("one" * 5, "two" * 5).check(SECRET, mislabelled) is None


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_stored_bytes_make_the_check_raise(stored_hash: bytes, salt: bytes) -> None:
    assert hasher().check(SECRET, KeyHash(stored_hash, salt, None)) is None


def test_a_pepper_cannot_be_printed_or_pickled() -> None:
    pepper = Pepper("do not show me, I am a pepper")
    assert "show" not in f"{pepper} {pepper!r}"
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(pepper)


def test_a_stored_hash_has_no_repr() -> None:
    stored = hasher().hash(SECRET)
    assert repr(stored) == f"KeyHash(pepper_id={stored.pepper_id!r})"
