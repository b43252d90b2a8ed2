"""A session is read as it was inserted: every field, every id in its place, by every store on the same data."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import pytest

from coatcheck.clock import MAX_TIME_US
from coatcheck.errors import CoatcheckError, NotOpenError
from coatcheck.identifiers import UserId
from coatcheck.stores.guarantee import GuaranteeLevel
from coatcheck.stores.records import KeyHash, SessionFilter, SessionRecord
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.samples import (
    ADA,
    BOB,
    SECOND_US,
    insert,
    key_of,
    new_session,
    numbered_id,
    read,
    read_present,
    read_together,
    read_user_present,
    register,
    sign_in,
    unknown_id,
)

if TYPE_CHECKING:
    from coatcheck.stores.records import NewSession
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

_TEN_YEARS_US = 10 * 365 * 86_400 * SECOND_US

SESSIONS = {
    "nothing optional": new_session(),
    "everything optional": new_session(
        scopes={"notes:read", "notes:write"},
        expires_at_us=2_000_000_000 * SECOND_US + 123_457,
        expire_after_unused_for_us=SECOND_US + 1,
    ),
    "the longest times": new_session(
        expires_at_us=4_000_000_000 * SECOND_US + 999_999, expire_after_unused_for_us=_TEN_YEARS_US - 1
    ),
    "the latest deadline there is": new_session(expires_at_us=MAX_TIME_US),
    "the earliest deadline there is": new_session(expires_at_us=0),
    "the shortest user id": new_session(UserId("0")),
    "a user id of 255 characters beyond the basic plane": new_session(UserId("\U0001f9e5" * 255)),
    "a user id with quotes, percent signs and spaces": new_session(UserId(' o\'neil "%s" %(x)s :y ? $1 \\ ')),
    "a user id that looks like a number": new_session(UserId("007")),
    "a user id that is a UUID": new_session(UserId("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")),
    "a method in many scripts": new_session(method="e-mail/почта/電子/\U0001f9e5/o'neil"),
    "a method that is empty": new_session(method=""),
    "every character a scope may have": new_session(
        scopes={"".join(map(chr, (0x21, *range(0x23, 0x5C), *range(0x5D, 0x7F)))), "a,b", "[]", "null", "a" * 255}
    ),
    "many scopes": new_session(scopes={f"scope:{number}" for number in range(500)}),
    "every byte in hash and salt": new_session(key=KeyHash(bytes(range(64)), bytes(range(256)), "p")),
    "a hash of the superseded form": new_session(key=KeyHash(b"\0" * 64, b"", None)),
    "a writer that did not name its pepper": new_session(key=key_of("x", pepper_id=None)),
    "a pepper's name in many scripts": new_session(key=key_of("x", pepper_id="Pfeffer-ü-胡椒")),
}


class ReadingPromises(Promises):
    """Inserting and reading single sessions and batches."""

    @pytest.mark.parametrize("session", SESSIONS.values(), ids=SESSIONS.keys())
    async def test_an_inserted_session_is_read_back_field_by_field(
        self, harness: StoreHarness, store: Store, session: NewSession
    ) -> None:
        """A user id is any text of 1 to 255 characters."""
        await register(store, session.user_id)
        now_us = await harness.now_us()

        inserted = await insert(store, session)

        assert inserted == SessionRecord(
            id=session.id,
            user_id=session.user_id,
            method=session.method,
            scopes=session.scopes,
            follows_user=session.follows_user,
            created_at_us=now_us,
            last_used_at_us=now_us,
            expires_at_us=session.expires_at_us,
            expire_after_unused_for_us=session.expire_after_unused_for_us,
            key=session.key,
        )
        assert await read(store, session.id) == inserted
        (listed,) = await store.list_sessions(SessionFilter(user_id=session.user_id))
        assert listed.session == inserted

    async def test_a_session_that_follows_its_user_says_so(self, store: Store) -> None:
        await register(store, scopes={"notes:read"})
        following = await insert(store, new_session(scopes={"notes:read"}, follows_user=True))
        assert following.follows_user is True
        assert await read(store, following.id) == following

    async def test_times_are_kept_to_the_microsecond(self, harness: StoreHarness, store: Store) -> None:
        await harness.set_clock_us(await harness.now_us() // SECOND_US * SECOND_US + 999_999)
        session = await sign_in(store)
        assert session.created_at_us % SECOND_US == 999_999
        assert await read(store, session.id) == session

    async def test_a_lifetime_counts_from_the_insertion_on_the_stores_clock(
        self, harness: StoreHarness, store: Store
    ) -> None:
        session = await sign_in(store, lifetime_us=3600 * SECOND_US + 1)
        assert session.expires_at_us == await harness.now_us() + 3600 * SECOND_US + 1
        assert await read(store, session.id) == session

    async def test_an_explicit_deadline_wins_over_a_lifetime(self, harness: StoreHarness, store: Store) -> None:
        at_us = await harness.now_us() + 5
        session = await sign_in(store, expires_at_us=at_us, lifetime_us=3600 * SECOND_US)
        assert session.expires_at_us == at_us

    async def test_a_session_without_deadlines_has_none(self, store: Store) -> None:
        session = await read_present(store, (await sign_in(store)).id)
        assert (session.expires_at_us, session.expire_after_unused_for_us) == (None, None)

    async def test_ids_are_answered_in_their_places_with_gaps_and_repeats(self, store: Store) -> None:
        first, second, third = [(await sign_in(store, id=numbered_id(number))).id for number in (1, 2, 3)]
        unknown = unknown_id()

        asked = [third, unknown, first, first, second, unknown, third]
        answers = await read_together(store, asked)

        assert [answer and answer.id for answer in answers] == [
            third, None, first, first, second, None, third,
        ]  # fmt: skip

    async def test_a_thousand_reads_at_once_are_answered(self, store: Store) -> None:
        here = await sign_in(store)
        asked = [unknown_id() for _ in range(999)]
        answers = await read_together(store, [*asked, here.id])
        assert [answer is not None for answer in answers] == [False] * 999 + [True]

    async def test_an_unknown_id_is_no_session(self, store: Store) -> None:
        assert await store.read_session(unknown_id()) is None

    async def test_a_reading_carries_the_stores_clock(self, harness: StoreHarness, store: Store) -> None:
        session = await sign_in(store)
        now_us = await harness.now_us() + 17
        await harness.set_clock_us(now_us)
        one, two = await read_together(store, [session.id, session.id])
        assert [reading and reading.now_us for reading in (one, two)] == [now_us] * 2

    async def test_expired_sessions_are_handed_out_too(self, harness: StoreHarness, store: Store) -> None:
        """The reader judges deadlines, after it has checked the secret."""
        session = await sign_in(store, expires_at_us=await harness.now_us(), expire_after_unused_for_us=1)
        await harness.set_clock_us(await harness.now_us() + SECOND_US)
        assert await read(store, session.id) == session

    async def test_an_id_that_is_taken_is_refused_and_the_session_stays_as_it_was(self, store: Store) -> None:
        session = await sign_in(store, scopes={"notes:read"})
        await register(store, BOB)
        with pytest.raises(CoatcheckError):
            await insert(store, new_session(BOB, id=session.id, scopes={"admin"}))
        assert await read(store, session.id) == session

    async def test_two_sessions_may_have_the_same_hash(self, store: Store) -> None:
        first, second = await sign_in(store, key=key_of("same")), await sign_in(store, key=key_of("same"))
        assert await read(store, first.id) == first
        assert await read(store, second.id) == second

    async def test_user_ids_are_compared_exactly(self, store: Store) -> None:
        """Case, accents, spaces and Unicode forms tell users apart."""
        composed, decomposed = (unicodedata.normalize(form, "zoë") for form in ("NFC", "NFD"))
        ids = [UserId(text) for text in ("zoe", "Zoe", "zoe ", " zoe", "ZOE", composed, decomposed, "zoe%", "zo_")]
        sessions = {user_id: await sign_in(store, user_id) for user_id in ids}
        for user_id, session in sessions.items():
            page = await store.list_sessions(SessionFilter(user_id=user_id))
            assert [reading.session for reading in page] == [session]
            assert (await read_user_present(store, user_id)).id == user_id

    async def test_methods_are_compared_exactly(self, store: Store) -> None:
        sessions = {method: await sign_in(store, method=method) for method in ("email", "Email", "email ", "", "e%")}
        for method, session in sessions.items():
            page = await store.list_sessions(SessionFilter(method=method))
            assert [reading.session for reading in page] == [session]


class GuaranteePromises(Promises):
    """`guarantee`."""

    async def test_it_says_in_words_what_it_can_promise(self, store: Store) -> None:
        guarantee = await store.guarantee()
        assert guarantee.level in GuaranteeLevel
        assert (guarantee.level is GuaranteeLevel.STRICT) == (guarantee.reasons == ())
        assert all(sentence.endswith(".") for sentence in (*guarantee.reasons, *guarantee.conditions))
        assert guarantee.settings


class SharedDataPromises(Promises):
    """Several store objects on the same data, and their lifespan."""

    async def test_a_write_of_one_store_is_read_by_every_other_at_once(self, store: Store, other: Store) -> None:
        for writer, reader in ((store, other), (other, store)):
            session = await sign_in(writer)
            assert await read(reader, session.id) == session
            await writer.delete_sessions(SessionFilter(session_id=session.id))
            assert await read(reader, session.id) is None

    async def test_data_outlives_the_store_that_wrote_it(self, harness: StoreHarness, store: Store) -> None:
        passing = await harness.second_store()
        session = await sign_in(passing)
        await passing.close()
        assert await read(store, session.id) == session
        assert await read(await harness.second_store(), session.id) == session

    async def test_opening_twice_and_closing_twice_do_nothing(self, harness: StoreHarness) -> None:
        store = await harness.second_store()
        session = await sign_in(store)
        await store.open()
        assert await read(store, session.id) == session
        async with harness.outage():
            await store.open()
        assert await read(store, session.id) == session
        await store.close()
        await store.close()

    async def test_a_store_can_be_opened_again_after_it_was_closed(self, harness: StoreHarness) -> None:
        store = await harness.second_store()
        session = await sign_in(store)
        await store.close()
        await store.open()
        assert await read(store, session.id) == session
        assert await store.touch_sessions([]) == frozenset()

    async def test_a_closed_store_says_that_it_is_not_open(self, harness: StoreHarness) -> None:
        store = await harness.second_store()
        await store.close()
        with pytest.raises(NotOpenError):
            await store.read_session(unknown_id())
        with pytest.raises(NotOpenError):
            await store.touch_sessions([])
        with pytest.raises(NotOpenError):
            await store.end_user_sessions(ADA)
        with pytest.raises(NotOpenError):
            await store.list_sessions(SessionFilter())
