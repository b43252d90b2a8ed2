"""A session is packed into one value and back without loss; a damaged value is not taken for a session."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.client_info import UNKNOWN_CLIENT, ClientInfo
from coatcheck.clock import MAX_TIME_US
from coatcheck.identifiers import UserId, new_session_id
from coatcheck.scope import scope_set
from coatcheck.stores.records import KeyHash, NewSession
from coatcheck.stores.redis.packing import DamagedError, listed_of, pack, packed_key, reading_of, scopes_of
from coatcheck.stores.scope_text import encode_scopes
from coatcheck.testing.samples import ADA, key_of, new_session

TEXT = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=255)
PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40)
TIME = st.none() | st.integers(0, MAX_TIME_US)
KEYS = st.builds(KeyHash, st.binary(max_size=65), st.binary(max_size=300), st.none() | st.text("abc-1", max_size=64))
CLIENTS = st.just(UNKNOWN_CLIENT) | st.builds(
    ClientInfo, label=st.none() | PRINTABLE, user_agent=st.none() | PRINTABLE, ip_address=st.none() | PRINTABLE
)
SCOPES = st.frozensets(st.text("ab:z!~", min_size=1, max_size=20), max_size=5).map(scope_set)


@st.composite
def sessions(draw: st.DrawFn) -> NewSession:
    user = UserId(draw(TEXT))
    return NewSession(
        new_session_id(user),
        user,
        draw(TEXT),
        draw(SCOPES),
        draw(st.booleans()),
        draw(TIME),
        None,
        draw(TIME),
        draw(KEYS),
        draw(CLIENTS),
    )


@given(sessions())
def test_every_field_comes_back_as_it_was(new: NewSession) -> None:
    value = pack(new)
    listed = listed_of(new.id, value)
    session = listed.session
    assert (session.id, session.user_id, session.method) == (new.id, new.user_id, new.method)
    assert (session.scopes, session.follows_user) == (new.scopes, new.follows_user)
    assert (session.expires_at_us, session.expire_after_unused_for_us) == (
        new.expires_at_us,
        new.expire_after_unused_for_us,
    )
    assert (session.key, listed.client) == (new.key, new.client)
    assert scopes_of(value) == encode_scopes(new.scopes).encode()


@given(sessions(), st.integers(0, MAX_TIME_US))
def test_a_validation_reads_the_same_as_a_list(new: NewSession, now_us: int) -> None:
    value = pack(new)
    reading, session = reading_of(new.id, value, now_us), listed_of(new.id, value).session
    assert reading == (
        *(session.id, session.user_id, session.scopes, session.last_used_at_us),
        *(session.expires_at_us, session.expire_after_unused_for_us, session.key, now_us),
    )


@given(sessions())
def test_a_hash_is_found_where_a_script_replaces_it(new: NewSession) -> None:
    value = pack(new)
    lengths, key = packed_key(new.key)
    assert value[34:40] == lengths  # 46 bytes of head; the last twelve are the six lengths
    assert value[46 : 46 + len(key)] == key


@given(sessions(), st.data())
def test_a_truncated_value_is_damaged(new: NewSession, data: st.DataObject) -> None:
    value = pack(new)
    size = data.draw(st.integers(0, len(value) - 1))
    cut = value[:size]
    if size < len(value) - len(scopes_of(value)):
        with pytest.raises(DamagedError):
            reading_of(new.id, cut, 0)
    else:  # nothing is missing but scopes
        assert reading_of(new.id, cut, 0).scopes is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_a_session_or_as_damaged(value: bytes) -> None:
    session_id = new_session_id(ADA)
    with suppress(DamagedError):
        listed_of(session_id, value)
    with suppress(DamagedError):
        reading_of(session_id, value, 0)


def test_a_value_of_an_unknown_version_is_damaged() -> None:
    value = pack(new_session())
    with pytest.raises(DamagedError):
        reading_of(new_session_id(ADA), b"\x02" + value[1:], 0)


@pytest.mark.parametrize("field", ["user", "pepper"])
def test_the_error_for_bytes_that_are_not_text_does_not_repeat_them(field: str) -> None:
    value = pack(new_session(UserId("someone"), key=key_of("geheim", pepper_id="pepper-9")))
    damaged = value.replace(b"someone" if field == "user" else b"pepper-9", b"\xff" * (7 if field == "user" else 8))
    with pytest.raises(DamagedError) as caught:
        reading_of(new_session_id(ADA), damaged, 0)
    assert caught.value.__suppress_context__


def test_a_damaged_client_counts_as_unknown() -> None:
    value = pack(new_session(client=ClientInfo(label="Firefox")))
    for other in (b'{"label":"Firef\xff"', b'{"label":""}      ', b'{"lobel":"Firefox"}'):
        damaged = value.replace(b'{"label":"Firefox"}', other.ljust(19))
        assert listed_of(new_session_id(ADA), damaged).client == UNKNOWN_CLIENT
