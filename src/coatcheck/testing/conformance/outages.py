"""A store that cannot answer says so, on every call; afterwards the same data is there."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import StoreUnavailable
from coatcheck.scope import scope_set
from coatcheck.stores.records import Rehash, SessionFilter, SessionUse
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.samples import (
    ADA,
    BOB,
    SECOND_US,
    key_of,
    new_session,
    numbered_id,
    read,
    read_together,
    read_user_present,
    sign_in,
    unknown_id,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

_ID = numbered_id(1)

CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "read_session": lambda store: store.read_session(_ID),
    "read_session, many": lambda store: read_together(store, [_ID, unknown_id()]),
    "touch_sessions": lambda store: store.touch_sessions([SessionUse(_ID, 0)]),
    "rehash_sessions": lambda store: store.rehash_sessions([Rehash(_ID, key_of("secret"), key_of("new"))]),
    "read_user": lambda store: store.read_user(ADA),
    "insert_session": lambda store: store.insert_session(new_session(), expected_revocations=0, expected_rescopes=None),
    "insert_session, application's user": lambda store: store.insert_session(
        new_session(), expected_revocations=0, expected_rescopes=0, user_scopes=frozenset()
    ),
    "delete_sessions": lambda store: store.delete_sessions(SessionFilter(session_id=_ID)),
    "delete_sessions, limited": lambda store: store.delete_sessions(SessionFilter(), limit=10),
    "end_user_sessions": lambda store: store.end_user_sessions(ADA),
    "set_session_scopes": lambda store: store.set_session_scopes(_ID, frozenset()),
    "set_session_scopes, following": lambda store: store.set_session_scopes(_ID, None),
    "set_user_scopes": lambda store: store.set_user_scopes(ADA, frozenset()),
    "list_sessions": lambda store: store.list_sessions(SessionFilter()),
    "prune_expired": lambda store: store.prune_expired(10),
    "prune_idle": lambda store: store.prune_idle(None, 10),
    "guarantee": lambda store: store.guarantee(),
    "try_lock": lambda store: store.try_lock("prune", "me", timedelta(seconds=1)),
    "count_by_pepper": lambda store: store.count_by_pepper(),
    "insert_user": lambda store: store.insert_user(BOB, scopes=frozenset(), blocked=False),
    "list_users": lambda store: store.list_users(),
    "update_user": lambda store: store.update_user(ADA, scopes=scope_set({"b"})),
    "update_user, blocking": lambda store: store.update_user(ADA, blocked=True),
    "delete_user": lambda store: store.delete_user(ADA),
}


class OutagePromises(Promises):
    """A store that cannot answer signs nobody out."""

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_a_store_that_cannot_answer_says_so_and_has_done_nothing(
        self, harness: StoreHarness, store: Store, call: Callable[[Store], Awaitable[object]]
    ) -> None:
        session = await sign_in(
            store, id=_ID, scopes={"a"}, lifetime_us=SECOND_US, expire_after_unused_for_us=SECOND_US
        )
        await harness.advance(timedelta(seconds=2))  # so that there is something to prune, too
        user = await read_user_present(store)

        async with harness.outage():
            with pytest.raises(StoreUnavailable):
                await call(store)

        assert await read(store, _ID) == session
        assert await store.read_user(ADA) == user
        assert await store.read_user(BOB) is None
        page = await store.list_sessions(SessionFilter())
        assert [reading.session for reading in page] == [session]

    async def test_after_an_outage_every_call_works_again(self, harness: StoreHarness, store: Store) -> None:
        await sign_in(store, id=_ID)
        async with harness.outage():
            for call in CALLS.values():
                with pytest.raises(StoreUnavailable):
                    await call(store)
        for call in CALLS.values():
            await call(store)

    async def test_a_store_that_was_not_used_during_an_outage_does_not_notice_it(
        self, harness: StoreHarness, store: Store
    ) -> None:
        session = await sign_in(store, id=_ID)
        for _ in range(3):
            async with harness.outage():
                pass
            assert await read(store, _ID) == session
            assert await store.touch_sessions([SessionUse(_ID, 0)]) == {_ID}
            assert len(await store.list_sessions(SessionFilter())) == 1
            await store.end_user_sessions(BOB)

    async def test_messages_of_an_outage_hold_no_secrets(self, harness: StoreHarness, store: Store) -> None:
        """A caller may log the message: it has no hash, salt or pepper."""
        session = await sign_in(store, id=_ID, key=key_of("top-secret"))
        async with harness.outage():
            for call in CALLS.values():
                with pytest.raises(StoreUnavailable) as raised:
                    await call(store)
                assert "top-secret" not in str(raised.value)
                assert repr(session.key.hash) not in str(raised.value)

    async def test_a_call_inside_a_transaction_says_so_too(self, harness: StoreHarness, held: Store) -> None:
        await sign_in(held, id=_ID)
        with pytest.raises(StoreUnavailable):
            async with harness.outage(), held.transaction() as transaction:
                await held.end_user_sessions(ADA, transaction=transaction)
        assert await read(held, _ID) is not None
